import { AppError } from '@pluto-duck/crdt-model/errors'
import { type Schedule, scheduleRoutes } from '@pluto-duck/crdt-model/protocol'
import type { Kysely } from 'kysely'
import type { ServerContext } from '../app/context.ts'
import { created, type Feature, implement } from '../app/implement.ts'
import type { Access } from '../auth/index.ts'
import { type Database, transact } from '../database/index.ts'
import { idTaken } from '../workspaces/index.ts'
import { acknowledge, claim, dueFor, lastOccurrences, type ScheduleRow } from './occurrences.ts'
import { overdueOf } from './overdue.ts'
import { parseTiming } from './plan.ts'

export { assertHolder } from './occurrences.ts'

const asSchedule = (row: ScheduleRow, now: Date): Schedule => ({
  schedule_id: row.id,
  workspace_id: row.workspace_id,
  pipeline_id: row.pipeline_id,
  cron: row.cron,
  timezone: row.timezone,
  missed: row.missed,
  window_s: row.window_s,
  enabled: row.enabled,
  version: row.version,
  agents: row.agents,
  created_at: row.created_at.toISOString(),
  next_due_at: row.enabled ? (parseTiming(row).nextRun(now)?.toISOString() ?? null) : null,
})

const assertVersion = async (
  db: Kysely<Database>,
  workspaceId: string,
  pipelineId: string,
  version: number | null,
): Promise<void> => {
  const pipeline = await db
    .selectFrom('documents')
    .select('id')
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', pipelineId)
    .where('kind', '=', 'pipeline')
    .executeTakeFirst()
  if (!pipeline) throw new AppError('pipeline.not_found', 'There is no such pipeline on the server.')
  if (version === null) return
  const pinned = await db
    .selectFrom('versions')
    .select('number')
    .where('pipeline_id', '=', pipelineId)
    .where('number', '=', version)
    .executeTakeFirst()
  if (!pinned) throw new AppError('version.not_found', 'There is no version with that number.')
}

/** What is due and who has it. The server decides no more than that: it runs nothing. */
export const schedulesFeature = (ctx: ServerContext, access: Access): Feature => {
  const { db, clock, audit, bus } = ctx
  return {
    locators: {
      schedule: async id =>
        (await db.selectFrom('schedules').select('workspace_id').where('id', '=', id).executeTakeFirst())
          ?.workspace_id ?? null,
    },
    implementations: [
      implement(scheduleRoutes.create, async ({ member, session, deviceId, origin, body }) => {
        parseTiming(body)
        await assertVersion(db, member.workspaceId, body.pipeline_id, body.version)
        const now = clock.now()
        const { schedule_id, ...settings } = body
        const row = await transact(db, async tx => {
          const inserted = await tx
            .insertInto('schedules')
            .values({
              ...settings,
              id: schedule_id,
              created_by: session.user.id,
              created_at: now,
              since: now,
              settled_until: now,
            })
            .onConflict(conflict => conflict.column('id').doNothing())
            .returningAll()
            .executeTakeFirst()
          if (!inserted) return null
          await bus.publish(member.workspaceId, { type: 'schedule', schedule_id }, tx)
          await audit.record(tx, {
            workspaceId: member.workspaceId,
            actorUserId: session.user.id,
            deviceId,
            origin,
            action: 'schedule.create',
            objectKind: 'schedule',
            objectId: schedule_id,
            details: settings,
          })
          return inserted
        })
        if (row) return created(asSchedule(row, now))
        const there = await db
          .selectFrom('schedules')
          .selectAll()
          .where('id', '=', schedule_id)
          .where('workspace_id', '=', member.workspaceId)
          .where('pipeline_id', '=', body.pipeline_id)
          .executeTakeFirst()
        if (!there) throw idTaken('schedule_id')
        return asSchedule(there, now)
      }),

      implement(scheduleRoutes.update, async ({ member, session, deviceId, origin, params, body }) => {
        const now = clock.now()
        const row = await transact(db, async tx => {
          const before = await tx
            .selectFrom('schedules')
            .selectAll()
            .where('id', '=', params.schedule_id)
            .forUpdate()
            .executeTakeFirstOrThrow()
          const patch = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined))
          if (Object.keys(patch).length === 0) return before
          const after: ScheduleRow = { ...before, ...patch }
          parseTiming(after)
          await assertVersion(tx, member.workspaceId, before.pipeline_id, after.version)
          // From here on the schedule counts anew: what was due before under other settings is not replayed.
          const anew =
            after.cron !== before.cron ||
            after.timezone !== before.timezone ||
            after.missed !== before.missed ||
            after.window_s !== before.window_s ||
            (after.enabled && !before.enabled)
          const saved = await tx
            .updateTable('schedules')
            .set({ ...patch, ...(anew ? { since: now, settled_until: now } : {}) })
            .where('id', '=', params.schedule_id)
            .returningAll()
            .executeTakeFirst()
          await bus.publish(member.workspaceId, { type: 'schedule', schedule_id: params.schedule_id }, tx)
          await audit.record(tx, {
            workspaceId: member.workspaceId,
            actorUserId: session.user.id,
            deviceId,
            origin,
            action: 'schedule.update',
            objectKind: 'schedule',
            objectId: params.schedule_id,
            details: patch,
          })
          return saved ?? after
        })
        return asSchedule(row, now)
      }),

      implement(scheduleRoutes.list, async ({ member, query }) => {
        const rows = await db
          .selectFrom('schedules')
          .selectAll()
          .where('workspace_id', '=', member.workspaceId)
          .orderBy('id')
          .execute()
        const now = clock.now()
        const last = query.last && (await lastOccurrences(db, member.workspaceId))
        const overdue = query.overdue && (await overdueOf(db, member.workspaceId, rows, now))
        return {
          schedules: rows.map(row => ({
            ...asSchedule(row, now),
            ...(last ? { last: last.get(row.id) ?? null } : {}),
            ...(overdue ? { overdue: overdue.get(row.id) ?? null } : {}),
          })),
        }
      }),

      implement(scheduleRoutes.due, async ({ session, query }) => {
        await access.bindDevice(session.user.id, query.agent_id)
        return { due: await dueFor(ctx, session.user.id, query.agent_id) }
      }),

      implement(scheduleRoutes.claim, async ({ session, params, body }) => {
        await access.bindDevice(session.user.id, body.agent_id)
        return await claim(ctx, params.schedule_id, body)
      }),

      implement(scheduleRoutes.ack, async ({ member, session, origin, params, body }) => {
        await access.bindDevice(session.user.id, body.agent_id)
        await acknowledge(
          ctx,
          { id: params.schedule_id, workspaceId: member.workspaceId },
          { userId: session.user.id, origin },
          body,
        )
        return { ok: true as const }
      }),
    ],
  }
}
