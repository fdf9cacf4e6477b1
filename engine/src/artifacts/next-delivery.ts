import { artifactKind, hash, id, runState } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'
import { errorBody } from '../contract/index.ts'
import { isOver, type RunRecord } from '../runs/run-record.ts'

/** A file that a run made to be shared. */
export const outgoing = z.strictObject({
  artifact_id: id,
  kind: artifactKind,
  name: z.string(),
  path: z.string(),
  content_type: z.string(),
  bytes: z.number().int().nonnegative(),
  sha256: hash,
  state: z.enum(['waiting', 'done', 'refused']),
})
export type Outgoing = z.infer<typeof outgoing>

/** How much of a run the server has. Durable: it says what is still to be done after a crash or a time offline. */
export const delivery = z.strictObject({
  run_id: id,
  workspace_id: id,
  /** The state in which the server has the run; null before it has it. */
  recorded: runState.nullable(),
  /** Bytes of the log that the server has. */
  log_offset: z.number().int().nonnegative(),
  artifacts: z.array(outgoing),
  /** `refused`: the server will not have it, and the run stays on this machine. */
  state: z.enum(['active', 'done', 'refused']),
  /** Why it waits or was refused. */
  error: errorBody.nullable(),
})
export type Delivery = z.infer<typeof delivery>

export type DeliveryAction =
  | { readonly do: 'create' }
  | { readonly do: 'transition'; readonly to: RunRecord['state'] }
  | { readonly do: 'log' }
  | { readonly do: 'artifact'; readonly artifact: Outgoing }
  | { readonly do: 'finish' }

/**
 * The next thing to tell the server about a run, or null while there is nothing. Every action may be repeated: the server takes
 * the same again as the same.
 */
export function nextDelivery(run: RunRecord, sent: Delivery, logBytes: number): DeliveryAction | null {
  if (sent.state !== 'active') return null
  if (sent.recorded === null) return { do: 'create' }
  if (sent.recorded === 'pending' && run.started_at !== null) return { do: 'transition', to: 'running' }
  const over = isOver(run)
  if (over && sent.recorded !== run.state) return { do: 'transition', to: run.state }
  if (logBytes > sent.log_offset) return { do: 'log' }
  const artifact = sent.artifacts.find(one => one.state === 'waiting')
  if (artifact) return { do: 'artifact', artifact }
  return over ? { do: 'finish' } : null
}
