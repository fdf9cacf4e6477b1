import * as A from '@automerge/automerge'
import {
  createPipeline,
  draftTitle,
  forkAt,
  forkDraft,
  makeEqualTo,
  type PipelineDoc,
  pipelineFromDoc,
  rootOf,
} from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { type LogItem, newId, type SnapshotItem } from '@pluto-duck/crdt-model/protocol'
import type { Clock } from '../clock.ts'
import { dueRewrite, type State } from '../state/index.ts'
import { applyTried, describeChanges } from './admit.ts'
import { Appends } from './appends.ts'
import { type Also, COMPACT_ROWS, DocumentStore, HOST, newActor } from './document-store.ts'
import { type LocalDraft, type LocalDraftEntry, listDrafts, readDraft, removeDraft } from './drafts.ts'
import type { DocumentEvent, NewDocument, Refusal } from './events.ts'
import { baseHeads, notFork, ownChanges } from './forks.ts'
import { rebased } from './rebased.ts'
import { type DocumentInfo, type OwnRecord, readDocument } from './rows.ts'
import { type Newer, OWN_SCHEMA, type Schema, schemaOf, tooNew, upgradesOf } from './schema.ts'
import { storedBytes } from './stored-bytes.ts'
import { type LeftBehind, TakeBack } from './take-back.ts'
import { TakeIn } from './take-in.ts'

/**
 * The documents of this machine. What `append`, `edit`, `create` and `applyRemote` resolve with is on disk, in the outbox
 * where it is ours, and told to the views.
 *
 * Automerge work is synchronous, so one document is touched at a time; waiting for the disk is not part of that, so writers of
 * many documents share commits. A document in memory never holds less than the disk, and is thrown away when a write failed.
 */
export class Documents {
  readonly #store: DocumentStore
  readonly #appends: Appends
  readonly #takeIn: TakeIn
  readonly #takeBack: TakeBack

  private constructor(store: DocumentStore) {
    this.#store = store
    this.#appends = new Appends(store)
    this.#takeIn = new TakeIn(store)
    this.#takeBack = new TakeBack(store)
  }

  /** @param schema what this program knows of documents; tests give another. */
  static async open(state: State, clock: Clock, schema: Schema = OWN_SCHEMA): Promise<Documents> {
    return new Documents(await DocumentStore.open(state, clock, schema))
  }

  /** Tells of changes, resets and lists; returns what stops it. Listeners must not throw. */
  on(listener: (event: DocumentEvent) => void): () => void {
    this.#store.listeners.add(listener)
    return () => this.#store.listeners.delete(listener)
  }

  /** Who knows whether the device is connected and caught up now: said with every change that is written. */
  setLiveness(live: (workspaceId: string) => boolean): void {
    this.#store.live = live
  }

  /** Whose content comes back as a local draft when it is taken out of the log: the user's id on the server. */
  setAuthor(author: () => string | null): void {
    this.#store.author = author
  }

  list(workspaceId: string): DocumentInfo[] {
    return this.#store.list(workspaceId)
  }

  info(documentId: string): DocumentInfo {
    return this.#store.info(documentId)
  }

  has(documentId: string): boolean {
    return this.#store.has(documentId)
  }

  /** Changes that the server has not acknowledged: of a document, or of a workspace. */
  waiting(of: { readonly documentId: string } | { readonly workspaceId: string }): number {
    if ('documentId' in of) return this.#store.outbox.size(of.documentId)
    let sum = 0
    for (const [documentId, size] of this.#store.outbox.sizes())
      if (this.#store.infos.get(documentId)?.workspaceId === of.workspaceId) sum += size
    return sum
  }

  /** Of what waits in a workspace, the changes that can be sent: those of documents that can be read. */
  sendable(workspaceId: string): number {
    const held = this.unreadable(workspaceId).reduce(
      (sum, documentId) => sum + this.#store.outbox.size(documentId),
      0,
    )
    return this.waiting({ workspaceId }) - held
  }

  /** Documents of a workspace that were found to be unreadable since the start. */
  unreadable(workspaceId: string): string[] {
    return [...this.#store.unreadable].filter(id => this.#store.infos.get(id)?.workspaceId === workspaceId)
  }

  /** Reads every document of a workspace, one at a time; answers how many there are and which cannot be read. */
  async check(workspaceId: string): Promise<{ documents: number; unreadable: string[] }> {
    const all = this.#store.list(workspaceId)
    for (const { documentId } of all) {
      if (!this.#store.has(documentId)) continue
      await this.#store.serial.run(() => this.#store.loadIfReadable(documentId))
      // Other work gets its turn.
      await new Promise(resolve => setImmediate(resolve))
    }
    return { documents: all.length, unreadable: this.unreadable(workspaceId) }
  }

  /** Hashes of a document that the server has not acknowledged. */
  unacknowledged(documentId: string): ReadonlySet<string> {
    return new Set(this.#store.outbox.of(documentId).keys())
  }

  /**
   * How many of the server's records of a document are here, and how many changes were written live and wait for theirs: marks
   * differ only when one of these, or the heads, do.
   */
  recorded(documentId: string): { stored: number; live: number } {
    return this.#store.outbox.recorded(documentId)
  }

  /** Records of a document were stored by another way than `applyRemote`. */
  noteRecords(documentId: string, count: number): void {
    this.#store.outbox.noteRecords(documentId, count)
  }

  /**
   * A document's bytes for a view, with an actor that nobody else writes with. One that is not in memory is read and not loaded: a
   * view that opens a long text loads it itself, and need not wait for the host to have done so before.
   */
  open(documentId: string): Promise<{
    readonly bytes: Uint8Array
    readonly actor: string
    readonly heads: string[]
    /** As `newer` answers. */
    readonly newer: Newer | null
  }> {
    return this.#store.serial.run(async () => {
      const { base, heads } = this.#store.info(documentId)
      if (base === null && !this.#store.entries.has(documentId)) {
        if (this.#store.unsettled.delete(documentId)) await this.#store.flush()
        const { snapshot, changes } = await readDocument(this.#store.state, documentId)
        // Many single changes load slowly; the host's own loading makes them one snapshot.
        const bytes = changes.length > COMPACT_ROWS ? null : storedBytes(snapshot, changes)
        const root = bytes && (await rootOf(bytes))
        if (bytes && root) return { bytes, actor: newActor(), heads: [...heads], newer: this.#newer(root) }
      }
      const { doc } = await this.#store.load(documentId)
      return { bytes: A.save(doc), actor: newActor(), heads: A.getHeads(doc), newer: this.#newer(doc) }
    })
  }

  /** Runs `look` over the loaded document. It must not keep the document: it may be freed after that. */
  read<T, D = PipelineDoc>(documentId: string, look: (doc: A.Doc<D>) => T): Promise<T> {
    return this.#store.serial.run(async () => look((await this.#store.load(documentId)).doc as A.Doc<D>))
  }

  /** Stores a new document. The same id again is refused with `request.invalid`. `ends` as for `edit`. */
  async create(made: NewDocument, ends?: string): Promise<void> {
    const written = await this.#store.serial.run(async () => {
      const ending = await this.#ending(ends)
      if (this.#store.infos.has(made.documentId))
        throw new AppError('request.invalid', 'There is a document with this id already.')
      const changes = describeChanges(A.getAllChanges(made.doc))
      const doc = A.load<unknown>(A.save(made.doc), { actor: this.#store.actor(made.documentId) })
      const durable = this.#store.begin(made, doc, changes, ending?.also)
      if (ending) await durable
      return { durable, ending }
    })
    await written.durable
    await written.ending?.done()
    this.#store.emit({ kind: 'queued', workspaceId: made.workspaceId })
  }

  /**
   * Stores a new draft of a pipeline at `heads`, with what `change` writes in it. The draft shares the pipeline's history; only what is
   * written in it is its own. Throws `request.invalid` for the draft of a draft and for an id that is taken. `ends` as for `edit`.
   */
  async fork(
    draft: {
      readonly documentId: string
      readonly base: string
      readonly heads: readonly string[]
      readonly title: string
    },
    change?: (doc: A.Doc<PipelineDoc>) => A.Doc<PipelineDoc>,
    ends?: string,
  ): Promise<void> {
    const { documentId, base, heads, title } = draft
    const { workspaceId, kind, base: baseOfBase } = this.#store.info(base)
    if (kind !== 'pipeline' || baseOfBase !== null) throw notFork()
    const written = await this.#store.serial.run(async () => {
      const ending = await this.#ending(ends)
      if (this.#store.infos.has(documentId))
        throw new AppError('request.invalid', 'There is a document with this id already.')
      const { doc: whole } = await this.#store.load(base)
      const empty = forkDraft(whole, heads, title, { actor: this.#store.actor(documentId) })
      const upgraded = () => applyTried(empty, describeChanges(upgradesOf(empty, this.#store.schema)))
      const doc = change ? change(upgraded() as A.Doc<PipelineDoc>) : empty
      const changes = describeChanges(A.getChangesSince(doc, [...heads]))
      const durable = this.#store.begin({ documentId, workspaceId, kind, base }, doc, changes, ending?.also)
      if (ending) await durable
      return { durable, ending }
    })
    await written.durable
    await written.ending?.done()
    this.#store.emitListed(documentId)
    this.#store.emit({ kind: 'queued', workspaceId })
  }

  /** Merges what the base is at `heads` into a draft, as a change of the draft. Answers whether there was anything new. */
  async takeInBase(draftId: string, heads: readonly string[]): Promise<boolean> {
    const written = await this.#store.serial.run(async () => {
      const entry = await this.#store.load(draftId)
      const base = await this.#store.load(this.#store.baseOf(draftId))
      if (schemaOf(entry.doc) > this.#store.schema.version)
        throw tooNew(schemaOf(entry.doc), this.#store.schema.version)
      if (A.hasHeads(entry.doc, [...heads])) return { durable: Promise.resolve(), fresh: [] }
      const part = forkAt(base.doc, heads)
      entry.under = base
      try {
        entry.doc = A.emptyChange(A.merge(entry.doc, part), { message: 'take in the pipeline' })
      } catch (error) {
        this.#store.forget(entry)
        throw error
      } finally {
        A.free(part)
      }
      const last = A.getLastLocalChange(entry.doc)
      const fresh = describeChanges(last ? [last] : [])
      return { durable: this.#store.store(entry, fresh, { local: true }), fresh }
    })
    await written.durable
    if (written.fresh.length > 0) {
      // What came from the base is in no change of the draft: views take the whole document.
      this.#store.emit({ kind: 'reset', documentId: draftId, draftId: null })
      this.#store.told(draftId, written.fresh, HOST)
    }
    return written.fresh.length > 0
  }

  /** A draft as it is, and the pipeline where the draft stands on it: what a reviewer compares. */
  readFork<T>(draftId: string, look: (base: A.Doc<PipelineDoc>, draft: A.Doc<PipelineDoc>) => T): Promise<T> {
    return this.#store.serial.run(async () => {
      const { doc } = await this.#store.load(draftId)
      const { doc: base } = await this.#store.load(this.#store.baseOf(draftId))
      const part = forkAt(base, baseHeads(ownChanges(await readDocument(this.#store.state, draftId))))
      try {
        return look(part as A.Doc<PipelineDoc>, doc as A.Doc<PipelineDoc>)
      } finally {
        A.free(part)
      }
    })
  }

  /** Throws `document.too_new` for a document that this program can show and sync, but neither edit, publish nor run. */
  async assertKnown(documentId: string): Promise<void> {
    const newer = await this.newer(documentId)
    if (newer) throw tooNew(newer.version, newer.known)
  }

  /** The schema of a document that this program does not know, and the newest that it does; null for one that it may write. */
  newer(documentId: string): Promise<Newer | null> {
    return this.read<Newer | null, unknown>(documentId, doc => this.#newer(doc))
  }

  #newer(root: object): Newer | null {
    const version = schemaOf(root)
    return version > this.#store.schema.version ? { version, known: this.#store.schema.version } : null
  }

  /**
   * An edit by the host itself: import, restore, CLI. `change` returns the changed document, or the same for no change.
   * @param ends a local draft whose content this is: it is gone with the edit in one transaction, so neither a second call nor a death in
   * between makes the edit twice. Throws `draft.not_found` when it is gone already.
   */
  async edit<D = PipelineDoc>(
    documentId: string,
    change: (doc: A.Doc<D>) => A.Doc<D>,
    { ends }: { readonly ends?: string } = {},
  ): Promise<{ heads: string[]; changed: boolean }> {
    const written = await this.#store.serial.run(async () => {
      const ending = await this.#ending(ends)
      const entry = await this.#store.load(documentId)
      if (schemaOf(entry.doc) > this.#store.schema.version)
        throw tooNew(schemaOf(entry.doc), this.#store.schema.version)
      const upgrade = await this.#store.upgrade(entry)
      const before = A.getHeads(entry.doc)
      try {
        entry.doc = change(entry.doc as A.Doc<D>) as A.Doc<unknown>
      } catch (error) {
        // It may have changed the document before it threw; the disk has what counts.
        this.#store.forget(entry)
        throw error
      }
      const fresh = describeChanges(A.getChangesSince(entry.doc, before))
      const heads = A.getHeads(entry.doc)
      const stored = this.#store.store(entry, fresh, { local: true }, ending?.also)
      const durable = Promise.all([upgrade.durable, stored])
      if (ending) await durable
      return { heads, durable, fresh, upgrade: upgrade.fresh, ending }
    })
    await written.durable
    this.#store.told(documentId, written.upgrade, HOST)
    this.#store.told(documentId, written.fresh, HOST)
    await written.ending?.done()
    return { heads: written.heads, changed: written.fresh.length > 0 }
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
    return this.#appends.append(documentId, changes, origin)
  }

  /**
   * Takes in a piece of the log, with the cursor that it reaches, in one transaction. Each document is applied once, whatever
   * the number of its changes. `own` are records of changes from here that stand in the same piece and were told before. Answers
   * the documents whose changes do not fit what is here: they have to be fetched whole.
   */
  applyRemote(
    workspaceId: string,
    items: readonly LogItem[],
    cursor: number,
    own: readonly OwnRecord[] = [],
  ): Promise<{ diverged: string[] }> {
    return this.#takeIn.applyRemote(workspaceId, items, cursor, own)
  }

  /**
   * Takes documents as the server has them (first sync, or healing one that differs). What waits in the outbox stays on top of it.
   * Content that neither the server has nor the outbox carries is kept as a local draft of code `diverged`. One that cannot be read
   * here is taken anew. With `cursor`, the last part says how far it reaches: that is stored with it. `erased` are void records of the
   * log that erase: what they took out is kept in no draft.
   */
  adopt(
    workspaceId: string,
    items: readonly SnapshotItem[],
    cursor: number | null = null,
    erased: readonly LogItem[] = [],
  ): Promise<{ drafts: string[] }> {
    return this.#takeIn.adopt(workspaceId, items, cursor, erased)
  }

  /** Takes out of local drafts what was erased of documents that are here without it already. */
  cleanDrafts(workspaceId: string, erased: readonly LogItem[]): Promise<void> {
    return this.#takeIn.cleanDrafts(workspaceId, erased)
  }

  /**
   * The server refused changes of a document for good. Its whole unacknowledged tail becomes one local draft with its content, and
   * the document is again what the server has; without anything there it leaves the list.
   */
  refuse(documentId: string, refusal: Refusal): Promise<string> {
    return this.#takeBack.refuse(documentId, refusal)
  }

  /**
   * The server no longer has this document, and nothing of it waits: it and its drafts leave the list and are local drafts of code
   * `diverged`. Answers these. Throws `document.corrupt` for one that cannot be read.
   */
  setAside(documentId: string): Promise<string[]> {
    return this.#takeBack.setAside(documentId)
  }

  /**
   * Takes a workspace's documents off this machine, with versions and records. What the server does not have is kept as local drafts
   * before. A document of which that fails stays as it is, with its error in `unreadable`.
   */
  leave(workspaceId: string, refusal: Refusal): Promise<LeftBehind> {
    return this.#takeBack.leave(workspaceId, refusal)
  }

  /**
   * The server has stored these: they leave the outbox. In the same transaction the workspace's cursor becomes `reached`, and
   * `records`, those of own changes up to there, are kept.
   */
  acknowledge(
    workspaceId: string,
    stored: readonly { readonly documentId: string; readonly hash: string }[],
    at: { readonly records: readonly OwnRecord[]; readonly reached: number },
  ): Promise<void> {
    return this.#store.outbox.acknowledge(workspaceId, stored, at)
  }

  /** What waits and can be read, oldest first: the changes of one run of equal `live`, at most so many. */
  async outbox(
    workspaceId: string,
    limit: number,
  ): Promise<{ documentId: string; hash: string; ord: number; live: boolean; bytes: Uint8Array }[]> {
    return await this.#store.outbox.rows(
      workspaceId,
      limit,
      id => this.#store.infos.get(id)?.base ?? null,
      this.unreadable(workspaceId),
    )
  }

  /**
   * Hashes of what was written live and has no record here yet: this device's own until the server tells it, the others' until
   * it is stored. Without it two people who type beside each other would see a mark for as long as that takes.
   */
  writtenLive(documentId: string): ReadonlySet<string> {
    return this.#store.outbox.writtenLive(documentId)
  }

  /** The connection was lost: what waits was not written beside the others, whatever was thought then. */
  unlive(workspaceId: string): Promise<void> {
    const ids = new Set(this.list(workspaceId).map(info => info.documentId))
    return this.#store.outbox.unlive(workspaceId, ids)
  }

  /** The title that a draft was opened with. */
  forkTitle(draftId: string): Promise<string> {
    return this.#store.serial.run(async () => {
      const own = ownChanges(await readDocument(this.#store.state, draftId))
      const [first] = own.filter(
        bytes => A.decodeChange(bytes).seq === 1 && A.decodeChange(bytes).ops.length === 0,
      )
      return first ? draftTitle(first) : ''
    })
  }

  drafts(workspaceId: string): Promise<LocalDraftEntry[]> {
    return listDrafts(this.#store.state, { workspaceId })
  }

  async draft(draftId: string): Promise<LocalDraft> {
    const draft = await readDraft(this.#store.state, draftId)
    if (!draft) throw new AppError('draft.not_found', 'There is no such local draft.')
    return draft
  }

  /** A local draft of which an edit can be made. Throws `document.too_new` for one that a newer program wrote: it stays as it is. */
  async editableDraft(draftId: string): Promise<LocalDraft> {
    const draft = await this.draft(draftId)
    const doc = A.load<unknown>(draft.bytes)
    const newer = this.#newer(doc)
    A.free(doc)
    // Read by this program it would be without what only the newer one knows.
    if (newer) throw tooNew(newer.version, newer.known)
    return draft
  }

  /**
   * Applies a pipeline's local draft again, as this person's edit now: what the draft changed since its base, beside whatever
   * happened meanwhile (concurrent edits of one place become marks). A document that the server never had is made anew, with
   * a new id. Answers the document; the draft is gone.
   */
  async applyDraft(draftId: string): Promise<{ documentId: string }> {
    const draft = await this.editableDraft(draftId)
    if (draft.kind !== 'pipeline')
      throw new AppError('request.invalid', 'Comments that were refused cannot be applied again.', {
        hint: `Their text is in \`pluto local-draft diff ${draftId}\`: write it as a new comment.`,
      })
    const { baseBytes } = draft
    if (baseBytes && this.#store.has(draft.documentId)) {
      const { documentId } = draft
      await this.edit<unknown>(documentId, doc => withDraft(doc, draft.bytes, baseBytes), { ends: draftId })
      return { documentId }
    }
    const documentId = newId()
    const doc = createPipeline(pipelineFromDoc(A.load<PipelineDoc>(draft.bytes)))
    await this.create({ ...draft, documentId, kind: 'pipeline', doc }, draftId)
    return { documentId }
  }

  /** Of a document that is not on this machine any more nothing is left in the folder after it. */
  async discardDraft(draftId: string): Promise<void> {
    const { also, done } = this.#endOf(await this.draft(draftId))
    await this.#store.state.write(also)
    await done()
  }

  /** Read inside the serial: of two that end the same local draft the second finds none. */
  async #ending(draftId: string | undefined): Promise<Ending | null> {
    return draftId === undefined ? null : this.#endOf(await this.draft(draftId))
  }

  #endOf({ draftId, documentId, workspaceId }: LocalDraft): Ending {
    const last = !this.#store.has(documentId)
    return {
      also: async tx => {
        await removeDraft(tx, draftId)
        if (last) await dueRewrite(tx)
      },
      done: async () => {
        if (last) await this.#store.state.rewrite()
        this.#store.emit({ kind: 'listed', workspaceId, documentId })
      },
    }
  }

  /** Waits for what is on its way to the disk and frees all documents. */
  async close(): Promise<void> {
    await this.#store.flush()
    for (const entry of [...this.#store.entries.values()]) this.#store.forget(entry)
  }
}

/** How a local draft ends: with the transaction that stores what it held, and what follows. */
interface Ending {
  readonly also: Also
  done(): Promise<void>
}

/** A document with what a local draft changed since its base, as one person's edit beside whatever happened meanwhile. */
function withDraft(doc: A.Doc<unknown>, bytes: Uint8Array, baseBytes: Uint8Array): A.Doc<unknown> {
  const mine = A.load<PipelineDoc>(bytes)
  const base = A.load<PipelineDoc>(baseBytes, { actor: newActor() })
  const before = A.getHeads(base)
  let next: A.Doc<unknown> | null = null
  try {
    if (A.hasHeads(doc, before)) {
      next = makeEqualTo(base, pipelineFromDoc(mine), 'apply a local draft')
      return A.applyChanges(doc, A.getChangesSince(next, before))[0]
    }
    // Something of what it stands on was taken out of the document since.
    const rest = rebased('pipeline', { base, mine }, doc)
    return rest ? A.applyChanges(doc, A.getChangesSince(A.load<unknown>(rest), A.getHeads(doc)))[0] : doc
  } finally {
    A.free(mine)
    A.free(next ?? base)
  }
}
