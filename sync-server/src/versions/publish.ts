import type { MarksInput } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { BodyOf, VersionSummary, versionRoutes } from '@pluto-duck/crdt-model/protocol'
import { sql, type Transaction } from 'kysely'
import type { ServerContext } from '../app/context.ts'
import type { EventBus } from '../app/event-bus.ts'
import { type Database, transact } from '../database/index.ts'
import { idTaken } from '../workspaces/index.ts'
import { lockCurrent } from './lock.ts'
import type { Materialised, Materialiser } from './materialise.ts'
import { SUMMARY, summary } from './read.ts'
import { standingHeads } from './standing.ts'

/** What publishing needs of a server. */
export type Publishing = Pick<ServerContext, 'db' | 'clock' | 'audit'> & {
  readonly bus: Pick<EventBus, 'publish'>
}

/** A draft whose changes become the pipeline's with a publish: its heads are published beside those of the current version. */
export interface Merging {
  readonly changes: readonly Uint8Array[]
  readonly records: MarksInput['records']
  /** Puts the changes into the pipeline's log, once everything was found right. Done again it changes nothing. */
  append(): Promise<void>
  /** What is stored in the transaction of the version. Locks the log's counter, then the draft. */
  settle(tx: Transaction<Database>, version: VersionSummary): Promise<void>
}

export interface PublishInput {
  readonly workspaceId: string
  readonly userId: string
  readonly deviceId: string | null
  readonly origin: string
  readonly body: BodyOf<typeof versionRoutes.publish>
  readonly merging?: Merging
}
export interface Published {
  readonly version: VersionSummary
  /** False: it was there already, under this id or as the current version's content. */
  readonly made: boolean
}

type Ready = Extract<Materialised, { status: 'ok' }>
type Current = VersionSummary | null

/**
 * Publishes a document at given heads as the next version of its pipeline.
 *
 * The same `version_id`, or the content of the current version, answers the version that is there. Else the parent has to be
 * the current version, its changes that still count have to be in the past of the heads, the pipeline has to be valid and every
 * conflict mark since the parent has to be named in `resolved`. The version, the audit row and the wake-up are one transaction, in
 * which the heads are in the log.
 */
export const publish = async (
  ctx: Publishing,
  materialiser: Materialiser,
  input: PublishInput,
): Promise<Published> => {
  const { body } = input
  await assertPipeline(ctx, input)
  for (;;) {
    const known = await knownVersion(ctx, input)
    if (known) return { version: known, made: false }
    const current = await currentOf(ctx, body.pipeline_id)
    const ready = await materialise(ctx, materialiser, input, current)
    if (input.merging) {
      if (ready.contentHash !== current?.content_hash) assertPublishable(body, current, ready)
      await input.merging.append()
    }
    const result = await transact(ctx.db, tx => commit(ctx, tx, input, current, ready))
    // Somebody published between the reading and the lock: look again at what is current now.
    if (result !== 'moved') return result
  }
}

const assertPipeline = async (ctx: Publishing, { workspaceId, body }: PublishInput): Promise<void> => {
  const found = await ctx.db
    .selectFrom('documents')
    .select('id')
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', body.pipeline_id)
    .where('kind', '=', 'pipeline')
    .where('base', 'is', null)
    .executeTakeFirst()
  if (!found) {
    throw new AppError('pipeline.not_found', 'There is no such pipeline on the server.', {
      hint: 'Sync first: its changes have not arrived, or it is in another workspace.',
    })
  }
}

const knownVersion = async (
  { db }: Publishing,
  { workspaceId, body }: PublishInput,
): Promise<VersionSummary | null> => {
  const row = await db
    .selectFrom('versions')
    .select(SUMMARY)
    .where('id', '=', body.version_id)
    .executeTakeFirst()
  if (!row) return null
  if (row.workspace_id !== workspaceId || row.pipeline_id !== body.pipeline_id) throw idTaken('version_id')
  return await summary(db, row)
}

export const currentOf = async ({ db }: Publishing, pipelineId: string): Promise<Current> => {
  const row = await db
    .selectFrom('pipelines as p')
    .innerJoin('versions as v', join =>
      join.onRef('v.pipeline_id', '=', 'p.id').onRef('v.number', '=', 'p.current'),
    )
    .select(SUMMARY.map(column => `v.${column}` as const))
    .where('p.id', '=', pipelineId)
    .executeTakeFirst()
  return row ? await summary(db, row) : null
}

const materialise = async (
  ctx: Publishing,
  materialiser: Materialiser,
  { workspaceId, body, merging }: PublishInput,
  current: Current,
): Promise<Ready> => {
  const document = await ctx.db
    .selectFrom('documents')
    .select(['snapshot', 'snapshot_seq'])
    .where('workspace_id', '=', workspaceId)
    .where('id', '=', body.pipeline_id)
    .executeTakeFirstOrThrow()
  const tail = await ctx.db
    .selectFrom('changes')
    .select('bytes')
    .where('workspace_id', '=', workspaceId)
    .where('document_id', '=', body.pipeline_id)
    .where('seq', '>', document.snapshot === null ? 0 : document.snapshot_seq)
    .orderBy('seq')
    .execute()
  const records = await ctx.db
    .selectFrom('changes')
    .select([sql<string>`encode(hash, 'hex')`.as('hash'), 'seq', 'received_at', 'live', 'author_id'])
    .where('workspace_id', '=', workspaceId)
    .where('document_id', '=', body.pipeline_id)
    .execute()
  const inLog = new Set(records.map(record => record.hash))
  // The current version may have been made of what was taken out since (VER4).
  const parentHeads = await standingHeads(
    ctx.db,
    { workspaceId, documentId: body.pipeline_id, heads: current?.heads ?? [] },
    hash => inLog.has(hash),
  )
  const result = await materialiser.read({
    snapshot: document.snapshot,
    changes: [...tail.map(change => change.bytes), ...(merging?.changes ?? [])],
    heads: merging ? [...new Set([...parentHeads, ...body.heads])] : body.heads,
    parentHeads,
    records: new Map([
      ...(merging?.records ?? []),
      ...records.map(
        ({ hash, received_at, ...record }) =>
          [hash, { ...record, received_at: received_at.toISOString() }] as const,
      ),
    ]),
  })
  switch (result.status) {
    case 'ok':
      return result
    case 'unknown_heads':
      throw unknownHeads()
    case 'too_new':
      throw new AppError('document.too_new', 'A newer program wrote this pipeline than this server knows.', {
        hint: 'Update the server; until then the pipeline is stored and synced, and not published.',
      })
    case 'not_a_pipeline':
      throw new AppError('document.invalid', 'This document is no pipeline at these heads.')
    case 'invalid':
      throw new AppError('document.invalid', `The pipeline has ${result.problems.length} problems.`, {
        details: { problems: result.problems.slice(0, 50) },
      })
    case 'failed':
      throw new AppError('document.corrupt', 'The server could not read the document.', {
        cause: new Error(result.reason),
      })
  }
}

const unknownHeads = (): AppError =>
  new AppError('version.unknown_heads', 'The server does not have all changes of these heads.')

const commit = async (
  ctx: Publishing,
  tx: Transaction<Database>,
  input: PublishInput,
  seen: Current,
  ready: Ready,
): Promise<Published | 'moved'> => {
  const { workspaceId, userId, body } = input
  const now = ctx.clock.now()
  const last = await lockCurrent(tx, { workspaceId, pipelineId: body.pipeline_id, now })
  if (last !== (seen?.number ?? null)) return 'moved'
  const current =
    last === null
      ? null
      : await tx
          .selectFrom('versions')
          .select(SUMMARY)
          .where('pipeline_id', '=', body.pipeline_id)
          .where('number', '=', last)
          .executeTakeFirstOrThrow()
  if (current !== null && current.content_hash === ready.contentHash) {
    const version = await summary(tx, current)
    await input.merging?.settle(tx, version)
    return { version, made: false }
  }
  assertPublishable(body, current === null ? null : await summary(tx, current), ready)
  const restored = await tx
    .selectFrom('versions')
    .select('number')
    .where('pipeline_id', '=', body.pipeline_id)
    .where('content_hash', '=', ready.contentHash)
    .orderBy('number', 'desc')
    .executeTakeFirst()
  const number = (last ?? 0) + 1
  const row = await tx
    .insertInto('versions')
    .values({
      workspace_id: workspaceId,
      pipeline_id: body.pipeline_id,
      number,
      id: body.version_id,
      content_hash: ready.contentHash,
      heads: [...ready.heads],
      parent: body.parent,
      message: body.message,
      published_by: userId,
      published_at: now,
      authors: await authorsOf(tx, input, ready),
      // Only what was a mark: the version says what somebody looked at, not what a client made up.
      resolved: ready.marks.map(mark => mark.id),
      restores: restored?.number ?? null,
      definition: ready.definition,
      files: JSON.stringify(ready.files),
    })
    .onConflict(conflict => conflict.column('id').doNothing())
    .returning(SUMMARY)
    .executeTakeFirst()
  // The id was taken by another pipeline since it was looked up: the next round says so.
  if (!row) return 'moved'
  await tx
    .updateTable('pipelines')
    .set({ current: number, updated_at: now })
    .where('id', '=', body.pipeline_id)
    .execute()
  await ctx.bus.publish(workspaceId, { type: 'version', pipeline_id: body.pipeline_id, number }, tx)
  const version = await summary(tx, row)
  // Before the audit's row: it takes the log's and the draft's lock (LOCK1).
  await input.merging?.settle(tx, version)
  await ctx.audit.record(tx, {
    workspaceId,
    actorUserId: userId,
    deviceId: input.deviceId,
    origin: input.origin,
    action: 'version.publish',
    objectKind: 'version',
    objectId: body.version_id,
    details: {
      pipeline_id: body.pipeline_id,
      number,
      content_hash: ready.contentHash,
      resolved: ready.marks.map(mark => mark.id),
    },
  })
  return { version, made: true }
}

/** Throws unless it is published on the current version and somebody looked at every mark. */
const assertPublishable = (
  body: Pick<PublishInput['body'], 'parent' | 'resolved'>,
  current: Current,
  ready: Ready,
): void => {
  if (body.parent !== (current?.number ?? null) || !ready.knowsParent) {
    throw new AppError('version.parent_moved', 'Another version is current.', { details: { current } })
  }
  const resolved = new Set(body.resolved)
  const open = ready.marks.filter(mark => !resolved.has(mark.id))
  if (open.length > 0) {
    throw new AppError(
      'version.unresolved_marks',
      `${open.length} things were changed by two people at once.`,
      { details: { marks: open } },
    )
  }
}

/**
 * Everyone whose changes came in since the parent, by the server's record of them. Throws when the heads are in the log no more: what
 * was made of them before the pipeline was locked may hold what was taken out since.
 */
const authorsOf = async (
  tx: Transaction<Database>,
  { workspaceId, body }: PublishInput,
  { heads, since }: Ready,
): Promise<string[]> => {
  const among = (hashes: readonly string[]) => sql`
    workspace_id = ${workspaceId} and document_id = ${body.pipeline_id}
      and hash = any (${hashes.map(hash => Buffer.from(hash, 'hex'))}::bytea[])`
  const { rows } = await sql<{ authors: string[]; heads: number }>`
    select array(select distinct author_id from changes where ${among(since)} order by author_id) as authors,
      (select count(*)::int from changes where ${among(heads)}) as heads`.execute(tx)
  const [found] = rows
  if (found?.heads !== heads.length) throw unknownHeads()
  return found.authors
}
