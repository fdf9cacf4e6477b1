import * as Automerge from '@automerge/automerge'
import type { LogItem, SnapshotItem } from '@pluto-duck/crdt-model/protocol'

/** What a replay of the log gave. */
export interface Replayed {
  readonly heads: string
  readonly content: string
}

const headsOf = (doc: Automerge.Doc<unknown>): string => Automerge.getHeads(doc).toSorted().join()
/** The order of keys is nobody's. */
const sorted = (_key: string, value: unknown): unknown =>
  value !== null && typeof value === 'object' && !Array.isArray(value)
    ? Object.fromEntries(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1)))
    : value
const contentOf = (doc: Automerge.Doc<unknown>): string => JSON.stringify(doc, sorted)

/** Documents by id, from their changes in the log's order; throws with the document's id when one breaks or comes out differently. */
export const replay = (items: readonly LogItem[]): Map<string, Replayed> => {
  const changes = new Map<string, LogItem[]>()
  for (const item of items) changes.set(item.document_id, [...(changes.get(item.document_id) ?? []), item])
  return new Map([...changes].map(([id, of]) => [id, replayOne(id, of)]))
}

const replayOne = (id: string, items: readonly LogItem[]): Replayed => {
  try {
    const bytes = items.map(item => item.bytes)
    let [doc] = Automerge.applyChanges(Automerge.init<unknown>(), bytes)
    const missing = Automerge.getMissingDeps(doc, [])
    if (missing.length > 0) throw new Error(`changes whose past is missing: ${missing.join()}`)
    const stored = new Set(items.map(item => item.hash))
    for (const change of bytes) {
      const { hash } = Automerge.decodeChange(change)
      if (!stored.has(hash)) throw new Error(`the change ${hash} is stored by another hash`)
    }
    const result = { heads: headsOf(doc), content: contentOf(doc) }
    same('loaded again', Automerge.load(Automerge.save(doc)), result)
    same('in another order', Automerge.applyChanges(Automerge.init(), bytes.toReversed())[0], result)
    Automerge.free(doc)
    doc = Automerge.init()
    for (const change of bytes) doc = Automerge.applyChanges(doc, [change])[0]
    same('one by one', doc, result)
    return result
  } catch (cause) {
    throw new Error(`the document ${id}: ${String(cause)}`, { cause })
  }
}

/** Compares a document with what it should be, and frees it. */
const same = (how: string, doc: Automerge.Doc<unknown>, { heads, content }: Replayed): void => {
  if (headsOf(doc) !== heads) throw new Error(`${how} it has other heads`)
  if (contentOf(doc) !== content)
    throw new Error(`${how} it has other content: ${contentOf(doc)} instead of ${content}`)
  Automerge.free(doc)
}

/** A document as a new device gets it is what the log says. */
export const compareWith = (item: SnapshotItem, replayed: Replayed | undefined): void => {
  if (!replayed) throw new Error(`the document ${item.document_id} is in the snapshot and not in the log`)
  if (item.heads.toSorted().join() !== replayed.heads)
    throw new Error(`the document ${item.document_id} says other heads than the log`)
  same(`from the snapshot, ${item.document_id}:`, Automerge.load(item.bytes), replayed)
}
