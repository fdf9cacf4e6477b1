import { decodeChange } from '@automerge/automerge'
import { CommentsIndex } from '@pluto-duck/crdt-model'
import type { DocumentKind, Subject } from '@pluto-duck/crdt-model/protocol'
import { decodeChangeBytes } from './admission/decode.ts'
import { DocumentIndex } from './admission/document-index.ts'
import type { Refusal } from './admission/limits.ts'
import { checkStructure } from './admission/structure.ts'
import {
  type DocumentRow,
  type Executor,
  readDocumentChanges,
  readDocuments,
  readForeignIds,
  readSettled,
  type StoredChange,
} from './store.ts'

/** A document as admission holds it between pushes. It knows the log as its workspace's lane does, and what is being tried. */
export interface OpenDocument {
  readonly id: string
  readonly kind: DocumentKind
  readonly subject: Subject | null
  /** The document that a draft forks; null for every other one. A draft's index holds its base's changes as well. */
  readonly base: string | null
  readonly index: DocumentIndex
  /** Who wrote each of its own changes, by hash. */
  readonly authors: Map<string, string>
  /** Which object of a comments document is what; null for other kinds. */
  readonly comments: CommentsIndex | null
  title: string
  /** The numbers of its first and last change; 0 for one that is not stored yet. */
  createdSeq: number
  seq: number
  corrupt: string | null
  /** Actors that wrote into no draft of it; of a draft: into no other one. */
  readonly soleActors: Set<string>
  /** Hashes of its changes that were taken out of the log again. */
  readonly voided: Set<string>
  /** A draft that was merged or closed takes no more changes. */
  settled: boolean
  /** Of a draft: which of its own changes no other of them depends on, and how far its base's changes are in the index. */
  ownHeads: Set<string>
  baseSeq: number
  /** The log's number up to which everything that other servers appended to it is in the index. */
  upTo: number
  /** Changes that came into the index from the log since its last trial; null when they are too many to be told. */
  untold: Uint8Array[] | null
}

/** A document's heads as the log has them: of a draft those of its own changes, which say everything that it builds on. */
export const headsOf = (document: OpenDocument): string[] =>
  document.base === null ? document.index.headHashes : [...document.ownHeads].sort()

/** Makes a change that is in the index one of the document's own. */
export function own(document: OpenDocument, hash: string, deps: readonly string[], authorId: string): void {
  document.authors.set(hash, authorId)
  if (document.base === null) return
  for (const dep of deps) document.ownHeads.delete(dep)
  document.ownHeads.add(hash)
}

/** Bytes of changes that are kept to be told to a trial: with more it reads the document anew. */
const UNTOLD_BYTES = 256 * 1024

function tell(document: OpenDocument, bytes: Uint8Array): void {
  document.untold?.push(bytes)
  const size = document.untold?.reduce((sum, one) => sum + one.length, 0) ?? 0
  if (size > UNTOLD_BYTES) document.untold = null
}

export type Found = OpenDocument | 'foreign' | 'new'

/** Documents of one workspace, the least recently used forgotten first. */
export class OpenDocuments {
  private readonly workspaceId: string
  private readonly maxOps: number
  /** In order of last use. */
  private readonly open = new Map<string, OpenDocument>()

  private readonly onCorrupt: (documentId: string, reason: string) => void

  /**
   * @param maxOps operations that all indexes together may hold. They take about 10 bytes each.
   * @param onCorrupt called when the log holds a change that could not have been admitted; the document takes no more changes.
   */
  constructor(
    workspaceId: string,
    maxOps: number,
    onCorrupt: (documentId: string, reason: string) => void = () => {},
  ) {
    this.workspaceId = workspaceId
    this.maxOps = maxOps
    this.onCorrupt = onCorrupt
  }

  /**
   * Reads what is not open yet, as the log stands at `seq`, and what was appended elsewhere to what is: it is behind when it does
   * not reach `foreign`, the number up to which other servers may have appended.
   */
  async find(
    db: Executor,
    ids: readonly string[],
    seq: number,
    foreign: number,
  ): Promise<Map<string, Found>> {
    await this.catchUp(
      db,
      ids.flatMap(id => this.open.get(id) ?? []).filter(document => document.upTo < foreign),
      seq,
    )
    const found = new Map<string, Found>()
    const unknown: string[] = []
    for (const id of new Set(ids)) {
      const known = this.open.get(id)
      if (known) {
        this.open.delete(id)
        this.open.set(id, known)
        found.set(id, known)
      } else unknown.push(id)
    }
    for (const [id, document] of found) {
      if (typeof document === 'object') await this.inherit(db, document, seq, seq)
      // What it built on was taken out: it is read again from the start.
      if (this.open.get(id) !== document) unknown.push(id)
    }
    if (unknown.length === 0) return found

    const rows = await readDocuments(db, this.workspaceId, unknown)
    const ofLog = rows.filter(row => row.seq > 0)
    for (const row of ofLog) found.set(row.id, this.add(row, seq))
    for (const change of await readDocumentChanges(
      db,
      this.workspaceId,
      ofLog.filter(row => row.base === null).map(row => row.id),
      0,
      seq,
    ))
      this.learn(this.open.get(change.documentId)!, change)
    for (const document of found.values())
      if (typeof document === 'object') await this.inherit(db, document, 0, seq)
    // Its first trial loads it.
    for (const row of ofLog) {
      const document = this.open.get(row.id)
      if (document) document.untold = []
    }
    const missing = unknown.filter(id => !found.has(id))
    const elsewhere = missing.length === 0 ? new Set() : await readForeignIds(db, this.workspaceId, missing)
    for (const id of missing) found.set(id, elsewhere.has(id) ? 'foreign' : 'new')
    return found
  }

  /** Opens a document that the log does not have. */
  create(id: string, kind: DocumentKind, subject: Subject | null, seq: number): OpenDocument {
    return this.add({ id, kind, subject, base: null, heads: [], title: '', seq: 0, corrupt: null }, seq)
  }

  /** Opens a draft that the log does not have, on a document that it has; or says why there can be none. */
  async fork(db: Executor, id: string, base: string, seq: number): Promise<OpenDocument | Refusal> {
    const [row] = await readDocuments(db, this.workspaceId, [base])
    if (!row || row.seq === 0)
      return { code: 'missing_deps', reason: 'the document that it is a draft of is not in the log' }
    if (row.kind !== 'pipeline' || row.base !== null)
      return { code: 'invalid', reason: 'a draft is of a pipeline' }
    const draft = this.add({ ...row, id, base, heads: [], seq: 0 }, seq)
    await this.inherit(db, draft, seq, seq)
    return draft
  }

  /** Reads what was appended elsewhere to these documents. */
  private async catchUp(db: Executor, documents: readonly OpenDocument[], upTo: number): Promise<void> {
    if (documents.length === 0) return
    const after = Math.min(...documents.map(document => document.upTo))
    const whole = documents.filter(one => one.base === null).map(one => one.id)
    for (const change of await readDocumentChanges(db, this.workspaceId, whole, after, upTo)) {
      const document = this.open.get(change.documentId)
      if (!document) continue
      // What it took out is in the index: the document is read again from the start.
      if (change.state === 'void' && change.seq > document.upTo) this.open.delete(document.id)
      else this.learn(document, change)
    }
    for (const document of documents) await this.inherit(db, document, document.upTo, upTo)
    const ids = documents.map(document => document.id)
    for (const row of await readDocuments(db, this.workspaceId, ids)) {
      const document = this.open.get(row.id)
      if (!document) continue
      document.title = row.title
      document.upTo = upTo
    }
  }

  close(id: string): void {
    this.open.delete(id)
  }

  closeAll(): void {
    this.open.clear()
  }

  /** Forgets the least recently used until the limit is met; those in `keep` stay. */
  shrink(keep: ReadonlySet<string>): void {
    let ops = 0
    for (const document of this.open.values()) ops += document.index.opCount
    for (const [id, document] of this.open) {
      if (ops <= this.maxOps) return
      if (keep.has(id)) continue
      ops -= document.index.opCount
      this.open.delete(id)
    }
  }

  private add(row: DocumentRow, upTo: number): OpenDocument {
    const document: OpenDocument = {
      id: row.id,
      kind: row.kind,
      subject: row.subject,
      index: new DocumentIndex(),
      authors: new Map(),
      comments: row.kind === 'comments' ? new CommentsIndex() : null,
      title: row.title,
      createdSeq: 0,
      seq: 0,
      corrupt: row.corrupt,
      base: row.base,
      voided: new Set(),
      soleActors: new Set(),
      settled: false,
      ownHeads: new Set(),
      baseSeq: 0,
      upTo,
      untold: [],
    }
    this.open.set(row.id, document)
    return document
  }

  /**
   * Brings a draft up to the log's number: its own changes above `after`, the base's above what it has, in the order of the log,
   * in which every change comes after what it depends on. Does nothing for other documents.
   */
  private async inherit(db: Executor, draft: OpenDocument, after: number, upTo: number): Promise<void> {
    if (draft.base === null) return
    const from = Math.min(after, draft.baseSeq)
    const changes =
      from < upTo ? await readDocumentChanges(db, this.workspaceId, [draft.base, draft.id], from, upTo) : []
    for (const change of changes) {
      const known = change.documentId === draft.id ? after : draft.baseSeq
      if (change.seq <= known) continue
      if (change.state === 'void' && known > 0) this.open.delete(draft.id)
      this.learn(draft, change)
    }
    draft.baseSeq = upTo
    draft.settled = (await readSettled(db, [draft.id])).has(draft.id)
  }

  private learn(document: OpenDocument, change: StoredChange): void {
    if (change.state === 'void' || document.corrupt !== null) return
    if (change.state === 'voided') {
      document.voided.add(change.hash)
      return
    }
    const decoded = decodeChangeBytes(change.bytes)
    // What was merged is in both logs, whichever has it first.
    if (document.index.has(change.hash)) {
      if (decoded.ok && change.documentId === document.id)
        this.learnOwn(document, change, decoded.change.deps)
      return
    }
    const checked = decoded.ok ? checkStructure(document.index, decoded.change) : decoded
    if (!checked.ok) {
      document.corrupt = `change ${change.seq} could not have been admitted: ${checked.refusal.reason}`
      // Of a draft and its base it is the draft that cannot be: the base's log holds without it.
      this.onCorrupt(document.id, document.corrupt)
      return
    }
    document.index.add(checked.change)
    tell(document, change.bytes)
    if (change.documentId === document.id) this.learnOwn(document, change, checked.change.deps)
  }

  private learnOwn(document: OpenDocument, change: StoredChange, deps: readonly string[]): void {
    own(document, change.hash, deps, change.authorId)
    document.comments?.add(decodeChange(change.bytes))
    if (document.createdSeq === 0) document.createdSeq = change.seq
    document.seq = change.seq
  }
}
