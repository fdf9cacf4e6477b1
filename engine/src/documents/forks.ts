import * as A from '@automerge/automerge'
import { composeDraft, forkAt, splitChanges } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { SnapshotItem } from '@pluto-duck/crdt-model/protocol'

/**
 * Drafts on this machine. A draft's rows are its own changes; its snapshot, where it has one, is the changes as the server sent them,
 * one behind the other. What they build on is in the base document.
 */
type Doc = A.Doc<unknown>

interface Rows {
  readonly snapshot: Uint8Array | null
  readonly changes: readonly { readonly hash: string; readonly bytes: Uint8Array }[]
}

/** A draft's own changes, without those of `except`. */
export const ownChanges = (
  { snapshot, changes }: Rows,
  except?: ReadonlyMap<string, unknown>,
): Uint8Array[] => [
  ...(snapshot ? splitChanges(snapshot) : []),
  ...changes.filter(change => !except?.has(change.hash)).map(change => change.bytes),
]

export const buildDraft = (base: Doc, own: readonly Uint8Array[], actor?: string): Doc =>
  composeDraft(base, own, actor === undefined ? {} : { actor })

/** Where in its base a draft stands: what its own changes depend on and is none of them. Nothing before its first change. */
export const baseHeads = (own: readonly Uint8Array[]): string[] => {
  const decoded = own.map(bytes => A.decodeChange(bytes))
  const hashes = new Set(decoded.map(change => change.hash))
  return [...new Set(decoded.flatMap(change => change.deps))].filter(dep => !hashes.has(dep)).sort()
}

/**
 * The draft with what incoming changes of it build on in its base, which may have gone on. Without it in the base the draft is
 * answered as it was: the changes are refused then for what they miss.
 */
export const topUp = (draft: Doc, base: Doc, incoming: readonly Uint8Array[]): Doc => {
  const missing = baseHeads(incoming).filter(dep => !A.hasHeads(draft, [dep]))
  if (missing.length === 0 || !A.hasHeads(base, missing)) return draft
  const part = forkAt(base, missing)
  const next = A.merge(draft, part)
  A.free(part)
  return next
}

/** Hashes of a draft's own changes here that the server's item of it does not have. */
export const extraChanges = (own: readonly Uint8Array[], item: SnapshotItem): Uint8Array[] => {
  const there = new Set(splitChanges(item.bytes).map(bytes => A.decodeChange(bytes).hash))
  return own.filter(bytes => !there.has(A.decodeChange(bytes).hash))
}

export const notFork = () =>
  new AppError('request.invalid', 'A draft is of a pipeline, and not of another draft.', {
    hint: 'Open the draft on the pipeline itself.',
  })
