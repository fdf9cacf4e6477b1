import type { Run, RunManifest, RunState } from '@pluto-duck/crdt-model/protocol'
import type { ColumnType, Generated } from 'kysely'
import type { Time } from '../database/tables.ts'

interface Runs {
  workspace_id: string
  id: string
  pipeline_id: string
  version: number | null
  heads: string[]
  trigger: Run['trigger']
  schedule_id: string | null
  due_at: Time | null
  fencing_token: number | null
  device_id: string
  run_by: string
  created_at: Time
  state: RunState
  cause: Run['cause']
  failed_step: string | null
  started_at: Time | null
  finished_at: Time | null
  manifest: ColumnType<RunManifest | null, string | null, string | null>
  log_bytes: ColumnType<number, number | undefined, number>
  /** Its workspace was purged: its log and manifest are gone, and it takes no more. */
  purged: Generated<boolean>
}
interface RunLogChunks {
  run_id: string
  start: number
  lines: string
}

export interface RunTables {
  runs: Runs
  run_log_chunks: RunLogChunks
}
