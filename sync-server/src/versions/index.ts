import { AppError } from '@pluto-duck/crdt-model/errors'
import { versionRoutes } from '@pluto-duck/crdt-model/protocol'
import type { ServerContext } from '../app/context.ts'
import { created, type Feature, implement } from '../app/implement.ts'
import { Materialiser } from './materialise.ts'
import { publish } from './publish.ts'
import { currentVersions, pipelines, SUMMARY, summaries, whole, workspaceOfPipeline } from './read.ts'

const noPipeline = (): AppError => new AppError('pipeline.not_found', 'There is no such pipeline.')

export const versionsFeature = (ctx: ServerContext): Feature => {
  const { db } = ctx
  const materialiser = new Materialiser()

  const versionAt = async (pipelineId: string, number: number) =>
    await db
      .selectFrom('versions')
      .selectAll()
      .where('pipeline_id', '=', pipelineId)
      .where('number', '=', number)
      .executeTakeFirst()

  return {
    locators: { pipeline: id => workspaceOfPipeline(db, id) },
    close: () => materialiser.close(),
    implementations: [
      implement(versionRoutes.publish, async ({ member, session, deviceId, origin, body }) => {
        const { version, made } = await publish(ctx, materialiser, {
          workspaceId: member.workspaceId,
          userId: session.user.id,
          deviceId,
          origin,
          body,
        })
        return made ? created(version) : version
      }),

      implement(versionRoutes.listPipelines, async ({ member }) => {
        const [listed, current] = await Promise.all([
          pipelines(db, member.workspaceId),
          currentVersions(db, member.workspaceId),
        ])
        return {
          pipelines: listed.map(({ currentNumber: _, ...pipeline }) => ({
            ...pipeline,
            current: current.get(pipeline.pipeline_id) ?? null,
          })),
        }
      }),

      implement(versionRoutes.readPipeline, async ({ member, params }) => {
        const [found] = await pipelines(db, member.workspaceId, params.pipeline_id)
        if (!found) throw noPipeline()
        const { currentNumber, ...pipeline } = found
        const row = currentNumber === null ? undefined : await versionAt(params.pipeline_id, currentNumber)
        return { ...pipeline, current: row ? await whole(db, row) : null }
      }),

      implement(versionRoutes.listVersions, async ({ params, query }) => {
        const rows = await db
          .selectFrom('versions')
          .select(SUMMARY)
          .where('pipeline_id', '=', params.pipeline_id)
          .$if(query.before !== undefined, q => q.where('number', '<', query.before as number))
          .orderBy('number', 'desc')
          .limit(query.limit + 1)
          .execute()
        return {
          versions: await summaries(db, rows.slice(0, query.limit)),
          more: rows.length > query.limit,
        }
      }),

      implement(versionRoutes.readVersion, async ({ params }) => {
        const row = await versionAt(params.pipeline_id, params.number)
        if (!row) throw new AppError('version.not_found', 'There is no version with that number.')
        return await whole(db, row)
      }),
    ],
  }
}
