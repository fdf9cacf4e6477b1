import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import type { ParamValues } from '../compile/index.ts'

export interface ReportColumn {
  readonly name: string
  /** As DuckDB writes it. */
  readonly type: string
}

/** Rows of a block. Exact and JSON-safe: integers beyond 2^53, decimals, dates and the like are text. */
export interface ReportRows {
  readonly columns: readonly ReportColumn[]
  readonly rows: ReadonlyArray<readonly unknown[]>
  /** More rows follow. */
  readonly more: boolean
}

/** The results of exactly this run, read in the sandbox. Rejects with the runner's error. */
export interface ReportReader {
  query(sql: string, limit: number): Promise<ReportRows>
}

export interface ReportTest {
  readonly label: string
  readonly severity: 'warn' | 'error'
  readonly passed: boolean
  readonly failing_rows: number
}

export interface ReportStep {
  readonly name: string
  readonly state: string
  /** Null for a view. */
  readonly rows: number | null
  readonly duration_ms: number | null
  readonly tests: readonly ReportTest[]
}

/** What a report is pinned to. */
export interface ReportRun {
  readonly run_id: string
  readonly pipeline_id: string
  /** A version's number, or null for a draft. */
  readonly version: number | null
  /** Who published the version or runs the draft; null leaves it out. */
  readonly author: string | null
  /** ISO 8601, UTC. */
  readonly started_at: string
  readonly finished_at: string
  readonly steps: readonly ReportStep[]
}

export interface ReportInput {
  readonly definition: PipelineDefinition
  readonly params: ParamValues
  readonly run: ReportRun
  readonly reader: ReportReader
  /** Files go to `{dataDir}/reports/{run_id}/`. */
  readonly dataDir: string
  readonly clock: { now(): number }
  /** Aborting ends the report before any file of it is written. Default: none. */
  readonly signal?: AbortSignal
}

export interface WrittenReport {
  readonly folder: string
  readonly files: ReadonlyArray<{ readonly name: string; readonly bytes: number; readonly sha256: string }>
  /** Blocks that could not be shown; the report says so in their place. */
  readonly failures: ReadonlyArray<{
    readonly block: string
    readonly line: number
    readonly message: string
  }>
}
