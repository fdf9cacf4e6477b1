export type { Finding } from './finding.ts'
export { type VerifyOptions, type VerifyReport, verify } from './verify.ts'
