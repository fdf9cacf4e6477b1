import * as A from '@automerge/automerge'
import { type LogItem, newId } from '@pluto-duck/crdt-model/protocol'
import type { Statements } from '../state/index.ts'
import { describeChanges, type StoredChange } from './admit.ts'
import { build, type DocumentStore, titleOf } from './document-store.ts'
import { type LocalDraft, listDrafts, putDraft, readDraft, removeDraft } from './drafts.ts'
import { ownChanges } from './forks.ts'
import {
  type DocumentInfo,
  forgetContent,
  putInfo,
  putSnapshot,
  readDocument,
  removeFromOutbox,
} from './rows.ts'
import { headsOf, loadable, rebased, type Sorted, sortVoided } from './voids.ts'

type Doc = A.Doc<unknown>

/** Void records: what was taken out of the log leaves the document, and what this person had in it becomes a draft. */
export class TakeVoid {
  readonly #store: DocumentStore

  constructor(store: DocumentStore) {
    this.#store = store
  }

  /**
   * Void records of a document, with the changes that came beside them. The document is what the server has now; unsent edits that
   * build on what was taken out, and this person's own content that was, become a local draft. What was erased is in no draft.
   */
  async take(
    workspaceId: string,
    documentId: string,
    items: readonly LogItem[],
  ): Promise<{ write: (tx: Statements) => Promise<void>; erase: boolean; draftId: string | null }> {
    const [first] = items as [LogItem]
    const before = this.#store.infos.get(documentId) ?? null
    await this.#store.flush()
    const waiting = this.#store.outbox.of(documentId)
    const entry = before && (await this.#store.loadIfReadable(documentId))
    const here =
      before?.base != null
        ? describeChanges(ownChanges(await readDocument(this.#store.state, documentId)))
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
      updatedAt: this.#store.now(),
      heads,
    }
    if (!isFork && kept.length > 0) Object.assign(info, { title: titleOf(first.kind, now) })
    const bytes = isFork ? Buffer.concat(kept.map(change => change.bytes)) : A.save(now)
    A.free(now)
    const keep = sorted.waiting.map(change => waiting.get(change.hash) as number)
    const gone = [...waiting].filter(([hash]) => !sorted.waiting.some(change => change.hash === hash))
    const ord = (keep.length > 0 ? Math.min(...keep) : this.#store.nextOrd++) - 1
    if (entry) this.#store.forget(entry)
    for (const [hash] of gone) waiting.delete(hash)
    if (left.length === 0) this.#store.infos.delete(documentId)
    else this.#store.infos.set(documentId, info)
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

  /** Which of these changes this person made, by the server's record of them. */
  async #mine(documentId: string, changes: readonly StoredChange[]): Promise<StoredChange[]> {
    const author = this.#store.author()
    if (author === null || changes.length === 0) return []
    const rows = await this.#store.state.read.all<{ hash: string }>(
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
    const info = this.#store.infos.get(documentId)
    const there = kept.length > 0 ? A.save(now) : null
    if (erase && info?.kind === 'pipeline')
      for (const { draftId } of await listDrafts(this.#store.state, { documentId })) {
        const draft = await readDraft(this.#store.state, draftId)
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
      createdAt: this.#store.now(),
      bytes,
      baseBytes: there,
    })
    return { put, remove, made: draftId }
  }
}
