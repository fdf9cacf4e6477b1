import { runRoutes } from '@pluto-duck/crdt-model/protocol'
import type { ServerContext } from '../app/context.ts'
import { ANSWERED, created, type Feature, implement } from '../app/implement.ts'
import type { Access } from '../auth/index.ts'
import { appendLog, sendLog } from './logs.ts'
import { listRuns, readRun } from './read.ts'
import { moveRun, recordRun } from './record.ts'

export { lockRun } from './record.ts'

export const runsFeature = (ctx: ServerContext, access: Access): Feature => {
  const { db } = ctx
  return {
    locators: {
      run: async id =>
        (await db.selectFrom('runs').select('workspace_id').where('id', '=', id).executeTakeFirst())
          ?.workspace_id ?? null,
    },
    implementations: [
      implement(runRoutes.create, async ({ member, session, body }) => {
        await access.bindDevice(session.user.id, body.device_id)
        const { run, made } = await recordRun(ctx, member.workspaceId, session.user.id, body)
        return made ? created(run) : run
      }),
      implement(runRoutes.transition, ({ params, session, body }) =>
        moveRun(ctx, params.run_id, session.user.id, body),
      ),
      implement(runRoutes.list, ({ member, query }) =>
        listRuns(db, {
          workspaceId: member.workspaceId,
          pipelineId: query.pipeline_id,
          before: query.before,
          limit: query.limit,
        }),
      ),
      implement(runRoutes.read, ({ params }) => readRun(db, params.run_id)),
      implement(runRoutes.appendLog, async ({ params, session, body }) => ({
        next_offset: await appendLog(ctx, params.run_id, session.user.id, body),
      })),
      implement(runRoutes.readLog, async ({ params, query, response }) => {
        await sendLog(db, params.run_id, query.offset, response)
        return ANSWERED
      }),
    ],
  }
}
