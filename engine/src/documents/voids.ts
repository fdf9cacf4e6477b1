import * as A from '@automerge/automerge'
import { createPipeline, type PipelineDoc, pipelineFromDoc } from '@pluto-duck/crdt-model'
import { decodeVoid, type LogItem, type VoidRecord, voidedBy } from '@pluto-duck/crdt-model/protocol'
import { describeChanges, type StoredChange } from './admit.ts'
import type { DocumentInfo } from './rows.ts'

type Doc = A.Doc<unknown>

/** What is said of one document: what is taken out of it, and what the server has of it besides, as far as that came along. */
export interface Voiding
  extends Pick<DocumentInfo, 'workspaceId' | 'documentId' | 'kind' | 'subject' | 'base'> {
  readonly records: readonly VoidRecord[]
  /** Changes, each after what it depends on. */
  readonly arrived: readonly Uint8Array[]
}

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

export const recordsOf = (items: readonly LogItem[]): VoidRecord[] =>
  items.filter(isVoid).map(item => decodeVoid(item.bytes))

/** What the items of one document say. */
export const voidingOf = (workspaceId: string, items: readonly LogItem[]): Voiding => {
  const { document_id: documentId, kind, subject, base } = items[0] as LogItem
  const arrived = items.filter(item => !isVoid(item)).map(item => item.bytes)
  return { workspaceId, documentId, kind, subject, base, records: recordsOf(items), arrived }
}

/**
 * Sorts a document's changes, those that are here and those that come with the void records. `unacknowledged` are the hashes
 * that the server has not stored, as far as this machine knows; `outside` is what is out of the document that it is a draft of.
 */
export function sortVoided(
  here: readonly StoredChange[],
  unacknowledged: ReadonlySet<string>,
  { records, arrived }: Pick<Voiding, 'records' | 'arrived'>,
  outside: Iterable<string> = [],
): Sorted {
  const known = new Set(here.map(change => change.hash))
  const came = describeChanges(arrived)
  const stored = new Set(came.map(change => change.hash))
  const all = [...here, ...came.filter(change => !known.has(change.hash))]
  const out = voidedBy([...records.flatMap(record => record.hashes), ...outside], all)
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
    return withoutHistory(doc)
  }
}

/** The bytes of a pipeline's content in a new history. */
export function withoutHistory(doc: Doc): Uint8Array {
  const content = createPipeline(pipelineFromDoc(doc as A.Doc<PipelineDoc>))
  const bytes = A.save(content)
  A.free(content)
  return bytes
}
