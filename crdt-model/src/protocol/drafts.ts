import { z } from 'zod'
import { hash, id, timestamp } from './ids.ts'
import { LIMITS } from './limits.ts'
import { route } from './route.ts'
import { author, versionSummary } from './versions.ts'

/**
 * Drafts: forks of a pipeline that are reviewed and merged back. The draft itself is a document whose changes name their base
 * (`appendItem.base`); here is what people say about it.
 */
export const draftVerdict = z.enum(['approved', 'changes_requested'])
export const draftState = z.enum(['open', 'review', 'merged', 'closed'])

export const draftReview = z.strictObject({
  review_id: id,
  reviewer: author,
  verdict: draftVerdict,
  message: z.string(),
  /** The heads that the reviewer saw. */
  heads: z.array(hash),
  at: timestamp,
  /** It is the reviewer's last word, and the draft has not changed since: an approval holds for what was seen. */
  current: z.boolean(),
})

export const draft = z.strictObject({
  draft_id: id,
  workspace_id: id,
  pipeline_id: id,
  title: z.string(),
  state: draftState,
  /** What the last request for a review said. */
  message: z.string(),
  heads: z.array(hash),
  /** Its own changes, the one that opened it included. */
  changes: z.number().int().positive(),
  created_by: author,
  created_at: timestamp,
  updated_at: timestamp,
  requested_by: author.nullable(),
  requested_at: timestamp.nullable(),
  /** In the order in which they came. */
  reviews: z.array(draftReview),
  settled_by: author.nullable(),
  settled_at: timestamp.nullable(),
  /** The number of the version that it became. */
  version: z.number().int().positive().nullable(),
})
export type Draft = z.infer<typeof draft>
export type DraftReview = z.infer<typeof draftReview>

const params = z.strictObject({ draft_id: id })
const ofDraft = { of: 'draft', param: 'draft_id' } as const
const message = z.string().max(LIMITS.messageChars).default('')
const heads = z.array(hash).min(1).max(100)

export const draftRoutes = {
  list: route({
    id: 'draft.list',
    method: 'GET',
    path: '/v1/workspaces/:workspace_id/drafts',
    summary: 'The drafts of a workspace, newest first',
    access: 'draft.read',
    workspace: { in: 'params', field: 'workspace_id' },
    params: z.strictObject({ workspace_id: id }),
    query: z.strictObject({ pipeline_id: id.optional(), state: draftState.optional() }),
    etag: true,
    reply: z.strictObject({ drafts: z.array(draft) }),
  }),
  read: route({
    id: 'draft.read',
    method: 'GET',
    path: '/v1/drafts/:draft_id',
    summary: 'One draft with its reviews',
    access: 'draft.read',
    workspace: ofDraft,
    params,
    etag: true,
    reply: draft,
  }),
  requestReview: route({
    id: 'draft.request_review',
    method: 'POST',
    path: '/v1/drafts/:draft_id/review-requests',
    summary: 'Ask for a review, saying what changed and why; may be asked again',
    access: 'draft.write',
    workspace: ofDraft,
    params,
    body: z.strictObject({ message }),
    reply: draft,
  }),
  review: route({
    id: 'draft.review',
    method: 'POST',
    path: '/v1/drafts/:draft_id/reviews',
    summary: 'Approve a draft at given heads, or request changes; nobody reviews what only they wrote',
    access: 'draft.write',
    workspace: ofDraft,
    params,
    creates: true,
    body: z.strictObject({ review_id: id, verdict: draftVerdict, heads, message }),
    reply: draft,
  }),
  merge: route({
    id: 'draft.merge',
    method: 'POST',
    path: '/v1/drafts/:draft_id/merge',
    summary: 'Make the draft’s changes the pipeline’s and publish them on its current version, as one',
    access: 'draft.write',
    workspace: ofDraft,
    params,
    creates: true,
    body: z.strictObject({
      version_id: id,
      /** The draft's heads as the merger saw them: what came later is not merged unseen. */
      heads,
      /** The number of the current version that the merger saw; null when there was none. */
      parent: z.number().int().positive().nullable(),
      resolved: z.array(z.string().max(200)).max(1000).default([]),
      message,
    }),
    reply: versionSummary,
  }),
  close: route({
    id: 'draft.close',
    method: 'POST',
    path: '/v1/drafts/:draft_id/close',
    summary: 'End a draft without merging it; its changes stay readable',
    access: 'draft.write',
    workspace: ofDraft,
    params,
    body: z.strictObject({}),
    reply: draft,
  }),
} as const
