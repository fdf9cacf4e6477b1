import { AppError } from '@pluto-duck/crdt-model/errors'
import { type Draft, draftRoutes } from '@pluto-duck/crdt-model/protocol'
import { type Kysely, sql } from 'kysely'
import type { ServerContext } from '../app/context.ts'
import { type Call, created, type Feature, implement } from '../app/implement.ts'
import type { Appender } from '../changes/append.ts'
import { type Database, transact } from '../database/index.ts'
import { Materialiser } from '../versions/materialise.ts'
import { idTaken } from '../workspaces/index.ts'
import { mergeDraft } from './merge.ts'
import { readDraft, readDrafts, workspaceOfDraft } from './read.ts'
import { type Asked, assertOpen, lockDraft, settle, told } from './settle.ts'

const sorted = (heads: readonly string[]): string => [...heads].sort().join()

/** What people say about drafts: review, merge, close. Editing one is appending to the log. */
export const draftsFeature = (ctx: ServerContext, appender: Appender): Feature => {
  const { db } = ctx
  const materialiser = new Materialiser()

  const read = (workspaceId: string, draftId: string): Promise<Draft> => readDraft(db, workspaceId, draftId)
  const askedBy = (call: {
    readonly session: { readonly user: { readonly id: string } }
    readonly deviceId: Call['deviceId']
    readonly origin: string
  }): Asked => ({ userId: call.session.user.id, deviceId: call.deviceId, origin: call.origin })

  /** Whether this person wrote anything in the draft. */
  const isAuthor = async (draft: Draft, userId: string): Promise<boolean> => {
    const others = await sql<{ author_id: string }>`
      select distinct author_id from changes
      where workspace_id = ${draft.workspace_id} and document_id = ${draft.draft_id}`.execute(db)
    return others.rows.some(row => row.author_id === userId)
  }

  return {
    locators: { draft: id => workspaceOfDraft(db, id) },
    close: () => materialiser.close(),
    implementations: [
      implement(draftRoutes.list, async ({ member, query }) => ({
        drafts: await readDrafts(db, {
          workspaceId: member.workspaceId,
          ...(query.pipeline_id === undefined ? {} : { pipelineId: query.pipeline_id }),
          state: query.state,
        }),
      })),

      implement(draftRoutes.read, ({ member, params }) => read(member.workspaceId, params.draft_id)),

      implement(draftRoutes.requestReview, async call => {
        const draft = await read(call.member.workspaceId, call.params.draft_id)
        const asked = askedBy(call)
        await transact(db, async tx => {
          assertOpen(await lockDraft(tx, draft))
          await tx
            .updateTable('drafts')
            .set({
              state: 'review',
              message: call.body.message,
              requested_by: asked.userId,
              requested_at: ctx.clock.now(),
            })
            .where('id', '=', draft.draft_id)
            .execute()
          await told(ctx, tx, draft, asked, 'review', 'draft.request_review', {})
        })
        return await read(call.member.workspaceId, draft.draft_id)
      }),

      implement(draftRoutes.review, async call => {
        const { body, member } = call
        const draft = await read(member.workspaceId, call.params.draft_id)
        const asked = askedBy(call)
        /** Whether this review is there already: the same request may come twice. */
        const isThere = async (on: Kysely<Database>): Promise<boolean> => {
          const known = await on
            .selectFrom('draft_reviews')
            .select(['draft_id', 'reviewer'])
            .where('id', '=', body.review_id)
            .executeTakeFirst()
          if (known && (known.draft_id !== draft.draft_id || known.reviewer !== asked.userId))
            throw idTaken('review_id')
          return known !== undefined
        }
        if (await isThere(db)) return draft
        if (body.verdict === 'approved' && (await isAuthor(draft, asked.userId)))
          throw new AppError('draft.own_review', 'Nobody approves a draft that they wrote in.')
        if (sorted(draft.heads) !== sorted(body.heads))
          throw new AppError('draft.moved', 'The draft has changed since you looked at it.', {
            details: { heads: draft.heads },
          })
        const made = await transact(db, async tx => {
          const row = await lockDraft(tx, draft)
          // Its twin may have come between.
          if (await isThere(tx)) return false
          assertOpen(row)
          await sql`
            insert into draft_reviews (workspace_id, draft_id, id, place, reviewer, verdict, message, heads, at)
            select ${draft.workspace_id}, ${draft.draft_id}, ${body.review_id}, coalesce(max(place), 0) + 1,
              ${asked.userId}, ${body.verdict}, ${body.message}, ${draft.heads}, ${ctx.clock.now()}
            from draft_reviews where draft_id = ${draft.draft_id}`.execute(tx)
          await told(ctx, tx, draft, asked, row.state, 'draft.review', { verdict: body.verdict })
          return true
        })
        const reviewed = await read(member.workspaceId, draft.draft_id)
        return made ? created(reviewed) : reviewed
      }),

      implement(draftRoutes.merge, async call => {
        const draft = await read(call.member.workspaceId, call.params.draft_id)
        const { version, made } = await mergeDraft(ctx, { materialiser, appender }, draft, {
          ...askedBy(call),
          role: call.member.role,
          body: call.body,
        })
        return made ? created(version) : version
      }),

      implement(draftRoutes.close, async call => {
        const draft = await read(call.member.workspaceId, call.params.draft_id)
        // Asked again it is closed already.
        if (draft.state !== 'closed')
          await transact(db, tx => settle(ctx, tx, draft, askedBy(call), { state: 'closed' }))
        return await read(call.member.workspaceId, draft.draft_id)
      }),
    ],
  }
}
