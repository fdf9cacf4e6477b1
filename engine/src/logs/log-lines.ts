import { z } from 'zod'
import type { RunEvent } from '../run/index.ts'
import { ERROR_CLASSES } from '../runner/protocol.ts'

export const logLevel = z.enum(['debug', 'info', 'warn', 'error'])

/** One line of `{data_dir}/logs/{run_id}.jsonl`. It may leave this machine. */
export const logLine = z.strictObject({
  /** ISO 8601, UTC. */
  ts: z.string(),
  level: logLevel,
  run_id: z.string(),
  trace_id: z.string(),
  /** The workspace. */
  project_id: z.string(),
  /** The step's stable id; null for lines of the run itself. */
  asset_id: z.string().nullable(),
  step: z.string().nullable(),
  /** From 1; null where nothing was attempted. */
  attempt: z.number().int().nullable(),
  /** The class of what went wrong; null when nothing did. */
  cause: z.enum(ERROR_CLASSES).nullable(),
  /** A template of this program with counts and names from the definition: never an engine's words, never a value. */
  message: z.string(),
})
export type LogLine = z.infer<typeof logLine>

/** What stays here, in `{data_dir}/private/{run_id}.jsonl`: the engine's own words, which can quote data. */
export interface PrivateLine {
  readonly ts: string
  readonly run_id: string
  readonly step: string | null
  readonly message: string
  readonly engine: string | null
}

type Told = Pick<LogLine, 'level' | 'asset_id' | 'step' | 'attempt' | 'cause' | 'message'>

const CAUSES: Record<(typeof ERROR_CLASSES)[number], string> = {
  sql: 'the SQL engine refused it',
  data_test: 'a data test found failing rows',
  source: 'a source could not be read',
  permission: 'it reached for something that it may not touch',
  network: 'the network did not answer',
  resource: 'memory or disk ran out',
  timeout: 'it took longer than its time limit',
  cancelled: 'it was cancelled',
  internal: 'the program or its engine failed',
}

/** The public line of an event; null for what is not logged (progress). */
export function toldBy(event: RunEvent): Told | null {
  switch (event.type) {
    case 'progress':
      return null
    case 'run': {
      const took = event.duration_ms === undefined ? '' : ` after ${Math.round(event.duration_ms)} ms`
      const cause = event.error?.class ?? null
      const message = `Run ${event.state}${took}${cause ? `: ${CAUSES[cause]}` : ''}.`
      return { level: cause ? 'error' : 'info', asset_id: null, step: null, attempt: null, cause, message }
    }
    case 'test': {
      const level = event.state === 'passed' ? 'info' : event.severity === 'warn' ? 'warn' : 'error'
      const rows = event.state === 'failed' ? `: ${event.failing_rows ?? 0} failing rows` : ''
      return {
        level,
        asset_id: event.step_id,
        step: event.step,
        attempt: null,
        cause: event.state === 'passed' ? null : (event.error?.class ?? 'data_test'),
        message: `Test ${event.test} ${event.state}${rows}.`,
      }
    }
    case 'step': {
      const cause = event.error?.class ?? null
      return {
        level: event.state === 'failed' ? 'error' : 'info',
        asset_id: event.step_id,
        step: event.step,
        attempt: event.attempt > 0 ? event.attempt : null,
        cause,
        message: stepMessage(event, cause),
      }
    }
  }
}

function stepMessage(event: Extract<RunEvent, { type: 'step' }>, cause: LogLine['cause']): string {
  const rows = event.rows === undefined ? '' : `, ${event.rows} rows`
  const took = event.duration_ms === undefined ? '' : `, ${Math.round(event.duration_ms)} ms`
  const at = event.error?.position
  const place = at ? ` at line ${at.line}, column ${at.column}` : ''
  return `Step ${event.state}${rows}${took}${cause ? `: ${CAUSES[cause]}${place}` : ''}.`
}
