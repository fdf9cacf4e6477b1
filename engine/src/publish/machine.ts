import { hash, id, versionSummary } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'
import { errorBody } from '../contract/state.ts'

/**
 * Publishing one pipeline as a pure state machine: `step(state, event)` says what is next and what to do about it. Whoever
 * runs it stores the state *before* it carries out the effects; then a crash at any point is a `restarted` event.
 *
 * Invariants (PUB rules in SPEC.md; the tests check them against a model server over a network that loses and delays):
 * 1. A request keeps its `version_id` until a reply settles it, so a lost reply can publish it once only.
 * 2. `heads`, `parent` and `resolved` are fixed when a person asks. Nothing here changes them: what arrives between the
 *    review and the sending is neither published nor resolved by it, and a parent that moved is never overwritten.
 * 3. A request is sent only while the server can have its heads (`ready`), once at a time, and never again once settled.
 * 4. A request that may have been sent is never replaced: a newer one waits in `next` until the first is settled.
 */

export const publishRequest = z.object({
  version_id: id,
  workspace_id: id,
  pipeline_id: id,
  heads: z.array(hash).min(1),
  /** The number of the current version that the person saw; null when there was none. */
  parent: z.number().int().positive().nullable(),
  /** Marks that the person had looked at, at these heads. */
  resolved: z.array(z.string()),
  message: z.string(),
  /** The content hash of the working state at these heads; for a restore, the restored version's. */
  content_hash: hash,
})
export type PublishRequest = z.infer<typeof publishRequest>

/** Why a publish waits for a person. */
export const publishNeed = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('marks'), mark_ids: z.array(z.string()) }),
  /** Somebody published meanwhile; `current` is null when the reply did not say. */
  z.object({ kind: z.literal('moved'), current: versionSummary.nullable() }),
  z.object({ kind: z.literal('invalid'), error: errorBody }),
  z.object({ kind: z.literal('refused'), error: errorBody }),
])
export type PublishNeed = z.infer<typeof publishNeed>

const pending = {
  request: publishRequest,
  /** A reply was lost or not awaited: the server may have it already. */
  maybe_sent: z.boolean(),
  /** Replies of `unknown_heads` so far. */
  unknown_heads: z.number().int().nonnegative(),
  next: publishRequest.nullable(),
}
export const publishState = z.discriminatedUnion('state', [
  z.object({ state: z.literal('idle') }),
  z.object({ state: z.literal('queued'), ...pending }),
  z.object({ state: z.literal('sending'), ...pending }),
  z.object({ state: z.literal('needs_you'), request: publishRequest, need: publishNeed }),
  z.object({
    state: z.literal('published'),
    request: publishRequest,
    version: versionSummary,
    /** False when the current version had this content already. */
    created: z.boolean(),
  }),
])
export type PublishState = z.infer<typeof publishState>

export type PublishReply =
  | { readonly kind: 'stored'; readonly version: z.infer<typeof versionSummary>; readonly created: boolean }
  | { readonly kind: 'marks'; readonly markIds: readonly string[] }
  | { readonly kind: 'moved'; readonly current: z.infer<typeof versionSummary> | null }
  | { readonly kind: 'unknown_heads'; readonly error: z.infer<typeof errorBody> }
  | { readonly kind: 'invalid'; readonly error: z.infer<typeof errorBody> }
  | { readonly kind: 'refused'; readonly error: z.infer<typeof errorBody> }
  /** No reply, or one that becomes another one later (5xx, 429, signed out): it may be there, or not. */
  | { readonly kind: 'lost' }

export type PublishEvent =
  | { readonly kind: 'requested'; readonly request: PublishRequest }
  /** Connected, and every change up to the request's heads is stored on the server. */
  | { readonly kind: 'ready' }
  /** Going offline changes no state: whoever sends does not send, and a reply that fails is `lost`. */
  | { readonly kind: 'offline' }
  | { readonly kind: 'replied'; readonly versionId: string; readonly reply: PublishReply }
  /** The host started again: nothing is in flight any more. */
  | { readonly kind: 'restarted' }
  /** A person put aside what waits for them. */
  | { readonly kind: 'dismissed' }

export type PublishEffect =
  | { readonly do: 'send'; readonly request: PublishRequest }
  | { readonly do: 'sync' }

export interface Step {
  readonly state: PublishState
  /** To be carried out after the state is stored. */
  readonly effects: readonly PublishEffect[]
}

/** After so many `unknown_heads`, each with a sync between, the heads are not on their way: a person has to look. */
export const UNKNOWN_HEADS_LIMIT = 3

export const IDLE: PublishState = { state: 'idle' }
const stay = (state: PublishState): Step => ({ state, effects: [] })

export function step(state: PublishState, event: PublishEvent): Step {
  switch (event.kind) {
    case 'requested':
      return requested(state, event.request)
    case 'ready':
      if (state.state !== 'queued') return stay(state)
      return {
        state: { ...state, state: 'sending', maybe_sent: true },
        effects: [{ do: 'send', request: state.request }],
      }
    case 'offline':
      return stay(state)
    case 'replied':
      // A reply to a request that is settled, or to none of ours, says nothing new.
      if (state.state !== 'sending' || state.request.version_id !== event.versionId) return stay(state)
      return replied(state, event.reply)
    case 'restarted':
      return stay(state.state === 'sending' ? { ...state, state: 'queued' } : state)
    case 'dismissed':
      return stay(state.state === 'needs_you' || state.state === 'published' ? IDLE : state)
  }
}

function requested(state: PublishState, request: PublishRequest): Step {
  if (state.state === 'sending' || (state.state === 'queued' && state.maybe_sent)) {
    if (state.request.version_id === request.version_id) return stay(state)
    return stay({ ...state, next: request })
  }
  return {
    state: { state: 'queued', request, maybe_sent: false, unknown_heads: 0, next: null },
    effects: [{ do: 'sync' }],
  }
}

type Sending = Extract<PublishState, { state: 'sending' }>

function replied(state: Sending, reply: PublishReply): Step {
  switch (reply.kind) {
    case 'stored': {
      if (state.next === null)
        return stay({
          state: 'published',
          request: state.request,
          version: reply.version,
          created: reply.created,
        })
      // The newer request was made by somebody who had the first one before their eyes, so when both saw the same parent
      // the first is the newer's parent. Otherwise the newer keeps its own, and the server says if it moved.
      const follows = state.next.parent === state.request.parent
      return requested(IDLE, follows ? { ...state.next, parent: reply.version.number } : state.next)
    }
    case 'lost':
      return stay({ ...state, state: 'queued' })
    case 'unknown_heads': {
      const count = state.unknown_heads + 1
      if (count >= UNKNOWN_HEADS_LIMIT) return needsYou(state, { kind: 'refused', error: reply.error })
      return {
        state: { ...state, state: 'queued', maybe_sent: false, unknown_heads: count },
        effects: [{ do: 'sync' }],
      }
    }
    case 'marks':
      return needsYou(state, { kind: 'marks', mark_ids: [...reply.markIds] })
    case 'moved':
      return needsYou(state, { kind: 'moved', current: reply.current })
    case 'invalid':
      return needsYou(state, { kind: 'invalid', error: reply.error })
    case 'refused':
      return needsYou(state, { kind: 'refused', error: reply.error })
  }
}

/** The first was refused for good, so a newer request stands on its own: it was made with what was known then. */
function needsYou(state: Sending, need: PublishNeed): Step {
  return state.next === null
    ? stay({ state: 'needs_you', request: state.request, need })
    : requested(IDLE, state.next)
}
