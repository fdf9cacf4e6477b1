import { AppError } from '@pluto-duck/crdt-model/errors'
import type { BodyOf, Run, runRoutes } from '@pluto-duck/crdt-model/protocol'
import { TERMINAL, TRANSITIONS } from '@pluto-duck/crdt-model/protocol'
import type { Kysely, Transaction } from 'kysely'
import type { ServerContext } from '../app/context.ts'
import { type Database, transact } from '../database/index.ts'
import { assertHolder } from '../schedules/index.ts'
import { idTaken } from '../workspaces/index.ts'
import { readRun } from './read.ts'

type CreateBody = BodyOf<typeof runRoutes.create>
type TransitionBody = BodyOf<typeof runRoutes.transition>

/** Records a run as pending. The same run again answers what is there (`made: false`), whatever became of it meanwhile. */
export const recordRun = async (
  ctx: ServerContext,
  workspaceId: string,
  userId: string,
  body: CreateBody,
): Promise<{ run: Run; made: boolean }> => {
  const made = await transact(ctx.db, async tx => {
    const there = await tx
      .selectFrom('runs')
      .selectAll()
      .where('id', '=', body.run_id)
      .forUpdate()
      .executeTakeFirst()
    if (there) {
      const same =
        there.workspace_id === workspaceId &&
        there.pipeline_id === body.pipeline_id &&
        there.run_by === userId &&
        there.device_id === body.device_id &&
        there.version === body.version &&
        there.heads.join() === body.heads.join()
      if (!same) throw idTaken('run_id')
      return false
    }
    await assertRunnable(tx, workspaceId, body)
    if (body.schedule_id !== null && body.due_at !== null) {
      await assertHolder(tx, {
        scheduleId: body.schedule_id,
        dueAt: body.due_at,
        token: body.fencing_token,
        runId: body.run_id,
      })
    }
    const inserted = await tx
      .insertInto('runs')
      .values({
        workspace_id: workspaceId,
        id: body.run_id,
        pipeline_id: body.pipeline_id,
        version: body.version,
        heads: body.heads,
        trigger: body.trigger,
        schedule_id: body.schedule_id,
        due_at: body.due_at,
        fencing_token: body.fencing_token,
        device_id: body.device_id,
        run_by: userId,
        created_at: body.created_at,
        state: 'pending',
        cause: null,
        failed_step: null,
        started_at: null,
        finished_at: null,
        manifest: null,
      })
      .onConflict(conflict => conflict.column('id').doNothing())
      .returning('id')
      .executeTakeFirst()
    if (!inserted) return 'again' as const
    await ctx.bus.publish(
      workspaceId,
      { type: 'run', run_id: body.run_id, pipeline_id: body.pipeline_id, state: 'pending' },
      tx,
    )
    return true
  })
  // The same run was recorded at the same moment: now it is there to compare with.
  if (made === 'again') return await recordRun(ctx, workspaceId, userId, body)
  return { run: await readRun(ctx.db, body.run_id), made }
}

const assertRunnable = async (
  tx: Kysely<Database>,
  workspaceId: string,
  { pipeline_id, version, heads, trigger, schedule_id, due_at }: CreateBody,
): Promise<void> => {
  const pipeline = await tx
    .selectFrom('documents')
    .select('id')
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', pipeline_id)
    .where('kind', '=', 'pipeline')
    .executeTakeFirst()
  if (!pipeline) throw new AppError('pipeline.not_found', 'There is no such pipeline on the server.')
  if (version === null && heads.length === 0) {
    throw new AppError('request.invalid', 'A run of a draft names the heads that it ran.')
  }
  if ((trigger === 'schedule') !== (schedule_id !== null && due_at !== null)) {
    throw new AppError('request.invalid', 'A scheduled run, and no other, names its schedule and occurrence.')
  }
  if (version === null) return
  const published = await tx
    .selectFrom('versions')
    .select('number')
    .where('workspace_id', '=', workspaceId)
    .where('pipeline_id', '=', pipeline_id)
    .where('number', '=', version)
    .executeTakeFirst()
  if (!published) throw new AppError('version.not_found', 'There is no version with that number.')
}

/**
 * The run's row, locked until the transaction ends. Only who recorded a run may add to it: nobody writes another's history, and
 * nobody a purged one.
 */
export const lockRun = async (tx: Transaction<Database>, runId: string, userId: string) => {
  const run = await tx.selectFrom('runs').selectAll().where('id', '=', runId).forUpdate().executeTakeFirst()
  if (!run || run.purged) throw new AppError('run.not_found', 'There is no such run.')
  if (run.run_by !== userId) {
    throw new AppError('auth.forbidden', 'Only who ran it may add to a run.', {
      hint: 'Run it yourself, or ask who ran it.',
    })
  }
  return run
}

/** Moves a run along TRANSITIONS. The move that was made already answers the run as it is; a terminal state never changes. */
export const moveRun = async (
  ctx: ServerContext,
  runId: string,
  userId: string,
  body: TransitionBody,
): Promise<Run> => {
  await transact(ctx.db, async tx => {
    const run = await lockRun(tx, runId, userId)
    if (run.fencing_token !== null && run.schedule_id !== null && run.due_at !== null) {
      await assertHolder(tx, {
        scheduleId: run.schedule_id,
        dueAt: run.due_at.toISOString(),
        token: body.fencing_token,
        runId,
      })
    }
    if (run.state === body.to) return
    if (!TRANSITIONS[run.state].includes(body.to)) {
      throw new AppError('run.conflict', `A run that is ${run.state} cannot become ${body.to}.`, {
        details: { state: run.state },
      })
    }
    const ended = TERMINAL.has(body.to)
    await tx
      .updateTable('runs')
      .set({
        state: body.to,
        ...(body.to === 'running' ? { started_at: body.at } : {}),
        ...(ended ? { finished_at: body.at } : {}),
        cause:
          body.to === 'failed' ? (body.cause ?? 'internal') : body.to === 'cancelled' ? 'cancelled' : null,
        failed_step: body.to === 'failed' ? body.failed_step : null,
        ...(body.manifest === null ? {} : { manifest: JSON.stringify(body.manifest) }),
      })
      .where('id', '=', runId)
      .execute()
    await ctx.bus.publish(
      run.workspace_id,
      { type: 'run', run_id: runId, pipeline_id: run.pipeline_id, state: body.to },
      tx,
    )
  })
  return await readRun(ctx.db, runId)
}
