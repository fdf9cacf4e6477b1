export { fetchRecords } from './records.ts'
export { Sync, type SyncNews, type SyncOptions, type SyncStatus } from './sync.ts'
export {
  type Answer,
  type CallInput,
  type CallOptions,
  WireClient,
  type WireClientOptions,
} from './wire-client.ts'
