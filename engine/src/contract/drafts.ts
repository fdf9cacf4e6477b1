import { documentKind, draftReview } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'
import { comparison } from './comparison.ts'
import { method } from './method.ts'
import { errorBody, mark } from './state.ts'
import { hash, id, timestamp, versionSummary } from './wire.ts'

/**
 * Two things have the word: a *draft* is a fork of a pipeline that people review and merge (`draft.*`); a *local draft* is an edit
 * that the server refused, kept on this machine (`local_draft.*`).
 */
const done = z.strictObject({ ok: z.literal(true) })
const ofDraft = z.strictObject({ draft_id: id })
const message = z.string().max(10_000).default('')
const title = z.string().min(1).max(200)
/** Where a draft starts, or what it takes in: the current version, or the pipeline as it is edited now. */
const from = z.enum(['current', 'working'])

export const draftEntry = z.strictObject({
  draft_id: id,
  pipeline_id: id,
  pipeline: z.string(),
  title: z.string(),
  /** `unsent`: only this machine has it. */
  state: z.enum(['unsent', 'open', 'review', 'merged', 'closed']),
  /** What the request for a review said. */
  message: z.string(),
  heads: z.array(hash),
  /** Its own changes that wait to be sent. */
  waiting: z.number().int().nonnegative(),
  created_by: z.string().nullable(),
  created_at: timestamp.nullable(),
  requested_by: z.string().nullable(),
  reviews: z.array(draftReview),
  /** The version that it became. */
  version: z.number().int().positive().nullable(),
  /** False when the server could not be asked: state and reviews are what was known last, or nothing. */
  fresh: z.boolean(),
})
export type DraftEntry = z.infer<typeof draftEntry>

export const localDraft = z.strictObject({
  draft_id: id,
  document_id: id,
  kind: documentKind,
  /** The pipeline's or draft's name, or what the comments are about. */
  title: z.string(),
  /** Why the server refused it. */
  code: z.string(),
  reason: z.string(),
  changes: z.number().int(),
  created_at: timestamp,
})

export const draftMethods = {
  'draft.list': method({
    summary: 'Drafts of pipelines, newest first',
    input: z.strictObject({ pipeline_id: id.optional() }),
    output: z.strictObject({ drafts: z.array(draftEntry) }),
  }),
  'draft.read': method({ summary: 'One draft with its reviews', input: ofDraft, output: draftEntry }),
  'draft.create': method({
    summary: 'Open a draft of a pipeline; works offline. Its id opens as a document, like a pipeline’s',
    input: z.strictObject({ draft_id: id, pipeline_id: id, title, from: from.default('current') }),
    output: draftEntry,
  }),
  'draft.compare': method({
    summary: 'A draft beside its pipeline where it stands on it',
    input: ofDraft,
    output: comparison,
  }),
  'draft.take_in': method({
    summary: 'Merge what the pipeline became into a draft',
    input: ofDraft.extend({ from: from.default('current') }),
    output: z.strictObject({ changed: z.boolean() }),
  }),
  'draft.request_review': method({
    summary: 'Ask for a review, saying what changed and why',
    input: ofDraft.extend({ message }),
    output: draftEntry,
  }),
  'draft.review': method({
    summary: 'Approve a draft as it is here now, or request changes',
    input: ofDraft.extend({ verdict: z.enum(['approved', 'changes_requested']), message }),
    output: draftEntry,
  }),
  'draft.merge': method({
    summary: 'Make a draft’s changes the pipeline’s and publish them',
    input: ofDraft.extend({
      message,
      /** Somebody has looked at every place that the draft and the pipeline both changed. */
      resolve: z.boolean().default(false),
    }),
    output: z.discriminatedUnion('state', [
      z.strictObject({ state: z.literal('merged'), version: versionSummary, created: z.boolean() }),
      z.strictObject({ state: z.literal('marks'), marks: z.array(mark) }),
      z.strictObject({ state: z.literal('moved'), current: versionSummary.nullable() }),
      z.strictObject({ state: z.literal('refused'), error: errorBody }),
    ]),
  }),
  'draft.close': method({
    summary: 'End a draft without merging it; it stays readable',
    input: ofDraft,
    output: draftEntry,
  }),

  'local_draft.list': method({
    summary: 'Refused edits, kept as private drafts',
    input: z.strictObject({}),
    output: z.strictObject({ drafts: z.array(localDraft) }),
  }),
  'local_draft.compare': method({
    summary: 'A local draft beside the document; comments as their text',
    input: ofDraft,
    output: comparison,
  }),
  'local_draft.export': method({
    summary: 'A local draft as a folder of files; of comments, one text',
    input: ofDraft,
    output: z.strictObject({ files: z.record(z.string(), z.string()) }),
  }),
  'local_draft.apply': method({
    summary: 'Apply a pipeline’s local draft to it again, as your edit',
    input: ofDraft,
    output: done,
  }),
  'local_draft.send': method({
    summary: 'Make a local draft a draft that others can review; the local draft is gone then',
    input: ofDraft.extend({ new_draft_id: id, title }),
    output: draftEntry,
  }),
  'local_draft.discard': method({ summary: 'Throw a local draft away', input: ofDraft, output: done }),
} as const
