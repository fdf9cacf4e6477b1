import { AppError } from '@pluto-duck/crdt-model/errors'
import type { BodyOf, LastOccurrence, Occurrence, scheduleRoutes } from '@pluto-duck/crdt-model/protocol'
import { type Kysely, type Selectable, sql, type Transaction } from 'kysely'
import type { ServerContext } from '../app/context.ts'
import { type Database, transact } from '../database/index.ts'
import { isOccurrence, plan, waitOf } from './plan.ts'
import type { ScheduleTables } from './tables.ts'

export type ScheduleRow = Selectable<ScheduleTables['schedules']>
type OccurrenceRow = Selectable<ScheduleTables['occurrences']>

/** How long a claim holds without a heartbeat. */
export const LEASE_S = 120

const taken = (message: string): AppError => new AppError('schedule.lease', message)
const isLive = (row: OccurrenceRow, now: Date): boolean => row.lease_until !== null && row.lease_until > now

/**
 * What is due of a schedule; occurrences that were missed for good get their row here. The caller holds the schedule's lock.
 */
const settle = async (tx: Transaction<Database>, schedule: ScheduleRow, now: Date): Promise<Date[]> => {
  const after = schedule.since > schedule.settled_until ? schedule.since : schedule.settled_until
  const rows = await tx
    .selectFrom('occurrences')
    .selectAll()
    .where('schedule_id', '=', schedule.id)
    .where('due_at', '>', after)
    .execute()
  const live = rows.filter(row => row.state === 'claimed' && isLive(row, now))
  const known = rows.filter(row => row.state !== 'claimed').concat(live)
  const { due, skipped, until } = plan({
    ...schedule,
    after,
    now,
    known: new Set(known.map(row => row.due_at.getTime())),
  })
  for (const { at, reason } of skipped) {
    await sql`
      insert into occurrences (schedule_id, due_at, state, reason, updated_at)
      values (${schedule.id}, ${at}, 'skipped', ${reason}, ${now})
      on conflict (schedule_id, due_at) do update
        set state = 'skipped', reason = excluded.reason, agent_id = null, updated_at = excluded.updated_at
        where occurrences.state = 'claimed'`.execute(tx)
  }
  const open = [...due, ...live.map(row => row.due_at)].map(at => at.getTime())
  const settledUntil = open.length === 0 ? until : new Date(Math.min(...open) - 1)
  if (settledUntil > schedule.settled_until) {
    await tx
      .updateTable('schedules')
      .set({ settled_until: settledUntil })
      .where('id', '=', schedule.id)
      .execute()
  }
  return [...due]
}

/** What an agent may claim now, over all workspaces in which its user may run pipelines. */
export const dueFor = async (ctx: ServerContext, userId: string, agentId: string): Promise<Occurrence[]> => {
  const now = ctx.clock.now()
  const candidates = await ctx.db
    .selectFrom('schedules')
    .innerJoin('members', 'members.workspace_id', 'schedules.workspace_id')
    .select(['schedules.id'])
    .where('members.user_id', '=', userId)
    .where('members.role', 'in', ['owner', 'editor'])
    .where('schedules.enabled', '=', true)
    .orderBy('schedules.id')
    .execute()
  const found: Occurrence[] = []
  for (const { id } of candidates) {
    found.push(...(await transact(ctx.db, tx => dueOf(tx, id, agentId, now))))
  }
  return found
}

const dueOf = async (
  tx: Transaction<Database>,
  id: string,
  agentId: string,
  now: Date,
): Promise<Occurrence[]> => {
  const schedule = await lockSchedule(tx, id)
  if (!schedule?.enabled) return []
  const wait = waitOf(schedule.agents, agentId)
  const version = schedule.version ?? (await currentVersion(tx, schedule.pipeline_id))
  if (wait === null || version === null) return []
  const due = await settle(tx, schedule, now)
  return due
    .filter(at => at.getTime() + wait * 1000 <= now.getTime())
    .map(at => ({
      schedule_id: id,
      pipeline_id: schedule.pipeline_id,
      workspace_id: schedule.workspace_id,
      version,
      due_at: at.toISOString(),
    }))
}

const lockSchedule = async (tx: Transaction<Database>, id: string): Promise<ScheduleRow | undefined> =>
  await tx.selectFrom('schedules').selectAll().where('id', '=', id).forUpdate().executeTakeFirst()

const currentVersion = async (tx: Transaction<Database>, pipelineId: string): Promise<number | null> => {
  const row = await tx
    .selectFrom('pipelines')
    .select('current')
    .where('id', '=', pipelineId)
    .executeTakeFirst()
  return row?.current ?? null
}

const occurrenceAt = async (tx: Transaction<Database>, scheduleId: string, dueAt: Date) =>
  await tx
    .selectFrom('occurrences')
    .selectAll()
    .where('schedule_id', '=', scheduleId)
    .where('due_at', '=', dueAt)
    .forUpdate()
    .executeTakeFirst()

/**
 * Takes an occurrence, or, for who holds it, extends the lease. At most one agent holds it at a time: whoever takes an expired
 * claim gets a greater token, and the old one is good for nothing from then on. What was started is never taken over.
 */
export const claim = async (
  ctx: ServerContext,
  scheduleId: string,
  { agent_id, due_at }: BodyOf<typeof scheduleRoutes.claim>,
): Promise<{ fencing_token: number; lease_until: string }> =>
  await transact(ctx.db, async tx => {
    const now = ctx.clock.now()
    const dueAt = new Date(due_at)
    const schedule = await lockSchedule(tx, scheduleId)
    if (!schedule) throw new AppError('schedule.not_found', 'There is no such schedule.')
    const row = await occurrenceAt(tx, scheduleId, dueAt)
    const leaseUntil = new Date(now.getTime() + LEASE_S * 1000)
    if (row && row.agent_id === agent_id && row.fencing_token !== null && isOpen(row)) {
      await tx
        .updateTable('occurrences')
        .set({ lease_until: leaseUntil, updated_at: now })
        .where('schedule_id', '=', scheduleId)
        .where('due_at', '=', dueAt)
        .execute()
      return { fencing_token: row.fencing_token, lease_until: leaseUntil.toISOString() }
    }
    if (row && !isOpen(row)) throw taken(`This occurrence is ${row.state} already.`)
    if (row && (row.state === 'started' || isLive(row, now)))
      throw taken('Another agent holds this occurrence.')
    if (!schedule.enabled) throw taken('This schedule is switched off.')
    if (!isOccurrence(schedule, dueAt)) throw taken('The schedule has no occurrence at this time.')
    const wait = waitOf(schedule.agents, agent_id)
    if (wait === null) throw taken('This agent is not among those of the schedule.')
    const due = await settle(tx, schedule, now)
    const isDue = due.some(at => at.getTime() === dueAt.getTime())
    if (!isDue || dueAt.getTime() + wait * 1000 > now.getTime()) throw taken('This occurrence is not due.')
    const { rows } = await sql<{ token: number }>`select nextval('fencing_tokens') as token`.execute(tx)
    const token = (rows[0] as { token: number }).token
    await sql`
      insert into occurrences (schedule_id, due_at, state, agent_id, fencing_token, lease_until, updated_at)
      values (${scheduleId}, ${dueAt}, 'claimed', ${agent_id}, ${token}, ${leaseUntil}, ${now})
      on conflict (schedule_id, due_at) do update
        set state = 'claimed', agent_id = excluded.agent_id, fencing_token = excluded.fencing_token,
            lease_until = excluded.lease_until, updated_at = excluded.updated_at`.execute(tx)
    return { fencing_token: token, lease_until: leaseUntil.toISOString() }
  })

const isOpen = (row: OccurrenceRow): boolean => row.state === 'claimed' || row.state === 'started'

/**
 * What became of an occurrence. The holder says it with its token, as often as it likes; without a token only an occurrence
 * that nobody holds can be said to be skipped. A final state never changes.
 */
export const acknowledge = async (
  ctx: ServerContext,
  schedule: { readonly id: string; readonly workspaceId: string },
  by: { readonly userId: string; readonly origin: string },
  body: BodyOf<typeof scheduleRoutes.ack>,
): Promise<void> => {
  await transact(ctx.db, async tx => {
    const now = ctx.clock.now()
    const dueAt = new Date(body.due_at)
    const locked = await lockSchedule(tx, schedule.id)
    if (!locked) throw new AppError('schedule.not_found', 'There is no such schedule.')
    const row = await occurrenceAt(tx, schedule.id, dueAt)
    if (body.fencing_token === null) {
      if (body.state !== 'skipped') {
        throw new AppError('request.invalid', 'Claim the occurrence first: its fencing token is needed.')
      }
      if (row?.state === 'skipped') return
      if (row && (!isOpen(row) || row.state === 'started' || isLive(row, now))) {
        throw taken('Another agent holds this occurrence, or it has ended.')
      }
      if (!isOccurrence(locked, dueAt) || dueAt > now)
        throw taken('The schedule has no such occurrence by now.')
    } else {
      if (!row || row.fencing_token !== body.fencing_token || row.agent_id !== body.agent_id) {
        throw taken('Another agent has claimed this occurrence.')
      }
      if (row.state === body.state) return
      if (!isOpen(row)) throw taken(`This occurrence is ${row.state} already.`)
    }
    await sql`
      insert into occurrences (schedule_id, due_at, state, agent_id, run_id, reason, updated_at)
      values (${schedule.id}, ${dueAt}, ${body.state}, ${body.agent_id}, ${body.run_id}, ${body.reason}, ${now})
      on conflict (schedule_id, due_at) do update
        set state = excluded.state, agent_id = excluded.agent_id, reason = excluded.reason,
            run_id = coalesce(excluded.run_id, occurrences.run_id), updated_at = excluded.updated_at`.execute(
      tx,
    )
    await ctx.bus.publish(schedule.workspaceId, { type: 'schedule', schedule_id: schedule.id }, tx)
    if (body.state === 'started') return
    await ctx.audit.record(tx, {
      workspaceId: schedule.workspaceId,
      actorUserId: by.userId,
      deviceId: body.agent_id,
      origin: by.origin,
      action: `schedule.${body.state}`,
      objectKind: 'schedule',
      objectId: schedule.id,
      details: { due_at: body.due_at, run_id: body.run_id, reason: body.reason },
    })
  })
}

/** By schedule of a workspace the newest occurrence that was more than claimed. */
export const lastOccurrences = async (
  db: Kysely<Database>,
  workspaceId: string,
): Promise<Map<string, LastOccurrence>> => {
  const rows = await db
    .selectFrom('schedules')
    .innerJoinLateral(
      each =>
        each
          .selectFrom('occurrences')
          .select(['due_at', 'state', 'reason', 'run_id'])
          .whereRef('occurrences.schedule_id', '=', 'schedules.id')
          .where('state', '<>', 'claimed')
          .orderBy('due_at', 'desc')
          .limit(1)
          .as('last'),
      join => join.onTrue(),
    )
    .select(['schedules.id', 'last.due_at', 'last.state', 'last.reason', 'last.run_id'])
    .where('schedules.workspace_id', '=', workspaceId)
    .execute()
  return new Map(
    rows.flatMap(({ id, due_at, state, reason, run_id }) =>
      state === 'claimed' ? [] : [[id, { due_at: due_at.toISOString(), state, reason, run_id }]],
    ),
  )
}

/** Throws `run.lease_lost` unless the token is the one that holds the occurrence now; ties the run to it. */
export const assertHolder = async (
  tx: Transaction<Database>,
  held: {
    readonly scheduleId: string
    readonly dueAt: string
    readonly token: number | null
    readonly runId: string
  },
): Promise<void> => {
  const row = await occurrenceAt(tx, held.scheduleId, new Date(held.dueAt))
  if (!row || held.token === null || row.fencing_token !== held.token) {
    throw new AppError('run.lease_lost', 'This occurrence is held by another agent.')
  }
  if (row.run_id !== null && row.run_id !== held.runId) {
    throw new AppError('run.lease_lost', 'This occurrence has a run already.')
  }
  if (row.run_id === held.runId) return
  await tx
    .updateTable('occurrences')
    .set({ run_id: held.runId })
    .where('schedule_id', '=', held.scheduleId)
    .where('due_at', '=', new Date(held.dueAt))
    .execute()
}
