export type { SyncNews, SyncOptions, SyncStatus } from './options.ts'
export { fetchRecords } from './records.ts'
export { Sync } from './sync.ts'
export {
  type Answer,
  type CallInput,
  type CallOptions,
  WireClient,
  type WireClientOptions,
} from './wire-client.ts'
