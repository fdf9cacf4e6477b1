import { documentKind, id, role, subject, timestamp } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'

/** Automerge bytes cross the bridge as base64: JSON, SSE and Electron's IPC then carry the same thing. */
export const base64 = z.base64()

export const errorBody = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string(),
  details: z.record(z.string(), z.unknown()).optional(),
  request_id: z.string().optional(),
})

/**
 * The always visible sync state of the open workspace.
 * - `local`: never connected to a server; everything works on this machine.
 * - `in_sync`: everything stored, cursor at the server's seq, digests equal.
 * - `syncing`: connected, `waiting` changes are on their way.
 * - `idle`: connected, and nothing syncs by itself: a command that runs once syncs only when it is asked to.
 * - `offline`: the server can't be reached (or `paused` by the user); `waiting` changes are safe on this machine.
 * - `signed_out`: the session ended; sign in to go on.
 * - `needs_you`: something waits for a person: see `needs`.
 */
export const syncState = z.strictObject({
  state: z.enum(['local', 'in_sync', 'syncing', 'idle', 'offline', 'signed_out', 'needs_you']),
  waiting: z.number().int().nonnegative(),
  waiting_publishes: z.number().int().nonnegative(),
  paused: z.boolean(),
  seq: z.number().int().nonnegative(),
  last_synced_at: timestamp.nullable(),
  devices_online: z.number().int().nonnegative(),
  /** Why it is not in sync, when there is a reason. */
  error: errorBody.nullable(),
  needs: z.array(
    z.discriminatedUnion('kind', [
      z.strictObject({
        kind: z.literal('marks'),
        pipeline_id: id,
        pipeline: z.string(),
        steps: z.array(z.string()),
      }),
      z.strictObject({
        kind: z.literal('refused'),
        draft_id: id,
        document_id: id,
        title: z.string(),
        reason: z.string(),
      }),
      z.strictObject({
        kind: z.literal('publish'),
        pipeline_id: id,
        pipeline: z.string(),
        reason: z.string(),
      }),
      z.strictObject({ kind: z.literal('diverged'), document_id: id, title: z.string() }),
    ]),
  ),
})
export type SyncState = z.infer<typeof syncState>

export const problem = z.object({
  code: z.string(),
  message: z.string(),
  hint: z.string(),
  severity: z.enum(['error', 'warning']),
  file: z.string().nullable(),
  /** 1-based. */
  line: z.number().int().nullable(),
  column: z.number().int().nullable(),
  step_id: z.string().nullable(),
})
export type ContractProblem = z.infer<typeof problem>

export const column = z.strictObject({ name: z.string(), type: z.string() })

/** A page of rows. Cells are JSON: numbers that fit exactly, else text; null is NULL; blobs and nested values as DuckDB's text. */
export const rowsPage = z.strictObject({
  columns: z.array(column),
  rows: z.array(z.array(z.union([z.string(), z.number(), z.boolean(), z.null()]))),
  offset: z.number().int().nonnegative(),
  /** Rows of the whole result; null when not counted. */
  total: z.number().int().nonnegative().nullable(),
  duration_ms: z.number(),
})
export type RowsPage = z.infer<typeof rowsPage>

export const columnSummary = z.strictObject({
  name: z.string(),
  type: z.string(),
  nulls: z.number().int(),
  distinct: z.number().int(),
  min: z.string().nullable(),
  max: z.string().nullable(),
  /** Up to 20 equal-width bins for numbers and times, or the most frequent values for text. */
  bins: z.array(z.strictObject({ label: z.string(), count: z.number().int() })),
})

export const workspaceEntry = z.strictObject({
  workspace_id: id,
  name: z.string(),
  role,
  /** False for a workspace that lives on this machine only. */
  remote: z.boolean(),
  selected: z.boolean(),
})

export const documentEntry = z.strictObject({
  document_id: id,
  kind: documentKind,
  subject: subject.nullable(),
  title: z.string(),
})

export const pipelineEntry = z.strictObject({
  pipeline_id: id,
  name: z.string(),
  description: z.string(),
  tags: z.array(z.string()),
  /** Null until the pipeline was looked at: a list of thousands does not wait for all of them. */
  steps: z.number().int().nullable(),
  current_version: z.number().int().nullable(),
  /** Changes since the current version; null until the pipeline was looked at. */
  unpublished: z.number().int().nonnegative().nullable(),
  marks: z.number().int().nonnegative(),
  last_run: z.strictObject({ run_id: id, state: z.string(), finished_at: timestamp.nullable() }).nullable(),
  updated_at: timestamp,
  /** Why this machine cannot read the document; null when it can. Its bytes stay where they are. */
  unreadable: z.string().nullable(),
})
export type PipelineEntry = z.infer<typeof pipelineEntry>

export const mark = z.object({
  id: z.string(),
  kind: z.enum(['text', 'setting', 'deletion']),
  step_id: z.string().nullable(),
  /** What it is about in words the UI can show: `revenue: SQL`. */
  label: z.string(),
  field: z.string(),
  sides: z.array(z.object({ authors: z.array(z.string()), value: z.string().nullable() })),
  /** Somebody on this device has looked at it; it goes into the next publish. */
  reviewed: z.boolean(),
})
export type ContractMark = z.infer<typeof mark>

export const stepProgress = z.strictObject({
  step_id: z.string(),
  name: z.string(),
  state: z.enum(['waiting', 'running', 'testing', 'success', 'reused', 'failed', 'skipped', 'cancelled']),
  /** 0 to 100; null when DuckDB can't tell. */
  percent: z.number().nullable(),
  rows: z.number().int().nullable(),
  started_at: timestamp.nullable(),
  duration_ms: z.number().nullable(),
  cause: z.string().nullable(),
  /** The engine's own message: shown on this machine, never sent. */
  message: z.string().nullable(),
  /** Why it runs or is reused, in words. */
  reason: z.string().nullable(),
  tests: z.array(
    z.strictObject({
      id: z.string(),
      label: z.string(),
      severity: z.enum(['warn', 'error']),
      passed: z.boolean(),
      failing_rows: z.number().int(),
    }),
  ),
})
export type StepProgress = z.infer<typeof stepProgress>

export const runView = z.strictObject({
  run_id: id,
  pipeline_id: id,
  pipeline: z.string(),
  /** A version's number, or null for a draft. */
  version: z.number().int().nullable(),
  trigger: z.enum(['manual', 'schedule', 'replay']),
  state: z.enum(['pending', 'running', 'success', 'failed', 'skipped', 'cancelled']),
  cause: z.string().nullable(),
  failed_step: z.string().nullable(),
  run_by: z.string(),
  /** False for a run of a colleague, known from the server. */
  local: z.boolean(),
  created_at: timestamp,
  started_at: timestamp.nullable(),
  finished_at: timestamp.nullable(),
  steps: z.array(stepProgress),
  has_report: z.boolean(),
  /** Artifacts are sent after the run; a failed upload is retried and says why. */
  upload: z.strictObject({
    state: z.enum(['none', 'waiting', 'uploading', 'done', 'failed']),
    bytes: z.number().int(),
    total: z.number().int(),
    error: errorBody.nullable(),
  }),
})
export type RunView = z.infer<typeof runView>

export const logLine = z.object({
  ts: timestamp,
  level: z.enum(['debug', 'info', 'warn', 'error']),
  run_id: id,
  trace_id: z.string(),
  project_id: id,
  asset_id: z.string().nullable(),
  step: z.string().nullable(),
  attempt: z.number().int().nullable(),
  cause: z.string().nullable(),
  message: z.string(),
})
export type LogLine = z.infer<typeof logLine>
