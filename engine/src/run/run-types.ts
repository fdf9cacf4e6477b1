import type { Failure, Limits, RunnerPool } from '../runner/index.ts'
import type { Column, TestOutcome, Warehouse } from '../warehouse/index.ts'
import type { RunEvent, StepState } from './run-events.ts'

export interface RunSettings {
  readonly limits: Limits
  /** Steps that may run at the same time, in one runner that shares its memory and threads. */
  readonly parallel: number
  /** Seconds for one attempt of a step that sets no limit of its own. */
  readonly step_timeout_s: number
  /** Failing rows that a test keeps, at most, in `private/<run_id>/`. 0 keeps none. */
  readonly keep_failing_rows: number
}

/** Half of a small machine's memory, both of its threads, spill up to 20 GB. */
export const DEFAULT_SETTINGS: RunSettings = {
  limits: { memory_bytes: 4 * 2 ** 30, threads: 2, temp_bytes: 20 * 2 ** 30 },
  parallel: 2,
  step_timeout_s: 3600,
  keep_failing_rows: 100,
}

export interface RunParts {
  readonly warehouse: Warehouse
  readonly pool: RunnerPool
  /** `private/` of the data folder: failing rows go to `<privateDir>/<run_id>/<step>.<test>.parquet`. */
  readonly privateDir: string
  readonly settings: RunSettings
  readonly onEvent: (event: RunEvent) => void
  readonly signal?: AbortSignal | undefined
  readonly clock: { now(): number }
  /** False makes results without moving what is current: for previews. Default true. */
  readonly makeCurrent?: boolean
}

export interface StepOutcome {
  readonly step_id: string
  readonly name: string
  readonly state: Exclude<StepState, 'waiting' | 'running'>
  readonly fingerprint: string
  readonly attempts: number
  readonly duration_ms: number
  readonly columns: readonly Column[]
  /** Null for a view, and for a step that made nothing. */
  readonly rows: number | null
  readonly bytes: number | null
  readonly tests: readonly TestOutcome[]
  readonly error?: Failure
}

export interface RunOutcome {
  readonly state: 'success' | 'failed' | 'cancelled'
  readonly steps: readonly StepOutcome[]
  readonly duration_ms: number
  /** True when the results became current. A failed or cancelled run changes nothing that a reader sees. */
  readonly swapped: boolean
  /** The first cause. */
  readonly error?: Failure
}
