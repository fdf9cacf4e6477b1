import type { Overdue } from '@pluto-duck/crdt-model/protocol'
import { type Kysely, sql } from 'kysely'
import type { Database } from '../database/index.ts'
import type { ScheduleRow } from './occurrences.ts'
import { firstMissed } from './plan.ts'

interface Taken {
  id: string
  /** The newest occurrence that an agent has, had to the end, or began; of a claim that ran out nobody knows. */
  due_at: Date | null
  /** Its agent is there and has not finished: what comes meanwhile waits for it. */
  busy: boolean
  published: boolean
}

/**
 * By schedule what is missed now, worked out at the moment of asking: so it is told as well when no agent ever asked what is due, and
 * no occurrence has a row. Nothing is written.
 */
export const overdueOf = async (
  db: Kysely<Database>,
  workspaceId: string,
  schedules: readonly ScheduleRow[],
  now: Date,
): Promise<Map<string, Overdue>> => {
  const { rows } = await sql<Taken>`
    select s.id, taken.due_at, coalesce(taken.lease_until > ${now} and taken.state in ('claimed', 'started'), false) as busy,
      s.version is not null or p.current is not null as published
    from schedules s
    left join pipelines p on p.id = s.pipeline_id
    left join lateral (
      select due_at, state, lease_until from occurrences o
      where o.schedule_id = s.id and agent_id is not null and (state <> 'claimed' or lease_until > ${now})
      order by due_at desc limit 1
    ) taken on true
    where s.workspace_id = ${workspaceId} and s.enabled`.execute(db)
  const takenOf = new Map(rows.map(row => [row.id, row]))
  return new Map(
    schedules.flatMap(schedule => {
      const taken = takenOf.get(schedule.id)
      if (!taken || taken.busy) return []
      const since = firstMissed(schedule, latest(schedule.since, taken.due_at), now)
      if (!since) return []
      return [[schedule.id, { since: since.toISOString(), reason: reasonOf(schedule, taken) }]]
    }),
  )
}

const latest = (one: Date, other: Date | null): Date => (other !== null && other > one ? other : one)

const reasonOf = ({ agents }: ScheduleRow, { published }: Taken): string => {
  if (!published) return 'no version is published'
  return agents.length === 0 ? 'no agent took it' : 'no agent of its list took it'
}
