import { decodeChange } from '@automerge/automerge'
import { CommentsIndex } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { DocumentKind, Subject } from '@pluto-duck/crdt-model/protocol'
import { decodeChangeBytes } from './admission/decode.ts'
import { DocumentIndex } from './admission/document-index.ts'
import { checkStructure } from './admission/structure.ts'
import {
  type DocumentRow,
  type Executor,
  readDocumentChanges,
  readDocuments,
  readForeignIds,
  type StoredChange,
} from './store.ts'

/** A document as admission holds it between pushes. It knows the log up to its workspace's `seq`, and what is being tried. */
export interface OpenDocument {
  readonly id: string
  readonly kind: DocumentKind
  readonly subject: Subject | null
  readonly index: DocumentIndex
  /** Who wrote each change, by hash. */
  readonly authors: Map<string, string>
  /** Which object of a comments document is what; null for other kinds. */
  readonly comments: CommentsIndex | null
  title: string
  /** The numbers of its first and last change; 0 for one that is not stored yet. */
  createdSeq: number
  seq: number
  readonly corrupt: string | null
}

export type Found = OpenDocument | 'foreign' | 'new'

/** Documents of one workspace, the least recently used forgotten first. */
export class OpenDocuments {
  private readonly workspaceId: string
  private readonly maxOps: number
  /** In order of last use. */
  private readonly open = new Map<string, OpenDocument>()

  /** @param maxOps operations that all indexes together may hold. They take about 10 bytes each. */
  constructor(workspaceId: string, maxOps: number) {
    this.workspaceId = workspaceId
    this.maxOps = maxOps
  }

  /** Reads what is not open yet, as the log stands at `seq`. */
  async find(db: Executor, ids: readonly string[], seq: number): Promise<Map<string, Found>> {
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
    if (unknown.length === 0) return found

    const rows = await readDocuments(db, this.workspaceId, unknown)
    const ofLog = rows.filter(row => row.seq > 0)
    for (const row of ofLog) found.set(row.id, this.add(row))
    for (const change of await readDocumentChanges(
      db,
      this.workspaceId,
      ofLog.map(row => row.id),
      0,
      seq,
    ))
      this.learn(change)
    const missing = unknown.filter(id => !found.has(id))
    const foreign = missing.length === 0 ? new Set() : await readForeignIds(db, this.workspaceId, missing)
    for (const id of missing) found.set(id, foreign.has(id) ? 'foreign' : 'new')
    return found
  }

  /** Opens a document that the log does not have. */
  create(id: string, kind: DocumentKind, subject: Subject | null): OpenDocument {
    return this.add({ id, kind, subject, base: null, heads: [], title: '', seq: 0, corrupt: null })
  }

  /** Reads what was appended elsewhere to the documents that are open. */
  async catchUp(db: Executor, after: number, upTo: number): Promise<void> {
    const ids = [...this.open.keys()]
    if (ids.length === 0 || upTo <= after) return
    for (const change of await readDocumentChanges(db, this.workspaceId, ids, after, upTo)) this.learn(change)
    for (const row of await readDocuments(db, this.workspaceId, ids)) this.open.get(row.id)!.title = row.title
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

  private add(row: DocumentRow): OpenDocument {
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
    }
    this.open.set(row.id, document)
    return document
  }

  private learn(change: StoredChange): void {
    const document = this.open.get(change.documentId)!
    const decoded = decodeChangeBytes(change.bytes)
    const checked = decoded.ok ? checkStructure(document.index, decoded.change) : decoded
    if (!checked.ok) {
      this.open.delete(change.documentId)
      throw new AppError(
        'document.corrupt',
        'A change in the log is not one that could have been admitted.',
        {
          details: { document_id: change.documentId, seq: change.seq, reason: checked.refusal.reason },
        },
      )
    }
    document.index.add(checked.change)
    document.authors.set(change.hash, change.authorId)
    document.comments?.add(decodeChange(change.bytes))
    if (document.createdSeq === 0) document.createdSeq = change.seq
    document.seq = change.seq
  }
}
