export { type BackupManifest, backup } from './backup.ts'
export type { Finding } from './finding.ts'
export {
  type PurgeParts,
  planPurge,
  planWorkspacePurge,
  purgeDocument,
  purgeWorkspace,
  rewriteTables,
} from './purge.ts'
export { restore } from './restore.ts'
export { type VerifyOptions, type VerifyReport, verify } from './verify.ts'
