import { cause, hash, id, runManifest, runState, timestamp } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'
import { stepProgress } from '../contract/index.ts'

/** An occurrence of a schedule that this machine holds, with the token that says so. */
const occurrenceHeld = z.strictObject({
  schedule_id: id,
  due_at: timestamp,
  fencing_token: z.number().int().positive(),
})
export type OccurrenceHeld = z.infer<typeof occurrenceHeld>

/**
 * A run as this machine keeps it, in `state.duckdb`. Holds no value of anybody's data: the engine's own messages, which can quote
 * one, are in `private/<run_id>/messages.json` and are put into the view when it is read.
 */
export const runRecord = z.strictObject({
  format: z.literal('pluto-run/1'),
  run_id: id,
  workspace_id: id,
  pipeline_id: id,
  pipeline: z.string(),
  version: z.number().int().positive().nullable(),
  heads: z.array(hash),
  trigger: z.enum(['manual', 'schedule', 'replay']),
  /** What a scheduled run was taken for; null for any other. */
  occurrence: occurrenceHeld.nullable().default(null),
  state: runState,
  cause: cause.nullable(),
  failed_step: z.string().nullable(),
  run_by: z.strictObject({ user_id: z.string(), name: z.string() }),
  device_id: id,
  created_at: timestamp,
  started_at: timestamp.nullable(),
  finished_at: timestamp.nullable(),
  steps: z.array(stepProgress.extend({ message: z.null() })),
  has_report: z.boolean(),
  manifest: runManifest.nullable(),
  /** The workspace is on a server, so the run is recorded there too. */
  remote: z.boolean(),
})
export type RunRecord = z.infer<typeof runRecord>

export const isOver = (record: Pick<RunRecord, 'state'>): boolean =>
  record.state !== 'pending' && record.state !== 'running'
