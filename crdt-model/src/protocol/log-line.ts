import { z } from 'zod'
import { id, timestamp } from './ids.ts'
import { cause } from './runs.ts'

/**
 * One line of a run's log as it leaves the machine. `message` is a template filled with names and numbers only: an engine's
 * own message can quote data, so it stays in the local private folder. Unknown fields are refused, so none slips out.
 */
export const logLine = z.strictObject({
  ts: timestamp,
  level: z.enum(['debug', 'info', 'warn', 'error']),
  run_id: id,
  trace_id: z.string().max(100),
  project_id: id,
  asset_id: z.string().max(200).nullable(),
  step: z.string().max(200).nullable(),
  attempt: z.number().int().nonnegative().nullable(),
  cause: cause.nullable(),
  message: z.string().max(2_000),
})
export type LogLine = z.infer<typeof logLine>
