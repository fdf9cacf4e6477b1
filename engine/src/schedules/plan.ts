import { type AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import { id, type Occurrence, type RunState, timestamp } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'

/**
 * An occurrence that this machine took, as it is kept in the local state: what a restart needs to say truthfully what became of
 * it. The run's id is chosen with the claim, so a start that is repeated is the same run.
 */
export const claimRecord = z.strictObject({
  schedule_id: id,
  workspace_id: id,
  pipeline_id: id,
  version: z.number().int().positive(),
  due_at: timestamp,
  fencing_token: z.number().int().positive(),
  run_id: id,
  /** `started`: the server was told so, and nobody else takes it from then on. */
  state: z.enum(['claimed', 'started']),
  /** What became of it; kept until the server knows. */
  outcome: z
    .strictObject({ state: z.enum(['completed', 'skipped']), reason: z.string().max(500).nullable() })
    .nullable(),
})
export type Claim = z.infer<typeof claimRecord>
export type Outcome = NonNullable<Claim['outcome']>

/** What is known here of the run of a claim. */
export interface RunOf {
  readonly state: RunState
  readonly cause: string | null
}

export type Step =
  /** See whether it can run here, then say that it starts. */
  | { readonly do: 'announce' }
  | { readonly do: 'start' }
  | { readonly do: 'follow' }
  | { readonly do: 'conclude'; readonly outcome: Outcome }
  | { readonly do: 'tell'; readonly outcome: Outcome }

/** The next thing to do about a claim, from what is stored and nothing else: after a crash it goes on from there. */
export const nextStep = (claim: Claim, run: RunOf | null): Step => {
  if (claim.outcome) return { do: 'tell', outcome: claim.outcome }
  if (claim.state === 'claimed') return { do: 'announce' }
  if (run === null) return { do: 'start' }
  if (run.state === 'pending' || run.state === 'running') return { do: 'follow' }
  return { do: 'conclude', outcome: { state: 'completed', reason: wordsFor(run) } }
}

const wordsFor = ({ state, cause }: RunOf): string | null => {
  if (state === 'success') return null
  if (state === 'failed') return `The run failed (${cause ?? 'internal'}).`
  return state === 'cancelled' ? 'The run was cancelled.' : 'The run did nothing.'
}

export interface Choice {
  readonly due: readonly Occurrence[]
  readonly held: readonly Claim[]
  /** The open workspace; null when it is not on a server. */
  readonly workspaceId: string | null
  /** Is the pipeline on this machine yet? */
  readonly knows: (pipelineId: string) => boolean
}

/** Occurrences that one machine holds at the same time: others may have agents that are free. */
const AT_ONCE = 2

/** What to claim now: the earliest of each schedule, one at a time per schedule, few at a time in all. */
export const choose = ({ due, held, workspaceId, knows }: Choice): Occurrence[] => {
  const busy = new Set(held.map(claim => claim.schedule_id))
  const chosen: Occurrence[] = []
  for (const occurrence of due.toSorted((a, b) => a.due_at.localeCompare(b.due_at))) {
    if (held.length + chosen.length >= AT_ONCE) break
    const { schedule_id, workspace_id, pipeline_id } = occurrence
    if (workspace_id !== workspaceId || busy.has(schedule_id) || !knows(pipeline_id)) continue
    busy.add(schedule_id)
    chosen.push(occurrence)
  }
  return chosen
}

const POLL_MS = 30_000
const FIRST_PAUSE_MS = 5_000
const LONGEST_PAUSE_MS = 5 * 60_000

/** How long to wait before the next look; `random` (0 to 1) spreads agents, so that they don't ask in the same moment. */
export const pauseMs = (failures: number, random: number): number =>
  failures === 0
    ? POLL_MS * (1 - random / 10)
    : Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures - 1, 10)) * (1 - random / 2)

/** Answers that only say "not now". */
const AWAY = new Set([
  'server.unreachable',
  'auth.required',
  'auth.expired',
  'service.unavailable',
  'database.unavailable',
  'request.rate_limited',
])
const LOST = new Set(['schedule.lease', 'schedule.not_found', 'run.lease_lost'])

/** `lost`: the occurrence is not ours any more. `refused`: it stays so. */
export const judge = (thrown: unknown): { error: AppError; verdict: 'later' | 'lost' | 'refused' } => {
  const error = toAppError(thrown)
  if (LOST.has(error.code)) return { error, verdict: 'lost' }
  return { error, verdict: AWAY.has(error.code) ? 'later' : 'refused' }
}
