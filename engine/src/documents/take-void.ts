import * as A from '@automerge/automerge'
import type { VoidRecord } from '@pluto-duck/crdt-model/protocol'
import { voidedBy } from '@pluto-duck/crdt-model/protocol'
import { dueRewrite, type Statements } from '../state/index.ts'
import { describeChanges, type StoredChange } from './admit.ts'
import { build, type DocumentStore, type Rows, titleOf } from './document-store.ts'
import { type LocalDraft, putDraft, removeDraft } from './drafts.ts'
import { buildDraft, ownChanges } from './forks.ts'
import {
  type DocumentInfo,
  forgetContent,
  putErasing,
  putInfo,
  putSnapshot,
  readDocument,
  removeFromOutbox,
} from './rows.ts'
import { type Before, draftsOfVoid, draftsWithoutErased, type Ground } from './void-drafts.ts'
import { headsOf, type Sorted, sortVoided, type Voiding } from './voids.ts'

type Doc = A.Doc<unknown>

/** What follows from void records: rows that wait for their transaction, and what views are told after it. */
export interface Taken {
  readonly rows: readonly Rows[]
  readonly erase: boolean
  readonly reset: readonly { readonly documentId: string; readonly draftId: string | null }[]
}

/** A document after something was taken out of it. */
interface Settled {
  readonly of: Voiding
  readonly info: DocumentInfo | null
  readonly sorted: Sorted
  /** The server's side as it is stored. */
  readonly bytes: Uint8Array
  readonly doc: Doc | null
  readonly drafts: { readonly put: readonly LocalDraft[]; readonly remove: readonly string[] }
  readonly made: string | null
}

const NOTHING: Taken = { rows: [], erase: false, reset: [] }

/**
 * Void records: what was taken out of the log leaves the document and its drafts, and what this person had in it becomes a local draft
 * in the same transaction. Drafts go with their pipeline, while what they were built on can still be read. The documents in memory are
 * the new ones from here on, so nothing is built on rows that are about to go.
 */
export class TakeVoid {
  readonly #store: DocumentStore

  constructor(store: DocumentStore) {
    this.#store = store
  }

  /**
   * The document is what the server has now; unsent edits that build on what was taken out, and this person's own content that was,
   * become a local draft. What was erased is in no draft. `forks` is what came along of its drafts. Null for a document that cannot be
   * read here, unless something was erased: it has to be fetched anew, with what waits on top.
   *
   * An erased pipeline whose new history has not come yet stays as it is until it does; that is durable.
   */
  async take(voiding: Voiding, forks: ReadonlyMap<string, Voiding> = new Map()): Promise<Taken | null> {
    const store = this.#store
    await store.flush()
    const { documentId, base } = voiding
    if (base !== null) return await this.#takeFork(voiding, base)
    const of = { ...voiding, records: [...(store.erasing.get(documentId) ?? []), ...voiding.records] }
    const erase = of.records.some(record => record.erase)
    const before = await this.#before(of)
    if (before && !before.doc && !erase) return null
    const waiting = new Set(store.outbox.of(documentId).keys())
    const sorted = sortVoided(before?.changes ?? [], waiting, of)
    if (erase && of.kind === 'pipeline' && sorted.kept.length === 0) return this.#defer(of)

    const now = build(
      null,
      sorted.kept.map(change => change.bytes),
    )
    const left = [...sorted.kept, ...sorted.waiting]
    const ground: Ground = { documentId, doc: sorted.kept.length > 0 ? now : null }
    const settled: Settled[] = []
    const made = await this.#drafts(before, sorted, ground)
    const others = erase
      ? await draftsWithoutErased(store.state, of.workspaceId, of.records, ground)
      : { put: [], remove: [] }
    const out = new Set([...sorted.voided, ...sorted.lost].map(change => change.hash))
    for (const fork of [...store.infos.values()].filter(info => info.base === documentId)) {
      const said = forks.get(fork.documentId) ?? { ...fork, records: [], arrived: [] }
      const one = await this.#settleFork(said, before?.doc ?? null, now, {
        out,
        erase,
        reason: sorted.reason,
      })
      if (one) settled.push(one)
    }
    settled.unshift({
      of,
      sorted,
      info: this.#info(of, sorted, now),
      bytes: A.save(now),
      doc:
        left.length > 0
          ? build(
              null,
              left.map(change => change.bytes),
            )
          : null,
      drafts: { put: [...others.put, ...made], remove: others.remove },
      made: made[0]?.draftId ?? null,
    })
    A.free(now)
    return this.#taken(settled, erase)
  }

  /** Is something here of what these records erased? So it is said of what cannot be read. */
  async holds(documentId: string, records: readonly VoidRecord[]): Promise<boolean> {
    const info = this.#store.infos.get(documentId)
    if (!info || records.length === 0) return false
    const before = await this.#before(info)
    const hashes = records.flatMap(record => record.hashes)
    return !before?.doc || voidedBy(hashes, before.changes).size > 0
  }

  /** Takes what was erased out of local drafts of documents that are here without it already. Answers whether there was any. */
  async clean(workspaceId: string, documentId: string, records: readonly VoidRecord[]): Promise<boolean> {
    const { state } = this.#store
    const here = this.#store.has(documentId) ? await this.#store.serverSide(documentId) : null
    const doc = here && A.load<unknown>(here)
    const drafts = await draftsWithoutErased(state, workspaceId, records, { documentId, doc })
    if (doc) A.free(doc)
    if (drafts.put.length + drafts.remove.length === 0) return false
    await state.write(async tx => {
      for (const draft of drafts.put) await putDraft(tx, draft)
      for (const draftId of drafts.remove) await removeDraft(tx, draftId)
      await dueRewrite(tx)
    })
    return true
  }

  /** A draft alone: its pipeline stays as it is. */
  async #takeFork(of: Voiding, base: string): Promise<Taken | null> {
    if (!this.#store.infos.has(of.documentId) && of.arrived.length === 0) return NOTHING
    // It ends with its pipeline, once that is known.
    if (this.#store.erasing.has(base)) return NOTHING
    const { doc } = await this.#store.load(base)
    const erase = of.records.some(record => record.erase)
    const one = await this.#settleFork(of, doc, doc, { out: new Set(), erase, reason: '' })
    return one ? this.#taken([one], erase) : NOTHING
  }

  async #settleFork(
    of: Voiding,
    was: Doc | null,
    now: Doc,
    pipeline: { readonly out: ReadonlySet<string>; readonly erase: boolean; readonly reason: string },
  ): Promise<Settled | null> {
    const { documentId } = of
    const before = await this.#before(of, was)
    if (before && !before.doc && !pipeline.erase) return null
    const waiting = new Set(this.#store.outbox.of(documentId).keys())
    // Of an erased pipeline that cannot be read nothing is known but that its drafts are gone with it.
    const out = was ? pipeline.out : (before?.changes ?? []).map(change => change.hash)
    const found = sortVoided(before?.changes ?? [], waiting, of, out)
    const sorted = {
      ...found,
      erase: found.erase || pipeline.erase,
      reason: found.reason || pipeline.reason,
    }
    if (of.records.length + of.arrived.length + sorted.lost.length + sorted.voided.length === 0) {
      if (before?.doc) A.free(before.doc)
      return null
    }
    const kept = sorted.kept.map(change => change.bytes)
    const left = [...sorted.kept, ...sorted.waiting]
    const ground: Ground =
      kept.length > 0
        ? { documentId, doc: buildDraft(now, kept) }
        : { documentId: of.base as string, doc: A.getHeads(now).length > 0 ? now : null }
    const made = await this.#drafts(before, sorted, ground)
    if (kept.length > 0 && ground.doc) A.free(ground.doc)
    if (before?.doc) A.free(before.doc)
    const doc =
      left.length > 0
        ? buildDraft(
            now,
            left.map(change => change.bytes),
          )
        : null
    return {
      of,
      sorted,
      info: this.#info(of, sorted, doc),
      bytes: Buffer.concat(kept),
      doc,
      drafts: { put: made, remove: [] },
      made: made[0]?.draftId ?? null,
    }
  }

  /** How a document is here; null when it is not. The document of a draft is the caller's to free. */
  async #before(
    { documentId }: Pick<Voiding, 'documentId'>,
    base: Doc | null = null,
  ): Promise<Before | null> {
    const store = this.#store
    const info = store.infos.get(documentId)
    if (!info) return null
    const unsent = new Set(store.outbox.of(documentId).keys())
    const stored = await readDocument(store.state, documentId)
    const unseen = (seen: readonly StoredChange[]) => {
      const hashes = new Set(seen.map(change => change.hash))
      const rows = stored.changes.filter(change => unsent.has(change.hash) && !hashes.has(change.hash))
      return rows.map(change => change.bytes)
    }
    const broken: Before = { info, doc: null, changes: [], unsent, base, loose: unseen([]) }
    if (info.base === null) {
      const entry = await store.loadIfReadable(documentId)
      if (!entry) return broken
      const changes = describeChanges(A.getAllChanges(entry.doc))
      return { ...broken, doc: entry.doc, changes, loose: unseen(changes) }
    }
    try {
      const changes = describeChanges(ownChanges(stored))
      const own = changes.map(change => change.bytes)
      const doc = base && own.length > 0 ? buildDraft(base, own) : null
      return { ...broken, changes, doc, loose: doc ? [] : broken.loose }
    } catch {
      return broken
    }
  }

  async #drafts(before: Before | null, sorted: Sorted, ground: Ground): Promise<LocalDraft[]> {
    if (!before) return []
    const mine = sorted.erase ? 0 : await this.#mine(before.info.documentId, sorted.voided)
    const createdAt = this.#store.now()
    const info = { ...before.info, title: this.#store.localDraftTitle(before.info) }
    return draftsOfVoid({ ...before, info }, sorted, mine, ground).map(draft => ({ ...draft, createdAt }))
  }

  /** How many of these changes this person made, by the server's record of them. */
  async #mine(documentId: string, changes: readonly StoredChange[]): Promise<number> {
    const author = this.#store.author()
    if (author === null || changes.length === 0) return 0
    const rows = await this.#store.state.read.all<{ hash: string }>(
      'select hash from records where document_id = $1 and author_id = $2',
      documentId,
      author,
    )
    const hashes = new Set(rows.map(row => row.hash))
    return changes.filter(change => hashes.has(change.hash)).length
  }

  #info(of: Voiding, sorted: Sorted, doc: Doc | null): DocumentInfo | null {
    const { documentId, workspaceId, kind, subject, base } = of
    const left = [...sorted.kept, ...sorted.waiting]
    if (left.length === 0) return null
    const title =
      doc && sorted.kept.length > 0 ? titleOf(kind, doc) : (this.#store.infos.get(documentId)?.title ?? '')
    const updatedAt = this.#store.now()
    return { documentId, workspaceId, kind, subject, base, title, updatedAt, heads: headsOf(left) }
  }

  /** Until its new history comes the document stays as it is: what waits in it is rebased on that. */
  #defer({ documentId, records }: Voiding): Taken {
    const { erasing } = this.#store
    const before = erasing.get(documentId)
    erasing.set(documentId, records)
    const row: Rows = {
      work: tx => putErasing(tx, documentId, records),
      done: () => undefined,
      failed: () => void (before ? erasing.set(documentId, before) : erasing.delete(documentId)),
    }
    return { rows: [row], erase: false, reset: [] }
  }

  /** No new history of it is to come: what is here is no longer taken for erased. */
  waitNoMore(documentId: string): Rows {
    const { erasing } = this.#store
    const before = erasing.get(documentId)
    erasing.delete(documentId)
    return {
      work: tx => putErasing(tx, documentId, []),
      done: () => undefined,
      failed: () => void (before && erasing.set(documentId, before)),
    }
  }

  #taken(settled: readonly Settled[], erase: boolean): Taken {
    const rows = settled.map(one => this.#rows(one))
    const reset = settled.map(({ of, made }) => ({ documentId: of.documentId, draftId: made }))
    return { rows, erase, reset }
  }

  /** The document in memory is the new one now; what its transaction has to store. */
  #rows({ of, info, sorted, bytes, doc, drafts }: Settled): Rows {
    const store = this.#store
    const { documentId } = of
    const { kept, lost, waiting, voided, erase } = sorted
    const before = store.infos.get(documentId)
    const outbox = store.outbox.of(documentId)
    const [stay, arrived] = [
      new Set(waiting.map(one => one.hash)),
      new Set([...kept, ...lost].map(one => one.hash)),
    ]
    // What waits and could not be seen stays too, unless it was erased.
    const gone = [...outbox].filter(([hash]) => !stay.has(hash) && (erase || arrived.has(hash)))
    for (const [hash] of gone) outbox.delete(hash)
    const keep = [...outbox.values()]
    const ord = (keep.length > 0 ? Math.min(...keep) : store.nextOrd++) - 1
    const records = store.erasing.get(documentId)
    store.erasing.delete(documentId)
    const old = store.entries.get(documentId)
    if (old) store.forget(old)
    if (info) store.infos.set(documentId, info)
    else store.infos.delete(documentId)
    const entry = info && doc ? store.enter(documentId, doc, keep.length) : null
    if (entry) entry.writing++
    store.unreadable.delete(documentId)
    return {
      work: async tx => {
        await removeFromOutbox(
          tx,
          gone.map(([, at]) => at),
        )
        if (info) await putInfo(tx, info)
        else await tx.run('delete from documents where document_id = $1', documentId)
        await putSnapshot(tx, { documentId, ord, heads: headsOf(kept), bytes }, keep)
        if (kept.length === 0) await tx.run('delete from snapshots where document_id = $1', documentId)
        for (const { hash } of voided)
          await tx.run('delete from records where document_id = $1 and hash = $2', documentId, hash)
        for (const draft of drafts.put) await putDraft(tx, draft)
        for (const draftId of drafts.remove) await removeDraft(tx, draftId)
        if (records) await putErasing(tx, documentId, [])
        if (erase) await forgetErased(tx, documentId)
      },
      done: () => {
        if (entry) entry.writing--
      },
      failed: error => {
        for (const [hash, at] of gone) outbox.set(hash, at)
        if (records) store.erasing.set(documentId, records)
        if (entry) {
          entry.writing--
          store.fail(entry, error)
        }
        if (before) store.infos.set(documentId, before)
        else store.infos.delete(documentId)
      },
    }
  }
}

async function forgetErased(tx: Statements, documentId: string): Promise<void> {
  await forgetContent(tx, documentId)
  await dueRewrite(tx)
}
