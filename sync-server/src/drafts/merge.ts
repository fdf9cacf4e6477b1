import { AppError } from '@pluto-duck/crdt-model/errors'
import type { BodyOf, Draft, draftRoutes, Role, VersionSummary } from '@pluto-duck/crdt-model/protocol'
import { type Kysely, sql } from 'kysely'
import type { Appender, Push } from '../changes/append.ts'
import type { Database } from '../database/index.ts'
import type { Materialiser } from '../versions/materialise.ts'
import { type Merging, type Published, type Publishing, publish } from '../versions/publish.ts'
import { SUMMARY, summary } from '../versions/read.ts'
import { readDraft, standingObjections } from './read.ts'
import { type Asked, settle } from './settle.ts'

interface OwnChange {
  seq: number
  hash: string
  author_id: string
  device_id: string
  received_at: Date
  bytes: Buffer
}

/**
 * Merges a draft: its changes become its pipeline's, the same bytes with the same authors, and are published on the current
 * version. What others have edited in the pipeline and not published is no part of that version.
 *
 * Everything is looked at before anything is stored: the parent, conflict marks, problems, standing objections. The draft's heads and
 * objections are looked at again when the version is stored: others may have been faster. Then, as when it is cut between storing and
 * publishing, the draft stays open, its pipeline has the changes unpublished, and the next merge goes on from there. The same
 * `version_id` again answers the version that was answered first, also when the merge made none because the content was the current one's.
 */
export const mergeDraft = async (
  ctx: Publishing,
  parts: { readonly materialiser: Materialiser; readonly appender: Appender },
  draft: Draft,
  asked: Asked & { readonly role: Role; readonly body: BodyOf<typeof draftRoutes.merge> },
): Promise<Published> => {
  try {
    return await merge(ctx, parts, draft, asked)
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'draft.settled') throw error
    // A merge whose answer was lost, or whose twin was faster.
    const version = await mergedBy(ctx, draft, asked.body.version_id)
    if (version === null) throw error
    return { version, made: false }
  }
}

const merge = async (
  ctx: Publishing,
  parts: { readonly materialiser: Materialiser; readonly appender: Appender },
  draft: Draft,
  asked: Asked & { readonly role: Role; readonly body: BodyOf<typeof draftRoutes.merge> },
): Promise<Published> => {
  const { body } = asked
  const { pipeline_id, workspace_id } = draft
  assertMergeable(draft, body.heads)
  const lookAgain = async (on: Kysely<Database>): Promise<void> =>
    assertMergeable(await readDraft(on, workspace_id, draft.draft_id), body.heads)
  const own = await ownChanges(ctx, draft)
  const merging: Merging = {
    changes: own.map(change => change.bytes),
    // Whoever edited the draft did not see the pipeline, however close in time: nothing of it counts as live beside the others.
    records: new Map(
      own.map(({ hash, seq, author_id, received_at }) => [
        hash,
        { seq, author_id, live: false, received_at: received_at.toISOString() },
      ]),
    ),
    append: async () => {
      await lookAgain(ctx.db)
      await appendTo(parts.appender, draft, own, asked.role)
    },
    settle: (tx, version) =>
      settle(
        ctx,
        tx,
        draft,
        asked,
        { state: 'merged', version: version.number, versionId: body.version_id },
        () => lookAgain(tx),
      ),
  }
  return await publish(ctx, parts.materialiser, {
    workspaceId: workspace_id,
    userId: asked.userId,
    deviceId: asked.deviceId,
    origin: asked.origin,
    merging,
    body: {
      workspace_id,
      pipeline_id,
      version_id: body.version_id,
      heads: body.heads,
      parent: body.parent,
      resolved: body.resolved,
      message: body.message || draft.title,
    },
  })
}

/** Throws when the draft is settled, is not at these heads, or somebody's objection stands. */
const assertMergeable = (draft: Draft, heads: readonly string[]): void => {
  if (draft.state === 'merged' || draft.state === 'closed')
    throw new AppError('draft.settled', `The draft is ${draft.state}.`, {
      details: { state: draft.state, version: draft.version },
    })
  if (sorted(draft.heads) !== sorted(heads))
    throw new AppError('draft.moved', 'The draft has changed since you looked at it.', {
      details: { heads: draft.heads },
    })
  const objections = standingObjections(draft)
  if (objections.length > 0)
    throw new AppError(
      'draft.changes_requested',
      `${objections.map(review => review.reviewer.name).join(', ')} asked for changes.`,
      { details: { reviews: objections.map(review => review.review_id) } },
    )
}

const sorted = (heads: readonly string[]): string => [...heads].sort().join()

/** The version that the merge with this `version_id` was answered with; null when the draft was not merged by it. */
const mergedBy = async (
  { db }: Publishing,
  draft: Draft,
  versionId: string,
): Promise<VersionSummary | null> => {
  const row = await db
    .selectFrom('drafts as d')
    .innerJoin('versions as v', join =>
      join.onRef('v.pipeline_id', '=', 'd.pipeline_id').onRef('v.number', '=', 'd.version'),
    )
    .select(SUMMARY.map(column => `v.${column}` as const))
    .where('d.id', '=', draft.draft_id)
    .where('d.state', '=', 'merged')
    // Those merged before the id was kept are known by the version that they made.
    .where(where => where.or([where('d.version_id', '=', versionId), where('v.id', '=', versionId)]))
    .executeTakeFirst()
  return row ? await summary(db, row) : null
}

const ownChanges = async ({ db }: Publishing, draft: Draft): Promise<OwnChange[]> => {
  const { rows } = await sql<OwnChange>`
    select seq, encode(hash, 'hex') as hash, author_id, device_id, received_at, bytes from changes
    where workspace_id = ${draft.workspace_id} and document_id = ${draft.draft_id}
    order by seq`.execute(db)
  return rows
}

/** Stores the draft's changes as the pipeline's, each as its own author's. They are asked for at once, so they share a commit. */
const appendTo = async (
  appender: Appender,
  draft: Draft,
  own: readonly OwnChange[],
  role: Role,
): Promise<void> => {
  const pushes: { push: Omit<Push, 'changes'>; changes: Push['changes'][number][] }[] = []
  for (const { author_id, device_id, bytes } of own) {
    const last = pushes.at(-1)
    const change = {
      documentId: draft.pipeline_id,
      kind: 'pipeline',
      subject: null,
      base: null,
      bytes,
    } as const
    if (last && last.push.userId === author_id && last.push.deviceId === device_id) last.changes.push(change)
    else
      pushes.push({
        push: { workspaceId: draft.workspace_id, userId: author_id, deviceId: device_id, role, live: false },
        changes: [change],
      })
  }
  const answers = await Promise.all(pushes.map(({ push, changes }) => appender.append({ ...push, changes })))
  const refused = answers.flatMap(answer => answer.verdicts).find(verdict => verdict.status === 'refused')
  if (refused?.status !== 'refused') return
  throw new AppError(
    refused.code === 'quota' ? 'change.quota' : 'change.invalid',
    `The pipeline does not take the draft’s changes: ${refused.reason}.`,
    {
      hint: 'Nothing was merged, and the draft is as it was. When the workspace is full, the operator raises WORKSPACE_MAX_MB.',
    },
  )
}
