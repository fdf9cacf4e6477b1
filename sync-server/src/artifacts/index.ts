import { join } from 'node:path'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { type Artifact, type BodyOf, runRoutes } from '@pluto-duck/crdt-model/protocol'
import type { Selectable } from 'kysely'
import type { ServerContext } from '../app/context.ts'
import { created, type Feature, implement } from '../app/implement.ts'
import type { Config } from '../config/index.ts'
import { transact } from '../database/index.ts'
import { lockRun } from '../runs/index.ts'
import { idTaken } from '../workspaces/index.ts'
import { createFolderStore, folderFiles } from './folder-store.ts'
import { createS3Store } from './s3-store.ts'
import { type ArtifactStore, keyOf, type StoredFiles, type StoredObject } from './store.ts'
import type { ArtifactTables } from './tables.ts'

type Row = Selectable<ArtifactTables['artifacts']>
type Upload = BodyOf<typeof runRoutes.registerArtifact>

const asArtifact = ({ id, workspace_id: _, created_at, ...row }: Row): Artifact => ({
  ...row,
  artifact_id: id,
  created_at: created_at.toISOString(),
})

const objectOf = (workspaceId: string, runId: string, upload: Upload): StoredObject => ({
  key: keyOf({ workspaceId, runId, artifactId: upload.artifact_id, sha256: upload.sha256 }),
  bytes: upload.bytes,
  sha256: upload.sha256,
  contentType: upload.content_type,
})

const isSame = (row: Row, runId: string, upload: Upload): boolean =>
  row.run_id === runId &&
  row.kind === upload.kind &&
  row.name === upload.name &&
  row.content_type === upload.content_type &&
  row.bytes === upload.bytes &&
  row.sha256 === upload.sha256

/** Where artifacts are when there is no S3 service. */
export const folderOf = (config: Config): string => join(config.dataDir, 'artifacts')

/** The storage of the settings, for commands beside the server. */
export const storedFiles = (config: Config): StoredFiles =>
  config.s3 === null ? folderFiles(folderOf(config)) : createS3Store(config.s3)

export interface ArtifactsFeature extends Feature {
  /** For `/readyz`. */
  readonly ping: () => Promise<void>
}

/** The index of what runs made. Only metadata comes through here; bytes go straight to the store. */
export const artifactsFeature = (ctx: ServerContext): ArtifactsFeature => {
  const { db, config } = ctx
  const folder =
    config.s3 === null
      ? createFolderStore({
          dir: folderOf(config),
          publicUrl: ctx.publicUrl,
          secret: ctx.secret,
          clock: ctx.clock,
        })
      : null
  const store: ArtifactStore = folder?.store ?? createS3Store(config.s3 as NonNullable<typeof config.s3>)

  const find = async (id: string): Promise<Row | undefined> =>
    await db.selectFrom('artifacts').selectAll().where('id', '=', id).executeTakeFirst()

  return {
    ping: () => store.ping(),
    ...(folder ? { router: folder.router } : {}),
    locators: { artifact: async id => (await find(id))?.workspace_id ?? null },
    implementations: [
      implement(runRoutes.createUpload, async ({ member, session, params, body }) => {
        await transact(db, tx => lockRun(tx, params.run_id, session.user.id))
        const there = await find(body.artifact_id)
        if (there && !isSame(there, params.run_id, body)) throw idTaken('artifact_id')
        const object = objectOf(member.workspaceId, params.run_id, body)
        if (there || (await store.size(object.key)) === body.bytes) return { upload: null }
        return { upload: await store.presignPut(object) }
      }),

      implement(runRoutes.registerArtifact, async ({ member, session, deviceId, origin, params, body }) => {
        const there = await find(body.artifact_id)
        if (there) {
          if (!isSame(there, params.run_id, body)) throw idTaken('artifact_id')
          return asArtifact(there)
        }
        const size = await store.size(objectOf(member.workspaceId, params.run_id, body).key)
        if (size === null) throw new AppError('artifact.not_uploaded', 'The file is not in the storage.')
        if (size !== body.bytes) {
          throw new AppError('artifact.mismatch', 'The file in the storage has another length.', {
            details: { bytes: size },
          })
        }
        const row = await transact(db, async tx => {
          await lockRun(tx, params.run_id, session.user.id)
          const inserted = await tx
            .insertInto('artifacts')
            .values({
              workspace_id: member.workspaceId,
              id: body.artifact_id,
              run_id: params.run_id,
              kind: body.kind,
              name: body.name,
              content_type: body.content_type,
              bytes: body.bytes,
              sha256: body.sha256,
              created_at: ctx.clock.now(),
            })
            .onConflict(conflict => conflict.column('id').doNothing())
            .returningAll()
            .executeTakeFirst()
          if (!inserted) return null
          await ctx.audit.record(tx, {
            workspaceId: member.workspaceId,
            actorUserId: session.user.id,
            deviceId,
            origin,
            action: 'artifact.register',
            objectKind: 'artifact',
            objectId: body.artifact_id,
            details: { run_id: params.run_id, kind: body.kind, bytes: body.bytes, sha256: body.sha256 },
          })
          return inserted
        })
        if (row) return created(asArtifact(row))
        const winner = await find(body.artifact_id)
        if (!winner || !isSame(winner, params.run_id, body)) throw idTaken('artifact_id')
        return asArtifact(winner)
      }),

      implement(runRoutes.listArtifacts, async ({ params }) => {
        const rows = await db
          .selectFrom('artifacts')
          .selectAll()
          .where('run_id', '=', params.run_id)
          .orderBy('id')
          .execute()
        return { artifacts: rows.map(asArtifact) }
      }),

      implement(runRoutes.downloadArtifact, async ({ params }) => {
        const row = await find(params.artifact_id)
        if (!row) throw new AppError('artifact.not_found', 'There is no such artifact.')
        const artifact = asArtifact(row)
        const object = objectOf(row.workspace_id, row.run_id, artifact)
        return { artifact, download: await store.presignGet(object, row.name) }
      }),
    ],
  }
}

export { createS3Store } from './s3-store.ts'
export { type ArtifactStore, keyOf, type Presigned, type StoredFiles } from './store.ts'
