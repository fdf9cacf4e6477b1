import { randomUUID } from 'node:crypto'
import * as A from '@automerge/automerge'
import { displayName, forkAt, type PipelineDoc } from '@pluto-duck/crdt-model'
import { AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import type { VoidRecord } from '@pluto-duck/crdt-model/protocol'
import { type Clock, isoTime } from '../clock.ts'
import type { State, Statements } from '../state/index.ts'
import { applyTried, describeChanges, type StoredChange } from './admit.ts'
import type { DocumentEvent, NewDocument } from './events.ts'
import { baseHeads, buildDraft, ownChanges } from './forks.ts'
import { Outbox } from './outbox.ts'
import {
  type DocumentInfo,
  putChanges,
  putInfo,
  putSnapshot,
  readDocument,
  readErasing,
  readIndex,
  removeFromOutbox,
} from './rows.ts'
import { type Schema, upgradesOf } from './schema.ts'
import { Serial } from './serial.ts'

type Doc = A.Doc<unknown>

/** What a transaction has to store of one document, and what follows from its end. */
export interface Rows {
  work(tx: Statements): Promise<void>
  done(): void
  failed(error: AppError): void
}

/** What else a transaction stores, or not at all. */
export type Also = (tx: Statements) => Promise<void>

export interface Entry {
  doc: Doc
  readonly documentId: string
  /** Writes on their way: until they are durable the entry stays in memory. */
  writing: number
  /** After a failed write the entry holds what the disk does not: nothing more is stored through it. */
  failed: AppError | null
  /** Of a draft: the entry of its pipeline that `doc` was built on, if that was in memory. */
  under: Entry | null
  /** Changes since the snapshot, by row. */
  rows: number
  /** What the list says of it as far as the disk has it; null while the disk has nothing. */
  durable: DocumentInfo | null
}

/** Documents alive at once; FACTS: thousands slow everything. */
const CAPACITY = 256
/** Rows after which a document is stored as one snapshot again. */
export const COMPACT_ROWS = 500
/** The origin of what the host itself writes. */
export const HOST = 'host'

/**
 * What the parts of `Documents` share: which documents there are, those in memory, and the way of their changes to the disk. Every
 * method that touches a document runs inside `serial`. A document in memory never holds less than the disk, and is thrown away
 * when a write failed.
 */
export class DocumentStore {
  readonly schema: Schema
  readonly state: State
  readonly clock: Clock
  readonly outbox: Outbox
  readonly serial = new Serial()
  readonly infos = new Map<string, DocumentInfo>()
  /** In the order of use, least recent first. */
  readonly entries = new Map<string, Entry>()
  /** Thrown out of memory with writes on their way: to be loaded only after these. */
  readonly unsettled = new Set<string>()
  /** What could not be loaded when it was last tried. */
  readonly unreadable = new Set<string>()
  /** Erased pipelines whose new history has not come yet, with what was said of them. */
  readonly erasing = new Map<string, readonly VoidRecord[]>()
  nextOrd = 1
  /** Is the device connected and caught up with a workspace? */
  live: (workspaceId: string) => boolean = () => false
  /** The user's id on the server. */
  author: () => string | null = () => null
  readonly actors = new Map<string, string>()
  readonly listeners = new Set<(event: DocumentEvent) => void>()

  private constructor(state: State, clock: Clock, schema: Schema) {
    this.schema = schema
    this.state = state
    this.clock = clock
    this.outbox = new Outbox(state)
  }

  static async open(state: State, clock: Clock, schema: Schema): Promise<DocumentStore> {
    const store = new DocumentStore(state, clock, schema)
    const { infos, outbox, nextOrd } = await readIndex(state)
    for (const info of infos) store.infos.set(info.documentId, info)
    for (const row of outbox) store.outbox.of(row.documentId).set(row.hash, row.ord)
    store.nextOrd = nextOrd
    for (const [documentId, records] of await readErasing(state)) store.erasing.set(documentId, records)
    await store.outbox.open()
    return store
  }

  list(workspaceId: string): DocumentInfo[] {
    return [...this.infos.values()].filter(info => info.workspaceId === workspaceId)
  }

  info(documentId: string): DocumentInfo {
    const info = this.infos.get(documentId)
    if (!info)
      throw new AppError('document.not_found', 'There is no such document on this machine.', {
        details: { document_id: documentId },
      })
    return info
  }

  has(documentId: string): boolean {
    return this.infos.has(documentId)
  }

  async load(documentId: string): Promise<Entry> {
    const info = this.info(documentId)
    const held = this.entries.get(documentId)
    if (held) {
      this.entries.delete(documentId)
      this.entries.set(documentId, held)
      return held
    }
    if (this.unsettled.delete(documentId)) await this.flush()
    const base = info.base === null ? null : await this.load(info.base)
    const { snapshot, changes } = await readDocument(this.state, documentId)
    // A write of the pipeline failed meanwhile: it is not what it was.
    if (base !== null && this.entries.get(base.documentId) !== base) return await this.load(documentId)
    let doc: Doc
    try {
      doc = base
        ? buildDraft(base.doc, ownChanges({ snapshot, changes }), this.actor(documentId))
        : build(
            snapshot,
            changes.map(change => change.bytes),
            this.actor(documentId),
          )
    } catch (cause) {
      if (!this.unreadable.has(documentId)) {
        this.unreadable.add(documentId)
        this.emit({ kind: 'unreadable', workspaceId: info.workspaceId, documentId })
      }
      throw new AppError('document.corrupt', 'The document on this machine cannot be read.', {
        cause,
        details: { document_id: documentId },
      })
    }
    this.unreadable.delete(documentId)
    const heads = A.getHeads(doc).sort()
    if (!sameHeads(info.heads, heads)) this.infos.set(documentId, { ...info, heads })
    const entry = this.enter(documentId, doc, changes.length)
    if (base === null && changes.length > COMPACT_ROWS && this.outbox.size(documentId) === 0)
      this.compact(entry)
    return entry
  }

  /** Null for one that cannot be read any more. */
  async loadIfReadable(documentId: string): Promise<Entry | null> {
    try {
      return await this.load(documentId)
    } catch (error) {
      if (toAppError(error).code === 'document.corrupt') return null
      throw error
    }
  }

  enter(documentId: string, doc: Doc, rows: number): Entry {
    const info = this.info(documentId)
    const durable = info.heads.length > 0 ? info : null
    const under = info.base === null ? null : (this.entries.get(info.base) ?? null)
    const entry: Entry = { doc, documentId, writing: 0, failed: null, under, rows, durable }
    this.entries.set(documentId, entry)
    for (const old of this.entries.values()) {
      if (this.entries.size <= CAPACITY) break
      if (old !== entry && old.writing === 0) this.free(old)
    }
    return entry
  }

  /** Takes the entry out of memory for good: what it wrote with that actor is not continued. */
  forget(entry: Entry): void {
    if (this.entries.get(entry.documentId) !== entry) return
    this.actors.delete(entry.documentId)
    if (entry.writing > 0) this.unsettled.add(entry.documentId)
    this.free(entry)
  }

  /** The entry holds what the disk does not, and so do drafts that were built on it: all are read anew from the disk. */
  fail(entry: Entry, error: AppError): void {
    entry.failed = error
    this.forget(entry)
    for (const draft of this.entries.values()) if (draft.under === entry) this.forget(draft)
  }

  /** Until everything that was asked for before is on disk, or has failed. */
  flush(): Promise<void> {
    return this.state.settled()
  }

  free(entry: Entry): void {
    this.entries.delete(entry.documentId)
    try {
      A.free(entry.doc)
    } catch {
      // After a panic inside Automerge its memory can't be freed; the document is not used again.
    }
  }

  /** Only a document that the server has whole: see docs/decisions/local-state.md. */
  compact(entry: Entry): void {
    const { documentId } = entry
    const snapshot = {
      documentId,
      ord: this.nextOrd - 1,
      heads: A.getHeads(entry.doc),
      bytes: A.save(entry.doc),
    }
    entry.writing++
    this.state
      .write(tx => putSnapshot(tx, snapshot, []))
      .then(
        () => {
          entry.writing--
          entry.rows = 0
        },
        error => {
          entry.writing--
          this.fail(entry, toAppError(error))
        },
      )
  }

  apply(entry: Entry, fresh: readonly StoredChange[]): void {
    try {
      entry.doc = applyTried(entry.doc, fresh)
    } catch (error) {
      this.forget(entry)
      throw error
    }
  }

  /** Brings an older document to this program's schema, before something is written into it. */
  async upgrade(entry: Entry): Promise<{ durable: Promise<void>; fresh: StoredChange[] }> {
    const fresh = describeChanges(upgradesOf(entry.doc, this.schema))
    if (fresh.length === 0) return NOTHING
    this.apply(entry, fresh)
    return { durable: this.store(entry, fresh, { local: true }), fresh }
  }

  begin(
    made: Omit<NewDocument, 'doc'>,
    doc: Doc,
    changes: readonly StoredChange[],
    also?: Also,
  ): Promise<void> {
    this.infos.set(made.documentId, {
      documentId: made.documentId,
      workspaceId: made.workspaceId,
      kind: made.kind,
      subject: made.subject ?? null,
      base: made.base ?? null,
      title: '',
      updatedAt: this.now(),
      heads: [],
    })
    return this.store(this.enter(made.documentId, doc, 0), changes, { local: true }, also)
  }

  store(
    entry: Entry,
    fresh: readonly StoredChange[],
    how:
      | { readonly local: true }
      | { readonly local: false; readonly acknowledged: ReadonlyMap<string, number> },
    also?: Also,
  ): Promise<void> {
    const rows = this.prepare(entry, fresh, how)
    return rows || also ? this.commit(rows ? [rows] : [], also) : Promise.resolve()
  }

  /** The rows of changes that the entry holds already. Prepared inside the serial, so rows keep the order of changes. */
  prepare(
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
      updatedAt: this.now(),
      heads: A.getHeads(entry.doc).sort(),
    }
    this.infos.set(documentId, info)
    const firstOrd = this.nextOrd
    this.nextOrd += fresh.length
    const live = how.local && this.live(info.workspaceId)
    const waiting = this.outbox.of(documentId)
    if (how.local) for (const [i, change] of fresh.entries()) waiting.set(change.hash, firstOrd + i)
    if (live) this.outbox.noteLive(documentId, fresh)
    // The list's row is written when it says something new, and once in a while for its time.
    const listed = info.title !== before.title || before.heads.length === 0 || stale(before, info)
    entry.writing++
    entry.rows += fresh.length
    return {
      work: async tx => {
        const failed = entry.failed ?? entry.under?.failed
        if (failed) throw failed
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
        if (how.local) for (const change of fresh) waiting.delete(change.hash)
        else for (const [hash, ord] of how.acknowledged) waiting.set(hash, ord)
        if (entry.durable) this.infos.set(documentId, entry.durable)
        else this.infos.delete(documentId)
        this.fail(entry, error)
      },
    }
  }

  /** Writes what was prepared in one transaction. */
  async commit(rows: readonly Rows[], also?: Also): Promise<void> {
    try {
      await this.state.write(async tx => {
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

  /** The document without its unacknowledged tail, or null when nothing else is there. */
  async serverSide(documentId: string): Promise<Uint8Array | null> {
    const { snapshot, changes } = await readDocument(this.state, documentId)
    const waiting = this.outbox.of(documentId)
    const { base } = this.info(documentId)
    if (base !== null) {
      const own = ownChanges({ snapshot, changes }, waiting)
      if (own.length === 0) return null
      const draft = buildDraft((await this.load(base)).doc, own)
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

  baseOf(draftId: string): string {
    const { base } = this.info(draftId)
    if (base === null)
      throw new AppError('draft.not_found', 'This document is no draft.', {
        details: { document_id: draftId },
      })
    return base
  }

  /** A pipeline's bytes where a draft stands on it. */
  async forkPoint(draftId: string, base: string): Promise<Uint8Array> {
    const own = ownChanges(await readDocument(this.state, draftId))
    const part = forkAt((await this.load(base)).doc, baseHeads(own))
    const bytes = A.save(part)
    A.free(part)
    return bytes
  }

  told(documentId: string, fresh: readonly StoredChange[], origin: string): void {
    if (fresh.length === 0) return
    this.emit({ kind: 'changes', documentId, changes: fresh.map(change => change.bytes), origin })
    this.emitListed(documentId)
    const info = this.infos.get(documentId)
    if (info && origin !== 'server') this.emit({ kind: 'queued', workspaceId: info.workspaceId })
  }

  emitListed(documentId: string): void {
    const info = this.infos.get(documentId)
    if (info) this.emit({ kind: 'listed', workspaceId: info.workspaceId, documentId })
  }

  emit(event: DocumentEvent): void {
    for (const listener of this.listeners) listener(event)
  }

  /** The host's own actor for a document: one for each start of the host, a new one after a refusal or a failed write. */
  actor(documentId: string): string {
    const actor = this.actors.get(documentId) ?? newActor()
    this.actors.set(documentId, actor)
    return actor
  }

  /** What a local draft of a document is called: comments have no name, and go by what they are about. */
  localDraftTitle({ kind, subject, title }: DocumentInfo): string {
    if (kind === 'pipeline') return title
    const about = subject && this.infos.get(subject.id)
    if (!about)
      return subject?.kind === 'run' || subject?.kind === 'report' ? `Comments on a ${subject.kind}` : ''
    if (about.base === null) return `Comments on ${about.title}`
    return `Comments on a draft of ${this.infos.get(about.base)?.title ?? 'a pipeline'}`
  }

  now(): string {
    return isoTime(this.clock.now())
  }
}

export const NOTHING = { durable: Promise.resolve(), fresh: [] as StoredChange[] }

export const newActor = (): string => randomUUID().replaceAll('-', '')

export const titleOf = (kind: DocumentInfo['kind'], doc: Doc): string =>
  kind === 'pipeline' ? displayName(doc as PipelineDoc) : ''

export const sameHeads = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && [...a].sort().join() === [...b].sort().join()

export const stale = (before: DocumentInfo, now: DocumentInfo): boolean =>
  Date.parse(now.updatedAt) - Date.parse(before.updatedAt) > 10_000

export function build(snapshot: Uint8Array | null, changes: readonly Uint8Array[], actor?: string): Doc {
  const options = actor === undefined ? {} : { actor }
  const doc = snapshot ? A.load<unknown>(snapshot, options) : A.init<unknown>(options)
  return changes.length > 0 ? A.applyChanges(doc, [...changes])[0] : doc
}
