import * as A from '@automerge/automerge'
import {
  createPipeline,
  makeEqualTo,
  type PipelineDoc,
  pipelineFromDoc,
  rebaseDefinition,
} from '@pluto-duck/crdt-model'
import { decodeVoid, type LogItem, type VoidRecord, voidedBy } from '@pluto-duck/crdt-model/protocol'
import { describeChanges, type StoredChange } from './admit.ts'

type Doc = A.Doc<unknown>

/** What void records and the changes beside them make of a document's changes. */
export interface Sorted {
  /** What the server has of the document after it, each after what it depends on. */
  readonly kept: readonly StoredChange[]
  /** Not acknowledged yet, and still fitting. */
  readonly waiting: readonly StoredChange[]
  /** Not acknowledged, and building on what was taken out. */
  readonly lost: readonly StoredChange[]
  /** Taken out of what the server had acknowledged. */
  readonly voided: readonly StoredChange[]
  /** Some of it was erased: its bytes may not stay here. */
  readonly erase: boolean
  readonly reason: string
}

export const isVoid = (item: LogItem): boolean => item.record === 'void'

/**
 * Sorts a document's changes, those that are here and those that come with the void records. `unacknowledged` are the hashes
 * that the server has not stored, as far as this machine knows.
 */
export function sortVoided(
  here: readonly StoredChange[],
  unacknowledged: ReadonlySet<string>,
  items: readonly LogItem[],
): Sorted {
  const records: VoidRecord[] = items.filter(isVoid).map(item => decodeVoid(item.bytes))
  const known = new Set(here.map(change => change.hash))
  const arrived = describeChanges(items.filter(item => !isVoid(item)).map(item => item.bytes))
  const stored = new Set(arrived.map(change => change.hash))
  const all = [...here, ...arrived.filter(change => !known.has(change.hash))]
  const out = voidedBy(
    records.flatMap(record => record.hashes),
    all,
  )
  const waits = (change: StoredChange): boolean => unacknowledged.has(change.hash) && !stored.has(change.hash)
  return {
    kept: all.filter(change => !out.has(change.hash) && !waits(change)),
    waiting: all.filter(change => !out.has(change.hash) && waits(change)),
    lost: all.filter(change => out.has(change.hash) && waits(change)),
    voided: all.filter(change => out.has(change.hash) && !waits(change)),
    erase: records.some(record => record.erase),
    reason: records.map(record => record.reason).join(' '),
  }
}

/** Hashes that no other of these changes depends on, sorted. */
export const headsOf = (changes: readonly StoredChange[]): string[] => {
  const heads = new Set(changes.map(change => change.hash))
  for (const { deps } of changes) for (const dep of deps) heads.delete(dep)
  return [...heads].sort()
}

/** Bytes of a document that can be loaded: of one that does not load what it was made of, the content in a new history. */
export function loadable(doc: Doc): Uint8Array {
  const bytes = A.save(doc)
  try {
    A.free(A.load<unknown>(bytes))
    return bytes
  } catch {
    // It holds the very change that was taken out.
    const content = createPipeline(pipelineFromDoc(doc as A.Doc<PipelineDoc>))
    const saved = A.save(content)
    A.free(content)
    return saved
  }
}

/**
 * Edits that were made on a history which was erased, as edits of the document as it is now: nothing of the old history is in the
 * bytes. Null when nothing of them is left.
 */
export function rebased(edits: { readonly base: Doc; readonly mine: Doc }, now: Doc): Uint8Array | null {
  const definitionOf = (doc: Doc) => pipelineFromDoc(doc as A.Doc<PipelineDoc>)
  const wanted = rebaseDefinition({
    base: definitionOf(edits.base),
    mine: definitionOf(edits.mine),
    theirs: definitionOf(now),
  })
  const copy = A.clone(now) as A.Doc<PipelineDoc>
  const next = makeEqualTo(copy, wanted, 'edits that waited')
  const same = A.getHeads(next).join() === A.getHeads(now).join()
  const bytes = same ? null : A.save(next)
  A.free(next)
  return bytes
}
