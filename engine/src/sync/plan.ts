import type { AppendVerdict, Refusal } from '@pluto-duck/crdt-model/protocol'
import type { OwnRecord } from '../documents/index.ts'

/**
 * What to do next, decided purely. The loop in sync.ts gathers a `SyncView`, asks `nextAction` and carries it out;
 * `judge` says what follows from the verdicts on a push. Nothing in here waits or fails.
 */
export interface SyncView {
  readonly paused: boolean
  /** Is there a session's token? */
  readonly signedIn: boolean
  /** Everything up to here is stored on this machine; null before the first sync. */
  readonly cursor: number | null
  /** The server's seq as last heard; null when it was not heard since the start. */
  readonly serverSeq: number | null
  /** The log has more than the last page. */
  readonly more: boolean
  /** Changes in the outbox. */
  readonly waiting: number
  /** Comparing the digests: not done since the last change, equal, or different. */
  readonly digest: 'unknown' | 'equal' | 'different'
  /** Healings in a row that did not help. */
  readonly healed: number
  readonly failures: number
}

export type SyncAction =
  | { readonly do: 'rest'; readonly why: 'paused' | 'signed_out' }
  | { readonly do: 'snapshot' }
  | { readonly do: 'pull' }
  | { readonly do: 'push' }
  | { readonly do: 'heal' }
  /** Compare the digests, unless something happens within a moment: then it would have to be done again. */
  | { readonly do: 'compare' }
  /** Nothing to do until something happens here or there. */
  | { readonly do: 'listen' }

/** Healing that often in a row did not help: a person has to see it. */
export const HEAL_LIMIT = 2

export function nextAction(view: SyncView): SyncAction {
  if (view.paused) return { do: 'rest', why: 'paused' }
  if (!view.signedIn) return { do: 'rest', why: 'signed_out' }
  if (view.cursor === null) return { do: 'snapshot' }
  if (view.more || view.serverSeq === null || view.serverSeq > view.cursor) return { do: 'pull' }
  if (view.waiting > 0) return { do: 'push' }
  if (view.digest === 'different' && view.healed < HEAL_LIMIT) return { do: 'heal' }
  if (view.digest === 'unknown') return { do: 'compare' }
  return { do: 'listen' }
}

/** Connected and nothing of the others is missing: what is written now is written beside them (DESIGN 3, conflicts). */
export const isLive = (view: SyncView): boolean =>
  !view.paused &&
  view.signedIn &&
  view.failures === 0 &&
  view.cursor !== null &&
  view.serverSeq !== null &&
  !view.more &&
  view.serverSeq <= view.cursor

export const inSync = (view: SyncView): boolean =>
  isLive(view) && view.waiting === 0 && view.digest === 'equal'

/** How long to wait after so many failures: 0.5 s doubling to 30 s, of which a random part (0 to 1) is left out. */
export const backOffMs = (failures: number, random: number): number =>
  Math.min(30_000, 500 * 2 ** Math.min(failures - 1, 10)) * (1 - random / 2)

export interface PushedChange {
  readonly documentId: string
  readonly hash: string
}

export interface PushOutcome {
  /** What left the outbox, with the server's record. */
  readonly stored: readonly OwnRecord[]
  /** Documents to take back: the first refusal of each, for good. */
  readonly refused: ReadonlyMap<string, { readonly code: Refusal; readonly reason: string }>
  /** Documents whose refusal may end after a sync; tried once more. */
  readonly again: ReadonlySet<string>
}

/**
 * What follows from the verdicts on a push. `tried` are documents that had their second try. A change without a verdict (the
 * answer was cut) stays where it is. `missing_deps` and `actor` can end after a sync, once; the others never.
 */
export function judge(
  pushed: readonly PushedChange[],
  verdicts: readonly AppendVerdict[],
  tried: ReadonlySet<string>,
): PushOutcome {
  const stored: OwnRecord[] = []
  const refused = new Map<string, { code: Refusal; reason: string }>()
  const again = new Set<string>()
  for (const verdict of verdicts) {
    const change = pushed[verdict.index]
    if (!change) continue
    const { documentId, hash } = change
    if (verdict.status === 'stored') {
      const { seq, received_at, live, author_id } = verdict
      stored.push({ documentId, hash, seq, receivedAt: received_at, live, authorId: author_id })
      continue
    }
    // Behind the first refusal the rest of the tail is refused too, for lack of it: the first one says why.
    if (refused.has(documentId) || again.has(documentId)) continue
    const mayEnd = verdict.code === 'missing_deps' || verdict.code === 'actor'
    if (mayEnd && !tried.has(documentId)) again.add(documentId)
    else refused.set(documentId, { code: verdict.code, reason: verdict.reason })
  }
  return { stored, refused, again }
}

/** Batches that follow what the way can carry: doubled after a quick answer, halved after a slow or failed one. */
export const nextBatch = (size: number, tookMs: number | null, max: number): number =>
  tookMs === null || tookMs > 2_000 ? Math.max(10, Math.floor(size / 2)) : Math.min(max, size * 2)
