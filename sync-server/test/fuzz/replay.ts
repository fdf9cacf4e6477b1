import * as Automerge from '@automerge/automerge'
import type { LogItem, SnapshotItem } from '@pluto-duck/crdt-model/protocol'

/** What a replay of the log gave. */
export interface Replayed {
  /** As the server says them: for a draft those of its own changes. */
  readonly heads: string
  readonly content: string
  /** For a draft the changes of its base, without which it cannot be loaded. */
  readonly base: readonly Uint8Array[]
}

const headsOf = (doc: Automerge.Doc<unknown>): string => Automerge.getHeads(doc).toSorted().join()
/** The order of keys is nobody's. */
const sorted = (_key: string, value: unknown): unknown =>
  value !== null && typeof value === 'object' && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)))
    : value
const contentOf = (doc: Automerge.Doc<unknown>): string => JSON.stringify(doc, sorted)

/**
 * Documents by id, from their changes in the log's order; throws with the document's id when one breaks or comes out differently. Drafts
 * and their bases have to be among the same items.
 */
export const replay = (items: readonly LogItem[]): Map<string, Replayed> => {
  const changes = new Map<string, LogItem[]>()
  for (const item of items) changes.set(item.document_id, [...(changes.get(item.document_id) ?? []), item])
  return new Map([...changes].map(([id, own]) => [id, replayOne(id, own, changes)]))
}

const replayOne = (
  id: string,
  own: readonly LogItem[],
  all: ReadonlyMap<string, readonly LogItem[]>,
): Replayed => {
  try {
    const stored = new Set(own.map(item => item.hash))
    const named = new Set<string>()
    for (const { bytes } of own) {
      const { hash, deps } = Automerge.decodeChange(bytes)
      if (!stored.has(hash)) throw new Error(`the change ${hash} is stored by another hash`)
      for (const dep of deps) named.add(dep)
    }
    const baseId = own[0]?.base ?? null
    const base = baseId === null ? [] : (all.get(baseId) ?? [])
    const bytes = [...base, ...own].toSorted((a, b) => a.seq - b.seq).map(item => item.bytes)

    let [doc] = Automerge.applyChanges(Automerge.init<unknown>(), bytes)
    const missing = Automerge.getMissingDeps(doc, [])
    if (missing.length > 0) throw new Error(`changes whose past is missing: ${missing.join()}`)
    const whole = { heads: headsOf(doc), content: contentOf(doc) }
    same('loaded again', Automerge.load(Automerge.save(doc)), whole)
    same('in another order', Automerge.applyChanges(Automerge.init(), bytes.toReversed())[0], whole)
    Automerge.free(doc)
    doc = Automerge.init()
    for (const change of bytes) doc = Automerge.applyChanges(doc, [change])[0]
    same('one by one', doc, whole)

    const heads = [...stored]
      .filter(hash => !named.has(hash))
      .toSorted()
      .join()
    if (baseId === null && heads !== whole.heads) throw new Error('it has other heads than its changes')
    return { heads, content: whole.content, base: base.map(item => item.bytes) }
  } catch (cause) {
    throw new Error(`the document ${id}: ${String(cause)}`, { cause })
  }
}

/** Compares a document with what it should be, and frees it. */
const same = (
  how: string,
  doc: Automerge.Doc<unknown>,
  { heads, content }: { readonly heads: string | null; readonly content: string },
): void => {
  if (heads !== null && headsOf(doc) !== heads) throw new Error(`${how} it has other heads`)
  if (contentOf(doc) !== content)
    throw new Error(`${how} it has other content: ${contentOf(doc)} instead of ${content}`)
  Automerge.free(doc)
}

/** A document as a new device gets it is what the log says. */
export const compareWith = (item: SnapshotItem, replayed: Replayed | undefined): void => {
  if (!replayed) throw new Error(`the document ${item.document_id} is in the snapshot and not in the log`)
  if (item.heads.toSorted().join() !== replayed.heads)
    throw new Error(`the document ${item.document_id} says other heads than the log`)
  const how = `from the snapshot, ${item.document_id}:`
  if (item.base === null) same(how, Automerge.load(item.bytes), replayed)
  else {
    const [base] = Automerge.applyChanges(Automerge.init<unknown>(), [...replayed.base])
    same(how, Automerge.loadIncremental(base, item.bytes), { heads: null, content: replayed.content })
  }
}
