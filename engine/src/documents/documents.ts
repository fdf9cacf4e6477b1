import { randomUUID } from 'node:crypto'
import * as A from '@automerge/automerge'
import {
  createPipeline,
  displayName,
  draftTitle,
  forkAt,
  forkDraft,
  makeEqualTo,
  type PipelineDoc,
  pipelineFromDoc,
  splitChanges,
} from '@pluto-duck/crdt-model'
import { AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import { type LogItem, newId, type SnapshotItem, type Subject } from '@pluto-duck/crdt-model/protocol'
import { type Clock, isoTime } from '../clock.ts'
import type { State, Statements } from '../state/index.ts'
import { applyTried, Checked, decodeLocal, describeChanges, type StoredChange } from './admit.ts'
import {
  type LocalDraft,
  type LocalDraftEntry,
  listDrafts,
  putDraft,
  readDraft,
  removeDraft,
} from './drafts.ts'
import { baseHeads, buildDraft, extraChanges, notFork, ownChanges, topUp } from './forks.ts'
import {
  type Added,
  addDocuments,
  type DocumentInfo,
  forgetContent,
  putChanges,
  putInfo,
  putSnapshot,
  readDocument,
  readIndex,
  removeFromOutbox,
} from './rows.ts'
import { assertWrittenBefore, OWN_SCHEMA, type Schema, schemaOf, tooNew, upgradesOf } from './schema.ts'
import { Serial } from './serial.ts'
import { storedBytes } from './stored-bytes.ts'
import { headsOf, isVoid, loadable, rebased, type Sorted, sortVoided } from './voids.ts'

type Doc = A.Doc<unknown>

export type DocumentEvent =
  /** Changes that are durable here and that views other than `origin` do not have yet. */
  | {
      readonly kind: 'changes'
      readonly documentId: string
      readonly changes: readonly Uint8Array[]
      readonly origin: string
    }
  /** The document was taken back to what the server has: open it again, with a new actor. */
  | { readonly kind: 'reset'; readonly documentId: string; readonly draftId: string | null }
  /** The list of documents or local drafts of a workspace changed. */
  | { readonly kind: 'listed'; readonly workspaceId: string; readonly documentId: string }
  /** Something waits in the outbox. */
  | { readonly kind: 'queued'; readonly workspaceId: string }
  /** The document was found to be unreadable. */
  | { readonly kind: 'unreadable'; readonly workspaceId: string; readonly documentId: string }

export interface NewDocument {
  readonly documentId: string
  readonly workspaceId: string
  readonly kind: 'pipeline' | 'comments'
  readonly subject?: Subject | null
  readonly base?: string | null
  /** Its first changes, as crdt-model's `createPipeline` or `createComments` make them. */
  readonly doc: Doc
}

export interface Refusal {
  readonly code: string
  readonly reason: string
}

/** What is here of a workspace after leaving it: local drafts, and documents that could not be made into one. */
export interface LeftBehind {
  readonly drafts: string[]
  readonly unreadable: { readonly documentId: string; readonly error: unknown }[]
}

/** What a transaction has to store of one document, and what follows from its end. */
interface Rows {
  work(tx: Statements): Promise<void>
  done(): void
  failed(error: AppError): void
}

/** An append that waits for its turn. */
interface Asked {
  readonly changes: readonly Uint8Array[]
  readonly origin: string
  resolve(answer: { heads: string[] }): void
  reject(error: unknown): void
}

interface Entry {
  doc: Doc
  readonly documentId: string
  /** Writes on their way: until they are durable the entry stays in memory. */
  writing: number
  /** After a failed write the entry holds what the disk does not: nothing more is stored through it. */
  failed: AppError | null
  /** Changes since the snapshot, by row. */
  rows: number
  /** What the list says of it as far as the disk has it; null while the disk has nothing. */
  durable: DocumentInfo | null
}

/** Documents alive at once; FACTS: thousands slow everything. */
const CAPACITY = 256
/** Rows after which a document is stored as one snapshot again. */
const COMPACT_ROWS = 500
const HOST = 'host'

/**
 * The documents of this machine. What `append`, `edit`, `create` and `applyRemote` resolve with is on disk, in the outbox
 * where it is ours, and told to the views.
 *
 * Automerge work is synchronous, so one document is touched at a time; waiting for the disk is not part of that, so writers of
 * many documents share commits. A document in memory never holds less than the disk, and is thrown away when a write failed.
 */
export class Documents {
  readonly #schema: Schema
  readonly #state: State
  readonly #clock: Clock
  readonly #serial = new Serial()
  readonly #infos = new Map<string, DocumentInfo>()
  /** In the order of use, least recent first. */
  readonly #entries = new Map<string, Entry>()
  /** Unacknowledged changes: document -> hash -> ord. */
  readonly #outbox = new Map<string, Map<string, number>>()
  readonly #actors = new Map<string, string>()
  readonly #listeners = new Set<(event: DocumentEvent) => void>()
  /** Thrown out of memory with writes on their way: to be loaded only after these. */
  readonly #unsettled = new Set<string>()
  /** Appends by document that no application has taken yet. */
  readonly #asked = new Map<string, Asked[]>()
  #nextOrd = 1
  #live: (workspaceId: string) => boolean = () => false
  #author: () => string | null = () => null
  /** Hashes of what was written live and has no record here yet, by document. */
  readonly #beside = new Map<string, Set<string>>()
  /** How many records of each document are stored. */
  readonly #recorded = new Map<string, number>()
  /** What could not be loaded when it was last tried. */
  readonly #unreadable = new Set<string>()

  private constructor(state: State, clock: Clock, schema: Schema) {
    this.#schema = schema
    this.#state = state
    this.#clock = clock
  }

  /** @param schema what this program knows of documents; tests give another. */
  static async open(state: State, clock: Clock, schema: Schema = OWN_SCHEMA): Promise<Documents> {
    const documents = new Documents(state, clock, schema)
    const { infos, outbox, nextOrd } = await readIndex(state)
    for (const info of infos) documents.#infos.set(info.documentId, info)
    for (const row of outbox) documents.#waiting(row.documentId).set(row.hash, row.ord)
    documents.#nextOrd = nextOrd
    for (const { document_id, stored } of await state.read.all<{ document_id: string; stored: number }>(
      'select document_id, count(*) as stored from records group by document_id',
    ))
      documents.#recorded.set(document_id, stored)
    return documents
  }

  /** Tells of changes, resets and lists; returns what stops it. Listeners must not throw. */
  on(listener: (event: DocumentEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Who knows whether the device is connected and caught up now: said with every change that is written. */
  setLiveness(live: (workspaceId: string) => boolean): void {
    this.#live = live
  }

  /** Whose content comes back as a local draft when it is taken out of the log: the user's id on the server. */
  setAuthor(author: () => string | null): void {
    this.#author = author
  }

  list(workspaceId: string): DocumentInfo[] {
    return [...this.#infos.values()].filter(info => info.workspaceId === workspaceId)
  }

  info(documentId: string): DocumentInfo {
    const info = this.#infos.get(documentId)
    if (!info)
      throw new AppError('document.not_found', 'There is no such document on this machine.', {
        details: { document_id: documentId },
      })
    return info
  }

  has(documentId: string): boolean {
    return this.#infos.has(documentId)
  }

  /** Changes that the server has not acknowledged: of a document, or of a workspace. */
  waiting(of: { readonly documentId: string } | { readonly workspaceId: string }): number {
    if ('documentId' in of) return this.#outbox.get(of.documentId)?.size ?? 0
    let sum = 0
    for (const [documentId, hashes] of this.#outbox)
      if (this.#infos.get(documentId)?.workspaceId === of.workspaceId) sum += hashes.size
    return sum
  }

  /** Of what waits in a workspace, the changes that can be sent: those of documents that can be read. */
  sendable(workspaceId: string): number {
    const held = this.unreadable(workspaceId).reduce(
      (sum, documentId) => sum + this.waiting({ documentId }),
      0,
    )
    return this.waiting({ workspaceId }) - held
  }

  /** Documents of a workspace that were found to be unreadable since the start. */
  unreadable(workspaceId: string): string[] {
    return [...this.#unreadable].filter(id => this.#infos.get(id)?.workspaceId === workspaceId)
  }

  /** Reads every document of a workspace, one at a time; answers how many there are and which cannot be read. */
  async check(workspaceId: string): Promise<{ documents: number; unreadable: string[] }> {
    const all = this.list(workspaceId)
    for (const { documentId } of all) {
      if (!this.has(documentId)) continue
      await this.#serial.run(() => this.#loadIfReadable(documentId))
      // Other work gets its turn.
      await new Promise(resolve => setImmediate(resolve))
    }
    return { documents: all.length, unreadable: this.unreadable(workspaceId) }
  }

  /** Hashes of a document that the server has not acknowledged. */
  unacknowledged(documentId: string): ReadonlySet<string> {
    return new Set(this.#outbox.get(documentId)?.keys())
  }

  /**
   * How many of the server's records of a document are here, and how many changes were written live and wait for theirs: marks
   * differ only when one of these, or the heads, do.
   */
  recorded(documentId: string): { stored: number; live: number } {
    return {
      stored: this.#recorded.get(documentId) ?? 0,
      live: this.#beside.get(documentId)?.size ?? 0,
    }
  }

  /** Records of a document were stored by another way than `applyRemote`. */
  noteRecords(documentId: string, count: number): void {
    this.#recorded.set(documentId, (this.#recorded.get(documentId) ?? 0) + count)
  }

  /**
   * A document's bytes for a view, with an actor that nobody else writes with. One that is not in memory is read and not loaded: a
   * view that opens a long text loads it itself, and need not wait for the host to have done so before.
   */
  open(documentId: string): Promise<{ bytes: Uint8Array; actor: string; heads: string[] }> {
    return this.#serial.run(async () => {
      const { base, heads } = this.info(documentId)
      if (base === null && !this.#entries.has(documentId)) {
        if (this.#unsettled.delete(documentId)) await this.#flush()
        const { snapshot, changes } = await readDocument(this.#state, documentId)
        // Many single changes load slowly; the host's own loading makes them one snapshot.
        const bytes = changes.length > COMPACT_ROWS ? null : storedBytes(snapshot, changes)
        if (bytes) return { bytes, actor: newActor(), heads: [...heads] }
      }
      const { doc } = await this.#load(documentId)
      return { bytes: A.save(doc), actor: newActor(), heads: A.getHeads(doc) }
    })
  }

  /** Runs `look` over the loaded document. It must not keep the document: it may be freed after that. */
  read<T, D = PipelineDoc>(documentId: string, look: (doc: A.Doc<D>) => T): Promise<T> {
    return this.#serial.run(async () => look((await this.#load(documentId)).doc as A.Doc<D>))
  }

  /** Stores a new document. The same id again is refused with `request.invalid`. */
  async create(made: NewDocument): Promise<void> {
    const written = await this.#serial.run(() => {
      if (this.#infos.has(made.documentId))
        throw new AppError('request.invalid', 'There is a document with this id already.')
      const changes = describeChanges(A.getAllChanges(made.doc))
      const doc = A.load<unknown>(A.save(made.doc), { actor: this.#actor(made.documentId) })
      return { durable: this.#begin(made, doc, changes) }
    })
    await written.durable
    this.#emit({ kind: 'queued', workspaceId: made.workspaceId })
  }

  /**
   * Stores a new draft of a pipeline at `heads`. The draft shares the pipeline's history; only what is written in it is its own.
   * Throws `request.invalid` for the draft of a draft and for an id that is taken.
   */
  async fork(draft: {
    readonly documentId: string
    readonly base: string
    readonly heads: readonly string[]
    readonly title: string
  }): Promise<void> {
    const { documentId, base, heads, title } = draft
    const { workspaceId, kind, base: baseOfBase } = this.info(base)
    if (kind !== 'pipeline' || baseOfBase !== null) throw notFork()
    const written = await this.#serial.run(async () => {
      if (this.#infos.has(documentId))
        throw new AppError('request.invalid', 'There is a document with this id already.')
      const { doc: whole } = await this.#load(base)
      const doc = forkDraft(whole, heads, title, { actor: this.#actor(documentId) })
      const changes = describeChanges(A.getChangesSince(doc, [...heads]))
      return { durable: this.#begin({ documentId, workspaceId, kind, base }, doc, changes) }
    })
    await written.durable
    this.#emitListed(documentId)
    this.#emit({ kind: 'queued', workspaceId })
  }

  /** Merges what the base is at `heads` into a draft, as a change of the draft. Answers whether there was anything new. */
  async takeInBase(draftId: string, heads: readonly string[]): Promise<boolean> {
    const written = await this.#serial.run(async () => {
      const entry = await this.#load(draftId)
      const { doc: base } = await this.#load(this.#baseOf(draftId))
      if (schemaOf(entry.doc) > this.#schema.version) throw tooNew(schemaOf(entry.doc), this.#schema.version)
      if (A.hasHeads(entry.doc, [...heads])) return { durable: Promise.resolve(), fresh: [] }
      const part = forkAt(base, heads)
      try {
        entry.doc = A.emptyChange(A.merge(entry.doc, part), { message: 'take in the pipeline' })
      } catch (error) {
        this.#forget(entry)
        throw error
      } finally {
        A.free(part)
      }
      const last = A.getLastLocalChange(entry.doc)
      const fresh = describeChanges(last ? [last] : [])
      return { durable: this.#store(entry, fresh, { local: true }), fresh }
    })
    await written.durable
    if (written.fresh.length > 0) {
      // What came from the base is in no change of the draft: views take the whole document.
      this.#emit({ kind: 'reset', documentId: draftId, draftId: null })
      this.#told(draftId, written.fresh, HOST)
    }
    return written.fresh.length > 0
  }

  /** A draft as it is, and the pipeline where the draft stands on it: what a reviewer compares. */
  readFork<T>(draftId: string, look: (base: A.Doc<PipelineDoc>, draft: A.Doc<PipelineDoc>) => T): Promise<T> {
    return this.#serial.run(async () => {
      const { doc } = await this.#load(draftId)
      const { doc: base } = await this.#load(this.#baseOf(draftId))
      const part = forkAt(base, baseHeads(ownChanges(await readDocument(this.#state, draftId))))
      try {
        return look(part as A.Doc<PipelineDoc>, doc as A.Doc<PipelineDoc>)
      } finally {
        A.free(part)
      }
    })
  }

  /**
   * Stores changes that a view made; resolves when they are durable. What is there already is passed over. Throws
   * `change.missing_deps` (the view is behind: open again), `change.invalid`, `change.quota`.
   *
   * Appends that wait at the same time are applied together; each is answered for itself.
   *
   * A view that has not heard of a refusal yet goes on typing on top of the refused tail: that goes into the same local draft.
   */
  append(documentId: string, changes: readonly Uint8Array[], origin: string): Promise<{ heads: string[] }> {
    const { promise, resolve, reject } = Promise.withResolvers<{ heads: string[] }>()
    const asked = { changes, origin, resolve, reject }
    const others = this.#asked.get(documentId)
    if (others) others.push(asked)
    else {
      this.#asked.set(documentId, [asked])
      void this.#serial.run(() => this.#appendAsked(documentId))
    }
    return promise
  }

  /** Throws `document.too_new` for a document that this program can show and sync, but neither edit, publish nor run. */
  async assertKnown(documentId: string): Promise<void> {
    const newer = await this.newer(documentId)
    if (newer) throw tooNew(newer.version, newer.known)
  }

  /** The schema of a document that this program does not know, and the newest that it does; null for one that it may write. */
  newer(documentId: string): Promise<{ readonly version: number; readonly known: number } | null> {
    return this.read<{ version: number; known: number } | null, unknown>(documentId, doc => {
      const version = schemaOf(doc)
      return version > this.#schema.version ? { version, known: this.#schema.version } : null
    })
  }

  /** An edit by the host itself: import, restore, CLI. `change` returns the changed document, or the same for no change. */
  async edit<D = PipelineDoc>(
    documentId: string,
    change: (doc: A.Doc<D>) => A.Doc<D>,
    origin: string = HOST,
  ): Promise<{ heads: string[]; changed: boolean }> {
    const written = await this.#serial.run(async () => {
      const entry = await this.#load(documentId)
      if (schemaOf(entry.doc) > this.#schema.version) throw tooNew(schemaOf(entry.doc), this.#schema.version)
      const upgrade = await this.#upgrade(entry)
      const before = A.getHeads(entry.doc)
      try {
        entry.doc = change(entry.doc as A.Doc<D>) as Doc
      } catch (error) {
        // It may have changed the document before it threw; the disk has what counts.
        this.#forget(entry)
        throw error
      }
      const fresh = describeChanges(A.getChangesSince(entry.doc, before))
      const heads = A.getHeads(entry.doc)
      const stored = this.#store(entry, fresh, { local: true })
      return { heads, durable: Promise.all([upgrade.durable, stored]), fresh, upgrade: upgrade.fresh }
    })
    await written.durable
    this.#told(documentId, written.upgrade, HOST)
    this.#told(documentId, written.fresh, origin)
    return { heads: written.heads, changed: written.fresh.length > 0 }
  }

  /**
   * Takes in a piece of the log, with the cursor that it reaches, in one transaction. Each document is applied once, whatever
   * the number of its changes. Answers the documents whose changes do not fit what is here: they have to be fetched whole.
   */
  async applyRemote(
    workspaceId: string,
    items: readonly LogItem[],
    cursor: number,
  ): Promise<{ diverged: string[] }> {
    const diverged: string[] = []
    const told: { documentId: string; fresh: StoredChange[]; topped: boolean }[] = []
    const reset: { documentId: string; draftId: string | null }[] = []
    let erased = false
    const written = await this.#serial.run(async () => {
      const rows: Rows[] = []
      const voids: ((tx: Statements) => Promise<void>)[] = []
      for (const [documentId, own] of groupByDocument(items)) {
        // The document has them before their records can be read.
        this.#noteLive(
          documentId,
          own.filter(item => !isVoid(item) && item.live),
        )
        try {
          if (own.some(isVoid)) {
            const taken = await this.#takeVoid(workspaceId, documentId, own)
            voids.push(taken.write)
            erased ||= taken.erase
            reset.push({ documentId, draftId: taken.draftId })
            continue
          }
          told.push({ documentId, ...(await this.#takeIn(workspaceId, documentId, own, rows)) })
        } catch (error) {
          if (toAppError(error).code === 'internal') throw error
          diverged.push(documentId)
        }
      }
      const records = items
        .filter(item => !isVoid(item))
        .map(item => [item.document_id, item.hash, item.seq, item.received_at, item.live, item.author_id])
      const durable = this.#commit(rows, async tx => {
        for (const write of voids) await write(tx)
        await tx.insert('records', records)
        await tx.run('update workspaces set cursor = $1 where workspace_id = $2', cursor, workspaceId)
      })
      return { durable }
    })
    await written.durable
    // Deleted rows stay in the file until it is written anew.
    if (erased) await this.#state.rewrite()
    for (const { documentId, draftId } of reset) {
      this.#emit({ kind: 'reset', documentId, draftId })
      this.#emit({ kind: 'listed', workspaceId, documentId })
    }
    for (const item of items) {
      this.#beside.get(item.document_id)?.delete(item.hash)
      if (!isVoid(item)) this.noteRecords(item.document_id, 1)
    }
    for (const { documentId } of reset) await this.#recount(documentId)
    for (const { documentId, fresh, topped } of told) {
      // A draft took in its pipeline, or the document became read-only: a view has to take it whole.
      if (topped) this.#emit({ kind: 'reset', documentId, draftId: null })
      this.#told(documentId, fresh, 'server')
    }
    return { diverged }
  }

  /** The server has stored these: they leave the outbox. */
  async acknowledge(documentId: string, hashes: readonly string[]): Promise<void> {
    const waiting = this.#waiting(documentId)
    const ords = hashes.flatMap(hash => waiting.get(hash) ?? [])
    await this.#state.write(tx => removeFromOutbox(tx, ords))
    for (const hash of hashes) waiting.delete(hash)
  }

  /** What waits and can be read, oldest first: the changes of one run of equal `live`, at most so many. */
  async outbox(
    workspaceId: string,
    limit: number,
  ): Promise<{ documentId: string; hash: string; ord: number; live: boolean; bytes: Uint8Array }[]> {
    const unreadable = this.unreadable(workspaceId).map(id => `'${id}'`)
    const except = unreadable.length > 0 ? `and document_id not in (${unreadable.join()})` : ''
    const rows = await this.#state.read.all<{
      document_id: string
      hash: string
      ord: number
      live: boolean
      bytes: Uint8Array
    }>(
      `select o.document_id, o.hash, o.ord, o.live, c.bytes from (
         select * from outbox where workspace_id = $1 ${except} order by ord limit $2
       ) o join changes c on c.ord = o.ord order by o.ord`,
      workspaceId,
      limit,
    )
    const pushed = new Set<string>()
    const end = rows.findIndex(row => {
      pushed.add(row.document_id)
      // What a draft builds on has to be stored before it.
      const base = this.#infos.get(row.document_id)?.base ?? null
      return row.live !== rows[0]?.live || (base !== null && pushed.has(base))
    })
    return (end < 0 ? rows : rows.slice(0, end)).map(({ document_id, ...row }) => ({
      ...row,
      documentId: document_id,
    }))
  }

  /**
   * Hashes of what was written live and has no record here yet: this device's own until the server tells it, the others' until
   * it is stored. Without it two people who type beside each other would see a mark for as long as that takes.
   */
  writtenLive(documentId: string): ReadonlySet<string> {
    return this.#beside.get(documentId) ?? new Set()
  }

  #noteLive(documentId: string, fresh: readonly { readonly hash: string }[]): void {
    const noted = this.#beside.get(documentId) ?? new Set<string>()
    for (const { hash } of fresh) noted.add(hash)
    this.#beside.set(documentId, noted)
  }

  /** The connection was lost: what waits was not written beside the others, whatever was thought then. */
  async unlive(workspaceId: string): Promise<void> {
    for (const documentId of this.#beside.keys())
      if (this.#infos.get(documentId)?.workspaceId === workspaceId) this.#beside.delete(documentId)
    if (this.waiting({ workspaceId }) === 0) return
    await this.#state.write(tx =>
      tx.run('update outbox set live = false where workspace_id = $1 and live', workspaceId),
    )
  }

  /**
   * The server refused changes of a document for good. Its whole unacknowledged tail becomes one local draft with its content, and
   * the document is again what the server has; without anything there it leaves the list.
   */
  async refuse(documentId: string, refusal: Refusal): Promise<string> {
    for (const draft of await this.#buildingOnTail(documentId))
      await this.refuse(draft, { code: 'missing_deps', reason: 'What it builds on was refused.' })
    const draftId = newId()
    await this.#serial.run(async () => {
      const entry = await this.#load(documentId)
      const info = this.info(documentId)
      const bytes = A.save(entry.doc)
      const waiting = this.#waiting(documentId)
      const ords = [...waiting.values()]
      this.#forget(entry)
      await this.#flush()
      const base = await this.#serverSide(documentId)
      // A draft that the server has nothing of is an edit of its pipeline.
      const fork = base === null && info.base !== null ? await this.#forkPoint(documentId, info.base) : null
      const draft: LocalDraft = {
        draftId,
        workspaceId: info.workspaceId,
        documentId: fork === null ? documentId : (info.base as string),
        kind: info.kind,
        title: info.title,
        ...refusal,
        changes: waiting.size,
        createdAt: this.#now(),
        bytes,
        baseBytes: base ?? fork,
      }
      await this.#state.write(async tx => {
        await putDraft(tx, draft)
        await removeFromOutbox(tx, ords)
        if (ords.length > 0) await tx.run(`delete from changes where ord in (${ords.join(',')})`)
        if (base === null) await tx.run('delete from documents where document_id = $1', documentId)
      })
      this.#outbox.delete(documentId)
      if (base === null) this.#infos.delete(documentId)
      else await this.#load(documentId)
    })
    this.#emit({ kind: 'reset', documentId, draftId })
    this.#emitListed(documentId)
    return draftId
  }

  /**
   * Takes documents as the server has them (first sync, or healing one that differs). What waits in the outbox stays on top of it.
   * Content that neither the server has nor the outbox carries is kept as a local draft of code `diverged`. One that cannot be read
   * here is taken anew. With `cursor`, the last part says how far it reaches: that is stored with it.
   */
  async adopt(
    workspaceId: string,
    items: readonly SnapshotItem[],
    cursor: number | null = null,
  ): Promise<{ drafts: string[] }> {
    // What drafts build on comes first.
    const forks = items.filter(item => item.base !== null)
    const others = items.filter(item => item.base === null)
    const drafts = await this.#adopt(workspaceId, others, forks.length > 0 ? null : cursor)
    if (forks.length > 0) drafts.push(...(await this.#adopt(workspaceId, forks, cursor)))
    return { drafts }
  }

  async #adopt(
    workspaceId: string,
    items: readonly SnapshotItem[],
    cursor: number | null,
  ): Promise<string[]> {
    const drafts: string[] = []
    const changed: string[] = []
    await this.#serial.run(async () => {
      const writes: ((tx: Statements) => Promise<void>)[] = []
      const added: Added[] = []
      await this.#flush()
      const at = this.#now()
      for (const item of items) {
        const known = this.#infos.get(item.document_id)
        if (!known && !this.#outbox.get(item.document_id)?.size) {
          added.push({ info: infoOf(workspaceId, item, at), ord: this.#nextOrd++, bytes: item.bytes })
          continue
        }
        const same = known !== undefined && sameHeads(known.heads, item.heads)
        if (same && !this.#unreadable.has(item.document_id)) continue
        if (known) {
          const readable = !same && (await this.#loadIfReadable(item.document_id)) !== null
          const draft = readable ? await this.#extra(known, item) : null
          if (draft) {
            drafts.push(draft.draftId)
            writes.push(tx => putDraft(tx, draft))
          }
          const entry = this.#entries.get(item.document_id)
          if (entry) this.#forget(entry)
          changed.push(item.document_id)
        }
        writes.push(this.#replace(workspaceId, item))
      }
      await this.#state.write(async tx => {
        for (const write of writes) await write(tx)
        await addDocuments(tx, added)
        if (cursor !== null)
          await tx.run('update workspaces set cursor = $1 where workspace_id = $2', cursor, workspaceId)
      })
      for (const { info } of added) this.#infos.set(info.documentId, info)
      // A draft may be here before its pipeline is; it is read when it is wanted.
      for (const documentId of changed)
        if (this.#infos.get(documentId)?.base === null) await this.#loadIfReadable(documentId)
    })
    for (const documentId of changed) this.#emit({ kind: 'reset', documentId, draftId: null })
    for (const item of items) this.#emitListed(item.document_id)
    return drafts
  }

  /** The server no longer has this document, and nothing of it waits: it leaves the list and is a local draft of code `diverged`. */
  async setAside(documentId: string): Promise<string> {
    const draftId = newId()
    const info = this.info(documentId)
    await this.#serial.run(async () => {
      const entry = await this.#load(documentId)
      const draft: LocalDraft = {
        draftId,
        workspaceId: info.workspaceId,
        documentId,
        kind: info.kind,
        title: info.title,
        code: 'diverged',
        reason: 'The server no longer has this document.',
        changes: A.getChangesMetaSince(entry.doc, []).length,
        createdAt: this.#now(),
        bytes: A.save(entry.doc),
        baseBytes: null,
      }
      await this.#flush()
      this.#forget(entry)
      await this.#state.write(async tx => {
        await putDraft(tx, draft)
        for (const table of ['documents', 'snapshots', 'changes', 'records'])
          await tx.run(`delete from ${table} where document_id = $1`, documentId)
      })
      this.#infos.delete(documentId)
      this.#recorded.delete(documentId)
    })
    this.#emit({ kind: 'reset', documentId, draftId })
    this.#emit({ kind: 'listed', workspaceId: info.workspaceId, documentId })
    return draftId
  }

  drafts(workspaceId: string): Promise<LocalDraftEntry[]> {
    return listDrafts(this.#state, { workspaceId })
  }

  async draft(draftId: string): Promise<LocalDraft> {
    const draft = await readDraft(this.#state, draftId)
    if (!draft) throw new AppError('draft.not_found', 'There is no such local draft.')
    return draft
  }

  /**
   * Applies a pipeline's local draft again, as this person's edit now: what the draft changed since its base, beside whatever
   * happened meanwhile (concurrent edits of one place become marks). A document that the server never had is made anew, with
   * a new id. Answers the document; the draft is gone.
   */
  async applyDraft(draftId: string): Promise<{ documentId: string }> {
    const draft = await this.draft(draftId)
    if (draft.kind !== 'pipeline')
      throw new AppError(
        'request.invalid',
        'Only the draft of a pipeline can be applied again; copy the text.',
      )
    const wanted = pipelineFromDoc(A.load<PipelineDoc>(draft.bytes))
    let { documentId } = draft
    if (draft.baseBytes && this.has(documentId)) {
      const base = A.load<PipelineDoc>(draft.baseBytes, { actor: newActor() })
      const before = A.getHeads(base)
      const next = makeEqualTo(base, wanted, 'apply a local draft')
      await this.append(documentId, A.getChangesSince(next, before), HOST)
    } else {
      documentId = newId()
      await this.create({ ...draft, documentId, kind: 'pipeline', doc: createPipeline(wanted) })
    }
    await this.discardDraft(draftId)
    return { documentId }
  }

  async discardDraft(draftId: string): Promise<void> {
    const draft = await this.draft(draftId)
    await this.#state.write(tx => removeDraft(tx, draftId))
    this.#emit({ kind: 'listed', workspaceId: draft.workspaceId, documentId: draft.documentId })
  }

  /**
   * Takes a workspace's documents off this machine, with versions and records. What the server does not have is kept as local drafts
   * before. A document of which that fails stays as it is, with its error in `unreadable`.
   */
  async leave(workspaceId: string, refusal: Refusal): Promise<LeftBehind> {
    const drafts: string[] = []
    const unreadable: LeftBehind['unreadable'] = []
    const kept = new Set<string>()
    for (const { documentId, base } of this.list(workspaceId)) {
      if (!this.has(documentId) || this.waiting({ documentId }) === 0) continue
      try {
        drafts.push(await this.refuse(documentId, refusal))
      } catch (error) {
        unreadable.push({ documentId, error })
        kept.add(documentId)
        if (base !== null) kept.add(base)
      }
    }
    const gone = this.list(workspaceId).filter(info => !kept.has(info.documentId))
    await this.#serial.run(async () => {
      await this.#flush()
      const ids = gone.map(info => `'${info.documentId}'`).join(',')
      await this.#state.write(async tx => {
        await tx.run('update workspaces set cursor = null where workspace_id = $1', workspaceId)
        if (gone.length === 0) return
        for (const table of ['documents', 'snapshots', 'changes', 'records', 'outbox'])
          await tx.run(`delete from ${table} where document_id in (${ids})`)
        await tx.run(`delete from versions where parent in (${ids})`)
        await tx.run(`delete from overviews where key in (${ids})`)
      })
      for (const { documentId } of gone) {
        const entry = this.#entries.get(documentId)
        if (entry) this.#forget(entry)
        this.#infos.delete(documentId)
        this.#outbox.delete(documentId)
        this.#recorded.delete(documentId)
      }
    })
    for (const { documentId } of gone) this.#emit({ kind: 'listed', workspaceId, documentId })
    return { drafts, unreadable }
  }

  /** Waits for what is on its way to the disk and frees all documents. */
  async close(): Promise<void> {
    await this.#flush()
    for (const entry of [...this.#entries.values()]) this.#forget(entry)
  }

  // ---- inside ----

  /**
   * Everything that was asked to be appended to a document until now, applied together: each application costs the document's
   * length. Should they not apply together they are tried one by one, so that the guilty one alone is refused.
   */
  async #appendAsked(documentId: string): Promise<void> {
    const group = this.#asked.get(documentId) ?? []
    this.#asked.delete(documentId)
    if (await this.#appendTogether(documentId, group)) return
    for (const one of group) await this.#appendTogether(documentId, [one])
  }

  /** False when one of several does not fit: nothing was done. Else each was answered, or will be when it is durable. */
  async #appendTogether(documentId: string, group: readonly Asked[]): Promise<boolean> {
    try {
      const entry = await this.#load(documentId)
      const checked = new Checked(entry.doc)
      const taken = group.map(one => ({ ...one, fresh: decodeLocal(entry.doc, one.changes, checked) }))
      const fresh = taken.flatMap(one => one.fresh)
      assertWrittenBefore(entry.doc, fresh, this.#schema.version)
      const upgrade = fresh.length > 0 ? await this.#upgrade(entry) : NOTHING
      if (fresh.length > 0) this.#apply(entry, fresh)
      const heads = A.getHeads(entry.doc)
      const stored = this.#store(entry, fresh, { local: true })
      void this.#answer(documentId, taken, upgrade, { heads, stored })
    } catch (error) {
      if (group.length > 1) return false
      for (const one of group)
        await this.#appendToDraft(documentId, one.changes, error).then(
          draft => (draft ? one.resolve(draft) : one.reject(error)),
          one.reject,
        )
    }
    return true
  }

  /** Tells views of what was appended, and then those who asked, once it is durable. */
  async #answer(
    documentId: string,
    taken: readonly (Asked & { readonly fresh: readonly StoredChange[] })[],
    upgrade: { readonly durable: Promise<void>; readonly fresh: readonly StoredChange[] },
    { heads, stored }: { readonly heads: string[]; readonly stored: Promise<void> },
  ): Promise<void> {
    try {
      await Promise.all([upgrade.durable, stored])
      this.#told(documentId, upgrade.fresh, HOST)
      for (let from = 0, to = 0; from < taken.length; from = to) {
        const origin = taken[from]?.origin ?? HOST
        while (taken[to]?.origin === origin) to++
        this.#told(
          documentId,
          taken.slice(from, to).flatMap(one => one.fresh),
          origin,
        )
      }
      for (const one of taken) one.resolve({ heads })
    } catch (error) {
      for (const one of taken) one.reject(error)
    }
  }

  async #takeIn(
    workspaceId: string,
    documentId: string,
    items: readonly LogItem[],
    rows: Rows[],
  ): Promise<{ fresh: StoredChange[]; topped: boolean }> {
    const [first] = items as [LogItem]
    if (!this.#infos.has(documentId))
      this.#infos.set(documentId, {
        documentId,
        workspaceId,
        kind: first.kind,
        subject: first.subject,
        base: first.base,
        title: '',
        updatedAt: this.#now(),
        heads: [],
      })
    const entry = await this.#load(documentId)
    const bytes = items.map(item => item.bytes)
    const before = A.getHeads(entry.doc)
    if (first.base !== null) {
      const base = await this.#load(first.base)
      entry.doc = topUp(entry.doc, base.doc, bytes)
    }
    const topped = !sameHeads(before, A.getHeads(entry.doc))
    let fresh: StoredChange[]
    try {
      // Most of what the server tells of after a push came from here.
      const unknown = items.filter(item => !A.hasHeads(entry.doc, [item.hash]))
      fresh = decodeLocal(
        entry.doc,
        unknown.map(item => item.bytes),
      )
    } catch (error) {
      // What was merged from the base belongs to changes that did not come.
      if (topped) this.#forget(entry)
      throw error
    }
    const known = schemaOf(entry.doc) <= this.#schema.version
    if (fresh.length > 0) this.#apply(entry, fresh)
    // It was upgraded elsewhere: a view that has it open may not write any more.
    const outgrown = known && before.length > 0 && schemaOf(entry.doc) > this.#schema.version
    const waiting = this.#waiting(documentId)
    const acknowledged = new Map(
      items.flatMap(({ hash }): [string, number][] => {
        const ord = waiting.get(hash)
        return ord === undefined ? [] : [[hash, ord]]
      }),
    )
    const prepared = this.#prepare(entry, fresh, { local: false, acknowledged })
    if (prepared) rows.push(prepared)
    for (const hash of acknowledged.keys()) waiting.delete(hash)
    return { fresh, topped: (topped && before.length > 0) || outgrown }
  }

  /**
   * Void records of a document, with the changes that came beside them. The document is what the server has now; unsent edits that
   * build on what was taken out, and this person's own content that was, become a local draft. What was erased is in no draft.
   */
  async #takeVoid(
    workspaceId: string,
    documentId: string,
    items: readonly LogItem[],
  ): Promise<{ write: (tx: Statements) => Promise<void>; erase: boolean; draftId: string | null }> {
    const [first] = items as [LogItem]
    const before = this.#infos.get(documentId) ?? null
    await this.#flush()
    const waiting = this.#waiting(documentId)
    const entry = before && (await this.#loadIfReadable(documentId))
    const here =
      before?.base != null
        ? describeChanges(ownChanges(await readDocument(this.#state, documentId)))
        : entry
          ? describeChanges(A.getAllChanges(entry.doc))
          : []
    const sorted = sortVoided(here, new Set(waiting.keys()), items)
    const { kept, erase } = sorted
    const isFork = first.base !== null
    const now = build(null, isFork ? [] : kept.map(change => change.bytes))
    const drafts = await this.#draftsOfVoid(workspaceId, documentId, entry?.doc ?? null, now, sorted)

    const left = [...kept, ...sorted.waiting]
    const heads = headsOf(left)
    const info: DocumentInfo = {
      documentId,
      workspaceId,
      kind: first.kind,
      subject: first.subject,
      base: first.base,
      title: before?.title ?? '',
      updatedAt: this.#now(),
      heads,
    }
    if (!isFork && kept.length > 0) Object.assign(info, { title: titleOf(first.kind, now) })
    const bytes = isFork ? Buffer.concat(kept.map(change => change.bytes)) : A.save(now)
    A.free(now)
    const keep = sorted.waiting.map(change => waiting.get(change.hash) as number)
    const gone = [...waiting].filter(([hash]) => !sorted.waiting.some(change => change.hash === hash))
    const ord = (keep.length > 0 ? Math.min(...keep) : this.#nextOrd++) - 1
    if (entry) this.#forget(entry)
    for (const [hash] of gone) waiting.delete(hash)
    if (left.length === 0) this.#infos.delete(documentId)
    else this.#infos.set(documentId, info)
    const write = async (tx: Statements): Promise<void> => {
      await removeFromOutbox(
        tx,
        gone.map(([, at]) => at),
      )
      if (left.length > 0) await putInfo(tx, info)
      else await tx.run('delete from documents where document_id = $1', documentId)
      await putSnapshot(tx, { documentId, ord, heads: headsOf(kept), bytes }, keep)
      if (kept.length === 0) await tx.run('delete from snapshots where document_id = $1', documentId)
      for (const { hash } of sorted.voided)
        await tx.run('delete from records where document_id = $1 and hash = $2', documentId, hash)
      for (const draft of drafts.put) await putDraft(tx, draft)
      for (const draftId of drafts.remove) await removeDraft(tx, draftId)
      if (erase) await forgetContent(tx, documentId)
    }
    return { write, erase, draftId: drafts.made }
  }

  async #recount(documentId: string): Promise<void> {
    const row = await this.#state.read.first<{ stored: number }>(
      'select count(*) as stored from records where document_id = $1',
      documentId,
    )
    this.#recorded.set(documentId, row?.stored ?? 0)
  }

  /** Null for one that cannot be read any more. */
  async #loadIfReadable(documentId: string): Promise<Entry | null> {
    try {
      return await this.#load(documentId)
    } catch (error) {
      if (toAppError(error).code === 'document.corrupt') return null
      throw error
    }
  }

  /** Which of these changes this person made, by the server's record of them. */
  async #mine(documentId: string, changes: readonly StoredChange[]): Promise<StoredChange[]> {
    const author = this.#author()
    if (author === null || changes.length === 0) return []
    const rows = await this.#state.read.all<{ hash: string }>(
      'select hash from records where document_id = $1 and author_id = $2',
      documentId,
      author,
    )
    const hashes = new Set(rows.map(row => row.hash))
    return changes.filter(change => hashes.has(change.hash))
  }

  /** The local drafts that follow from a void: a new one, and, when content was erased, what stood already without that. */
  async #draftsOfVoid(
    workspaceId: string,
    documentId: string,
    doc: Doc | null,
    now: Doc,
    { kept, lost, voided, erase, reason }: Sorted,
  ): Promise<{ put: LocalDraft[]; remove: string[]; made: string | null }> {
    const put: LocalDraft[] = []
    const remove: string[] = []
    const info = this.#infos.get(documentId)
    const there = kept.length > 0 ? A.save(now) : null
    if (erase && info?.kind === 'pipeline')
      for (const { draftId } of await listDrafts(this.#state, { documentId })) {
        const draft = await readDraft(this.#state, draftId)
        if (!draft?.baseBytes) continue
        const [base, mine] = [A.load<unknown>(draft.baseBytes), A.load<unknown>(draft.bytes)]
        const bytes = there && rebased({ base, mine }, now)
        for (const one of [base, mine]) A.free(one)
        if (bytes) put.push({ ...draft, bytes, baseBytes: there })
        else remove.push(draftId)
      }
    const mine = erase ? [] : await this.#mine(documentId, voided)
    const changes = lost.length + mine.length
    if (!doc || !info || changes === 0) return { put, remove, made: null }
    let bytes: Uint8Array | null
    if (!erase) bytes = loadable(doc)
    else {
      const unsent = new Set(lost.map(change => change.hash))
      const acknowledged = A.getAllChanges(doc).filter(one => !unsent.has(A.decodeChange(one).hash))
      const base = build(null, acknowledged)
      bytes = there && info.kind === 'pipeline' ? rebased({ base, mine: doc }, now) : null
      A.free(base)
    }
    if (!bytes) return { put, remove, made: null }
    const draftId = newId()
    put.push({
      draftId,
      workspaceId,
      documentId,
      kind: info.kind,
      title: info.title,
      code: 'void',
      reason,
      changes,
      createdAt: this.#now(),
      bytes,
      baseBytes: there,
    })
    return { put, remove, made: draftId }
  }

  #apply(entry: Entry, fresh: readonly StoredChange[]): void {
    try {
      entry.doc = applyTried(entry.doc, fresh)
    } catch (error) {
      this.#forget(entry)
      throw error
    }
  }

  #store(
    entry: Entry,
    fresh: readonly StoredChange[],
    how:
      | { readonly local: true }
      | { readonly local: false; readonly acknowledged: ReadonlyMap<string, number> },
  ): Promise<void> {
    const rows = this.#prepare(entry, fresh, how)
    return rows ? this.#commit([rows]) : Promise.resolve()
  }

  /** The rows of changes that the entry holds already. Prepared inside the serial, so rows keep the order of changes. */
  #prepare(
    entry: Entry,
    fresh: readonly StoredChange[],
    how:
      | { readonly local: true }
      | { readonly local: false; readonly acknowledged: ReadonlyMap<string, number> },
  ): Rows | null {
    const { documentId } = entry
    if (fresh.length === 0 && (how.local || how.acknowledged.size === 0)) return null
    const before = this.info(documentId)
    const info: DocumentInfo = {
      ...before,
      title: titleOf(before.kind, entry.doc),
      updatedAt: this.#now(),
      heads: A.getHeads(entry.doc).sort(),
    }
    this.#infos.set(documentId, info)
    const firstOrd = this.#nextOrd
    this.#nextOrd += fresh.length
    const live = how.local && this.#live(info.workspaceId)
    const waiting = this.#waiting(documentId)
    if (how.local) for (const [i, change] of fresh.entries()) waiting.set(change.hash, firstOrd + i)
    if (live) this.#noteLive(documentId, fresh)
    // The list's row is written when it says something new, and once in a while for its time.
    const listed = info.title !== before.title || before.heads.length === 0 || stale(before, info)
    entry.writing++
    entry.rows += fresh.length
    return {
      work: async tx => {
        if (entry.failed) throw entry.failed
        await putChanges(tx, documentId, firstOrd, fresh)
        if (how.local)
          await tx.insert(
            'outbox',
            fresh.map((change, i) => [firstOrd + i, info.workspaceId, documentId, change.hash, live]),
          )
        else await removeFromOutbox(tx, [...how.acknowledged.values()])
        if (listed) await putInfo(tx, info)
      },
      done: () => {
        entry.writing--
        entry.durable = info
      },
      failed: error => {
        entry.writing--
        entry.failed = error
        if (how.local) for (const change of fresh) waiting.delete(change.hash)
        else for (const [hash, ord] of how.acknowledged) waiting.set(hash, ord)
        if (entry.durable) this.#infos.set(documentId, entry.durable)
        else this.#infos.delete(documentId)
        this.#forget(entry)
      },
    }
  }

  /** Writes what was prepared in one transaction. */
  async #commit(rows: readonly Rows[], also?: (tx: Statements) => Promise<void>): Promise<void> {
    try {
      await this.#state.write(async tx => {
        for (const one of rows) await one.work(tx)
        await also?.(tx)
      })
    } catch (cause) {
      const error = toAppError(cause)
      for (const one of rows) one.failed(error)
      throw error
    }
    for (const one of rows) one.done()
  }

  async #load(documentId: string): Promise<Entry> {
    const info = this.info(documentId)
    const held = this.#entries.get(documentId)
    if (held) {
      this.#entries.delete(documentId)
      this.#entries.set(documentId, held)
      return held
    }
    if (this.#unsettled.delete(documentId)) await this.#flush()
    const base = info.base === null ? null : (await this.#load(info.base)).doc
    const { snapshot, changes } = await readDocument(this.#state, documentId)
    let doc: Doc
    try {
      doc = base
        ? buildDraft(base, ownChanges({ snapshot, changes }), this.#actor(documentId))
        : build(
            snapshot,
            changes.map(change => change.bytes),
            this.#actor(documentId),
          )
    } catch (cause) {
      if (!this.#unreadable.has(documentId)) {
        this.#unreadable.add(documentId)
        this.#emit({ kind: 'unreadable', workspaceId: info.workspaceId, documentId })
      }
      throw new AppError('document.corrupt', 'The document on this machine cannot be read.', {
        cause,
        details: { document_id: documentId },
      })
    }
    this.#unreadable.delete(documentId)
    const heads = A.getHeads(doc).sort()
    if (!sameHeads(info.heads, heads)) this.#infos.set(documentId, { ...info, heads })
    const entry = this.#enter(documentId, doc, changes.length)
    if (base === null && changes.length > COMPACT_ROWS && this.waiting({ documentId }) === 0)
      this.#compact(entry)
    return entry
  }

  /** Only a document that the server has whole: see docs/decisions/local-state.md. */
  #compact(entry: Entry): void {
    const { documentId } = entry
    const snapshot = {
      documentId,
      ord: this.#nextOrd - 1,
      heads: A.getHeads(entry.doc),
      bytes: A.save(entry.doc),
    }
    entry.writing++
    this.#state
      .write(tx => putSnapshot(tx, snapshot, []))
      .then(
        () => {
          entry.writing--
          entry.rows = 0
        },
        error => {
          entry.writing--
          entry.failed = toAppError(error)
          this.#forget(entry)
        },
      )
  }

  #enter(documentId: string, doc: Doc, rows: number): Entry {
    const info = this.info(documentId)
    const durable = info.heads.length > 0 ? info : null
    const entry: Entry = { doc, documentId, writing: 0, failed: null, rows, durable }
    this.#entries.set(documentId, entry)
    for (const old of this.#entries.values()) {
      if (this.#entries.size <= CAPACITY) break
      if (old !== entry && old.writing === 0) this.#free(old)
    }
    return entry
  }

  /** Takes the entry out of memory for good: what it wrote with that actor is not continued. */
  #forget(entry: Entry): void {
    if (this.#entries.get(entry.documentId) !== entry) return
    this.#actors.delete(entry.documentId)
    if (entry.writing > 0) this.#unsettled.add(entry.documentId)
    this.#free(entry)
  }

  /** Until everything that was asked for before is on disk, or has failed. */
  #flush(): Promise<void> {
    return this.#state.settled()
  }

  #free(entry: Entry): void {
    this.#entries.delete(entry.documentId)
    try {
      A.free(entry.doc)
    } catch {
      // After a panic inside Automerge its memory can't be freed; the document is not used again.
    }
  }

  /** A refused view's further typing: into the draft that holds what it builds on, or null when there is none. */
  async #appendToDraft(
    documentId: string,
    changes: readonly Uint8Array[],
    error: unknown,
  ): Promise<{ heads: string[] } | null> {
    if (toAppError(error).code !== 'change.missing_deps') return null
    for (const { draftId } of await listDrafts(this.#state, { documentId })) {
      const draft = await readDraft(this.#state, draftId)
      if (!draft) continue
      const doc = A.load<unknown>(draft.bytes)
      try {
        const fresh = decodeLocal(doc, changes)
        const next = applyTried(doc, fresh)
        const grown = { ...draft, bytes: A.save(next), changes: draft.changes + fresh.length }
        await this.#state.write(tx => putDraft(tx, grown))
        this.#emit({ kind: 'reset', documentId, draftId })
        return { heads: A.getHeads(next) }
      } catch (cause) {
        if (toAppError(cause).code !== 'change.missing_deps') throw cause
      } finally {
        A.free(doc)
      }
    }
    return null
  }

  /** The document without its unacknowledged tail, or null when nothing else is there. */
  async #serverSide(documentId: string): Promise<Uint8Array | null> {
    const { snapshot, changes } = await readDocument(this.#state, documentId)
    const waiting = this.#waiting(documentId)
    const { base } = this.info(documentId)
    if (base !== null) {
      const own = ownChanges({ snapshot, changes }, waiting)
      if (own.length === 0) return null
      const draft = buildDraft((await this.#load(base)).doc, own)
      const saved = A.save(draft)
      A.free(draft)
      return saved
    }
    const acknowledged = changes.filter(change => !waiting.has(change.hash))
    if (snapshot === null && acknowledged.length === 0) return null
    const doc = build(
      snapshot,
      acknowledged.map(change => change.bytes),
    )
    const bytes = A.save(doc)
    A.free(doc)
    return bytes
  }

  /** The title that a draft was opened with. */
  forkTitle(draftId: string): Promise<string> {
    return this.#serial.run(async () => {
      const own = ownChanges(await readDocument(this.#state, draftId))
      const [first] = own.filter(
        bytes => A.decodeChange(bytes).seq === 1 && A.decodeChange(bytes).ops.length === 0,
      )
      return first ? draftTitle(first) : ''
    })
  }

  #baseOf(draftId: string): string {
    const { base } = this.info(draftId)
    if (base === null)
      throw new AppError('draft.not_found', 'This document is no draft.', {
        details: { document_id: draftId },
      })
    return base
  }

  /** A pipeline's bytes where a draft stands on it. */
  async #forkPoint(draftId: string, base: string): Promise<Uint8Array> {
    const own = ownChanges(await readDocument(this.#state, draftId))
    const part = forkAt((await this.#load(base)).doc, baseHeads(own))
    const bytes = A.save(part)
    A.free(part)
    return bytes
  }

  /** Drafts that build on what the server has not acknowledged of their pipeline. */
  #buildingOnTail(documentId: string): Promise<string[]> {
    return this.#serial.run(async () => {
      const tail = [...this.#waiting(documentId).keys()]
      const drafts = [...this.#infos.values()].filter(info => info.base === documentId)
      const found: string[] = []
      for (const draft of drafts) {
        const { doc } = await this.#load(draft.documentId)
        if (tail.some(hash => A.hasHeads(doc, [hash]))) found.push(draft.documentId)
      }
      return found
    })
  }

  /** Brings an older document to this program's schema, before something is written into it. */
  async #upgrade(entry: Entry): Promise<{ durable: Promise<void>; fresh: StoredChange[] }> {
    const fresh = describeChanges(upgradesOf(entry.doc, this.#schema))
    if (fresh.length === 0) return NOTHING
    this.#apply(entry, fresh)
    return { durable: this.#store(entry, fresh, { local: true }), fresh }
  }

  #begin(made: Omit<NewDocument, 'doc'>, doc: Doc, changes: readonly StoredChange[]): Promise<void> {
    this.#infos.set(made.documentId, {
      documentId: made.documentId,
      workspaceId: made.workspaceId,
      kind: made.kind,
      subject: made.subject ?? null,
      base: made.base ?? null,
      title: '',
      updatedAt: this.#now(),
      heads: [],
    })
    return this.#store(this.#enter(made.documentId, doc, 0), changes, { local: true })
  }

  /** What this machine has acknowledged of a document and the server does not have, as a draft. */
  async #extra(info: DocumentInfo, item: SnapshotItem): Promise<LocalDraft | null> {
    if (info.base !== null) {
      const own = ownChanges(await readDocument(this.#state, info.documentId), this.#waiting(info.documentId))
      if (extraChanges(own, item).length === 0) return null
    }
    const mine = await this.#serverSide(info.documentId)
    if (mine === null) return null
    const theirs =
      info.base === null
        ? A.load<unknown>(item.bytes)
        : buildDraft((await this.#load(info.base)).doc, splitChanges(item.bytes))
    const local = A.load<unknown>(mine)
    const missing = A.getHeads(local).some(head => !A.hasHeads(theirs, [head]))
    const changes = missing ? A.getChanges(theirs, local).length : 0
    const theirBytes = missing ? A.save(theirs) : item.bytes
    A.free(theirs)
    A.free(local)
    if (!missing) return null
    return {
      draftId: newId(),
      workspaceId: info.workspaceId,
      documentId: info.documentId,
      kind: info.kind,
      title: info.title,
      code: 'diverged',
      reason: 'The server no longer has these changes.',
      changes,
      createdAt: this.#now(),
      bytes: mine,
      baseBytes: theirBytes,
    }
  }

  #replace(workspaceId: string, item: SnapshotItem): (tx: Statements) => Promise<void> {
    const keep = [...this.#waiting(item.document_id).values()]
    const info = infoOf(workspaceId, item, this.#now())
    this.#infos.set(item.document_id, info)
    const ord = (keep.length > 0 ? Math.min(...keep) : this.#nextOrd++) - 1
    return async tx => {
      await putInfo(tx, info)
      await putSnapshot(tx, { documentId: item.document_id, ord, heads: item.heads, bytes: item.bytes }, keep)
    }
  }

  #told(documentId: string, fresh: readonly StoredChange[], origin: string): void {
    if (fresh.length === 0) return
    this.#emit({ kind: 'changes', documentId, changes: fresh.map(change => change.bytes), origin })
    this.#emitListed(documentId)
    const info = this.#infos.get(documentId)
    if (info && origin !== 'server') this.#emit({ kind: 'queued', workspaceId: info.workspaceId })
  }

  #emitListed(documentId: string): void {
    const info = this.#infos.get(documentId)
    if (info) this.#emit({ kind: 'listed', workspaceId: info.workspaceId, documentId })
  }

  #emit(event: DocumentEvent): void {
    for (const listener of this.#listeners) listener(event)
  }

  /** The host's own actor for a document: one for each start of the host, a new one after a refusal or a failed write. */
  #actor(documentId: string): string {
    const actor = this.#actors.get(documentId) ?? newActor()
    this.#actors.set(documentId, actor)
    return actor
  }

  #waiting(documentId: string): Map<string, number> {
    const map = this.#outbox.get(documentId) ?? new Map<string, number>()
    this.#outbox.set(documentId, map)
    return map
  }

  #now(): string {
    return isoTime(this.#clock.now())
  }
}

const NOTHING = { durable: Promise.resolve(), fresh: [] as StoredChange[] }

const newActor = (): string => randomUUID().replaceAll('-', '')

const titleOf = (kind: DocumentInfo['kind'], doc: Doc): string =>
  kind === 'pipeline' ? displayName(doc as PipelineDoc) : ''

const sameHeads = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && [...a].sort().join() === [...b].sort().join()

const stale = (before: DocumentInfo, now: DocumentInfo): boolean =>
  Date.parse(now.updatedAt) - Date.parse(before.updatedAt) > 10_000

const infoOf = (workspaceId: string, item: SnapshotItem, updatedAt: string): DocumentInfo => ({
  documentId: item.document_id,
  workspaceId,
  kind: item.kind,
  subject: item.subject,
  base: item.base,
  title: item.title,
  updatedAt,
  heads: item.heads.toSorted(),
})

function build(snapshot: Uint8Array | null, changes: readonly Uint8Array[], actor?: string): Doc {
  const options = actor === undefined ? {} : { actor }
  const doc = snapshot ? A.load<unknown>(snapshot, options) : A.init<unknown>(options)
  return changes.length > 0 ? A.applyChanges(doc, [...changes])[0] : doc
}

/** By document, drafts behind the others: what they build on is taken in first. */
function groupByDocument(items: readonly LogItem[]): Map<string, LogItem[]> {
  const groups = new Map<string, LogItem[]>()
  const ordered = [...items.filter(item => item.base === null), ...items.filter(item => item.base !== null)]
  for (const item of ordered) {
    const group = groups.get(item.document_id)
    if (group) group.push(item)
    else groups.set(item.document_id, [item])
  }
  return groups
}
