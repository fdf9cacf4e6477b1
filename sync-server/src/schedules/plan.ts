import { AppError } from '@pluto-duck/crdt-model/errors'
import { Cron } from 'croner'

/** Seconds that each further agent in the list waits for the ones before it. */
export const PREFERENCE_S = 60
/** With `skip` an occurrence may still start this long after its time: what comes later was missed. */
export const SKIP_GRACE_S = 300
/** Occurrences looked at in one go; more wait for the next look. */
const LIMIT = 2_000

export interface Timing {
  readonly cron: string
  readonly timezone: string
}
export interface Policy extends Timing {
  readonly missed: 'skip' | 'latest' | 'all'
  readonly window_s: number
}
export interface PlanInput extends Policy {
  /** Occurrences up to here are settled. Exclusive. */
  readonly after: Date
  readonly now: Date
  /** Those that have a row, by `getTime()`. */
  readonly known: ReadonlySet<number>
}
export interface Plan {
  /** May be taken now, earliest first. */
  readonly due: readonly Date[]
  /** Missed for good, with the reason to record. */
  readonly skipped: readonly { readonly at: Date; readonly reason: string }[]
  /** Everything up to here has been looked at. */
  readonly until: Date
}

/** Throws `schedule.invalid` for a pattern or time zone that cannot be read. */
export const parseTiming = ({ cron, timezone }: Timing): Cron => {
  try {
    // Five fields: the server looks at schedules by the minute.
    // Lists and ranges of hours and minutes name times of the day, as single ones do: each comes once on a day with a change of the clocks.
    const parsed = new Cron(cron, { timezone, mode: '5-part', fixedTimeRule: 'no-wildcard', paused: true })
    parsed.nextRun()
    return parsed
  } catch (cause) {
    throw new AppError('schedule.invalid', 'The cron expression or time zone cannot be read.', {
      hint: 'Give five fields such as `0 7 * * 1-5` and a time zone such as `Europe/Berlin`.',
      cause,
    })
  }
}

/** What is due and what was missed, from the pattern, the policy and what is known: nothing else, no clock, no database. */
export const plan = (input: PlanInput): Plan => {
  const { now, known, missed, window_s } = input
  const pattern = parseTiming(input)
  const times: Date[] = []
  for (
    let at = pattern.nextRun(input.after);
    at && at <= now && times.length < LIMIT;
    at = pattern.nextRun(at)
  ) {
    times.push(at)
  }
  const until = times.length === LIMIT ? (times.at(-1) as Date) : now
  const latest = times.at(-1)
  const oldest = now.getTime() - window_s * 1000
  const graceful = now.getTime() - Math.min(window_s, SKIP_GRACE_S) * 1000
  const due: Date[] = []
  const skipped: { at: Date; reason: string }[] = []
  for (const at of times) {
    if (known.has(at.getTime())) continue
    if (at.getTime() < oldest) skipped.push({ at, reason: 'no agent took it within the window' })
    else if (missed === 'skip' && at.getTime() < graceful) {
      skipped.push({ at, reason: 'no agent was there at its time' })
    } else if (missed === 'latest' && at !== latest) {
      skipped.push({ at, reason: 'a later occurrence came before an agent took it' })
    } else due.push(at)
  }
  return { due, skipped, until }
}

/**
 * The first occurrence after `after` when it counts as missed, as nobody took it: five minutes after its time, and a minute more for
 * each further agent that may wait for those before it. Null else.
 */
export const firstMissed = (
  schedule: Timing & { readonly agents: readonly string[] },
  after: Date,
  now: Date,
): Date | null => {
  const first = parseTiming(schedule).nextRun(after)
  const grace = SKIP_GRACE_S + Math.max(0, schedule.agents.length - 1) * PREFERENCE_S
  return first && first.getTime() + grace * 1000 < now.getTime() ? first : null
}

/** Whether a moment is an occurrence of the pattern. */
export const isOccurrence = (timing: Timing, at: Date): boolean =>
  parseTiming(timing)
    .nextRun(new Date(at.getTime() - 1000))
    ?.getTime() === at.getTime()

/** From when on an agent may take an occurrence, in seconds after its time; null when it never may. */
export const waitOf = (agents: readonly string[], agentId: string): number | null => {
  if (agents.length === 0) return 0
  const place = agents.indexOf(agentId)
  return place === -1 ? null : place * PREFERENCE_S
}
