import * as A from '@automerge/automerge'
import { splitChanges } from '@pluto-duck/crdt-model'
import { AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import { type LogItem, newId, type SnapshotItem } from '@pluto-duck/crdt-model/protocol'
import type { Statements } from '../state/index.ts'
import { Checked, decodeLocal, describeChanges, readTried, type StoredChange } from './admit.ts'
import { type DocumentStore, type Rows, sameHeads } from './document-store.ts'
import { type LocalDraft, putDraft } from './drafts.ts'
import { baseHeads, buildDraft, extraChanges, ownChanges, topUp } from './forks.ts'
import {
  type Added,
  addDocuments,
  type DocumentInfo,
  type OwnRecord,
  putInfo,
  putOwnRecords,
  putSnapshot,
  readDocument,
  removeFromOutbox,
} from './rows.ts'
import { schemaOf } from './schema.ts'
import { setAside } from './set-aside.ts'
import { type Taken, TakeVoid } from './take-void.ts'
import { isVoid, recordsOf, voidingOf } from './voids.ts'

/** What the server has, on its way into the documents: pieces of the log, and whole documents. */
export class TakeIn {
  readonly #store: DocumentStore
  readonly #voids: TakeVoid

  constructor(store: DocumentStore) {
    this.#store = store
    this.#voids = new TakeVoid(store)
  }

  /**
   * Takes in a piece of the log, with the cursor that it reaches, in one transaction. Each document is applied once, whatever
   * the number of its changes. Answers the documents whose changes do not fit what is here: they have to be fetched whole. A draft's
   * void records are taken with those of its pipeline.
   */
  async applyRemote(
    workspaceId: string,
    items: readonly LogItem[],
    cursor: number,
    ownRecords: readonly OwnRecord[],
  ): Promise<{ diverged: string[] }> {
    const diverged: string[] = []
    const told: { documentId: string; fresh: StoredChange[]; topped: boolean }[] = []
    const reset: Taken['reset'][number][] = []
    let erased = false
    const written = await this.#store.serial.run(async () => {
      const rows: Rows[] = []
      const groups = groupByDocument(items)
      const done = new Set<string>()
      try {
        for (const [documentId, own] of groups) {
          if (done.has(documentId)) continue
          // The document has them before their records can be read.
          this.#store.outbox.noteLive(
            documentId,
            own.filter(item => !isVoid(item) && item.live),
          )
          try {
            if (own.some(isVoid) || this.#store.erasing.has(documentId)) {
              const forks = [...groups].filter(
                ([id, group]) => group[0]?.base === documentId && group.some(isVoid) && this.#store.has(id),
              )
              const taken = await this.#voids.take(
                voidingOf(workspaceId, own),
                new Map(forks.map(([id, group]) => [id, voidingOf(workspaceId, group)])),
              )
              for (const [id] of forks) done.add(id)
              if (taken === null) {
                diverged.push(documentId)
                continue
              }
              rows.push(...taken.rows)
              erased ||= taken.erase
              reset.push(...taken.reset)
              continue
            }
            told.push({ documentId, ...(await this.#takeIn(workspaceId, documentId, own, rows)) })
          } catch (error) {
            if (toAppError(error).code === 'internal') throw error
            diverged.push(documentId)
          }
        }
      } catch (error) {
        for (const one of rows) one.failed(toAppError(error))
        throw error
      }
      const records = items
        .filter(item => !isVoid(item))
        .map(item => [item.document_id, item.hash, item.seq, item.received_at, item.live, item.author_id])
      const durable = this.#store.commit(rows, async tx => {
        await tx.insert('records', records)
        await putOwnRecords(tx, ownRecords)
        await tx.run('update workspaces set cursor = $1 where workspace_id = $2', cursor, workspaceId)
      })
      return { durable }
    })
    await written.durable
    // Deleted rows stay in the file until it is written anew.
    if (erased) await this.#store.state.rewrite()
    for (const { documentId, draftId } of reset) {
      this.#store.emit({ kind: 'reset', documentId, draftId })
      this.#store.emit({ kind: 'listed', workspaceId, documentId })
    }
    for (const item of items) {
      this.#store.outbox.hasRecord(item.document_id, item.hash)
      if (!isVoid(item)) this.#store.outbox.noteRecords(item.document_id, 1)
    }
    this.#store.outbox.recordedOwn(ownRecords)
    for (const { documentId } of reset) await this.#store.outbox.recount(documentId)
    for (const { documentId, fresh, topped } of told) {
      // A draft took in its pipeline, or the document became read-only: a view has to take it whole.
      if (topped) this.#store.emit({ kind: 'reset', documentId, draftId: null })
      this.#store.told(documentId, fresh, 'server')
    }
    return { diverged }
  }

  async #takeIn(
    workspaceId: string,
    documentId: string,
    items: readonly LogItem[],
    rows: Rows[],
  ): Promise<{ fresh: StoredChange[]; topped: boolean }> {
    const [first] = items as [LogItem]
    if (!this.#store.infos.has(documentId))
      this.#store.infos.set(documentId, {
        documentId,
        workspaceId,
        kind: first.kind,
        subject: first.subject,
        base: first.base,
        title: '',
        updatedAt: this.#store.now(),
        heads: [],
      })
    const entry = await this.#store.load(documentId)
    const bytes = items.map(item => item.bytes)
    const before = A.getHeads(entry.doc)
    if (first.base !== null) {
      const base = await this.#store.load(first.base)
      entry.doc = topUp(entry.doc, base.doc, bytes)
      entry.under = base
    }
    const topped = !sameHeads(before, A.getHeads(entry.doc))
    let fresh: StoredChange[]
    try {
      fresh = decodeLocal(entry.doc, bytes, new Checked(entry.doc), readTried)
    } catch (error) {
      // What was merged from the base belongs to changes that did not come.
      if (topped) this.#store.forget(entry)
      throw error
    }
    if (first.base === null && before.length > 0 && fresh.some(change => change.deps.length === 0))
      throw new AppError('change.invalid', 'The log begins the document again.', {
        details: { document_id: documentId },
      })
    const known = schemaOf(entry.doc) <= this.#store.schema.version
    if (fresh.length > 0) this.#store.apply(entry, fresh)
    // It was upgraded elsewhere: a view that has it open may not write any more.
    const outgrown = known && before.length > 0 && schemaOf(entry.doc) > this.#store.schema.version
    const waiting = this.#store.outbox.of(documentId)
    const acknowledged = new Map(
      items.flatMap(({ hash }): [string, number][] => {
        const ord = waiting.get(hash)
        return ord === undefined ? [] : [[hash, ord]]
      }),
    )
    const prepared = this.#store.prepare(entry, fresh, { local: false, acknowledged })
    if (prepared) rows.push(prepared)
    for (const hash of acknowledged.keys()) waiting.delete(hash)
    return { fresh, topped: (topped && before.length > 0) || outgrown }
  }

  /**
   * Takes documents as the server has them (first sync, or healing one that differs). What waits in the outbox stays on top of it.
   * Content that neither the server has nor the outbox carries is kept as a local draft of code `diverged`. One that cannot be read
   * here is taken anew. With `cursor`, the last part says how far it reaches: that is stored with it. `erased` are void records of the
   * log that erase: what they took out is kept in no draft.
   */
  async adopt(
    workspaceId: string,
    items: readonly SnapshotItem[],
    cursor: number | null = null,
    erased: readonly LogItem[] = [],
  ): Promise<{ drafts: string[] }> {
    // What drafts build on comes first.
    const forks = items.filter(item => item.base !== null)
    const others = items.filter(item => item.base === null)
    const drafts = await this.#adopt(workspaceId, others, forks.length > 0 ? null : cursor, erased)
    if (forks.length > 0) drafts.push(...(await this.#adopt(workspaceId, forks, cursor, erased)))
    return { drafts }
  }

  /** Takes out of local drafts what was erased of documents that are here without it already. */
  async cleanDrafts(workspaceId: string, erased: readonly LogItem[]): Promise<void> {
    // A draft's history holds its pipeline's.
    const roots = erased.filter(item => item.base === null)
    let cleaned = false
    for (const [documentId, items] of groupByDocument(roots))
      await this.#store.serial.run(async () => {
        await this.#store.flush()
        if (await this.#voids.clean(workspaceId, documentId, recordsOf(items))) cleaned = true
      })
    if (cleaned) await this.#store.state.rewrite()
  }

  async #adopt(
    workspaceId: string,
    items: readonly SnapshotItem[],
    cursor: number | null,
    erased: readonly LogItem[],
  ): Promise<string[]> {
    const drafts: string[] = []
    const changed: string[] = []
    const reset: Taken['reset'][number][] = []
    let erases = false
    await this.#store.serial.run(async () => {
      const rows: Rows[] = []
      const writes: ((tx: Statements) => Promise<void>)[] = []
      const added: Added[] = []
      await this.#store.flush()
      const at = this.#store.now()
      const takeItem = async (item: SnapshotItem): Promise<void> => {
        if (this.#hasErasedAgain(item, erased)) rows.push(this.#voids.waitNoMore(item.document_id))
        const known = this.#store.infos.get(item.document_id)
        if (!known && !this.#store.outbox.size(item.document_id)) {
          added.push({ info: infoOf(workspaceId, item, at), ord: this.#store.nextOrd++, bytes: item.bytes })
          return
        }
        const taken = await this.#takeErased(workspaceId, item, erased)
        if (taken) {
          rows.push(...taken.rows)
          reset.push(...taken.reset)
          erases = true
          return
        }
        const same = known !== undefined && sameHeads(known.heads, item.heads)
        if (same && !this.#store.unreadable.has(item.document_id)) return
        let tailToo = false
        if (known) {
          const readable = !same && (await this.#store.loadIfReadable(item.document_id)) !== null
          const extra = readable ? await this.#extra(known, item) : null
          if (extra) {
            drafts.push(extra.draft.draftId)
            writes.push(tx => putDraft(tx, extra.draft))
            tailToo = extra.tailToo
            for (const documentId of extra.forks) {
              const aside = await setAside(
                this.#store,
                documentId,
                'The server no longer has what it stands on.',
              )
              rows.push(aside.rows)
              reset.push({ documentId, draftId: aside.draft.draftId })
            }
          }
          const entry = this.#store.entries.get(item.document_id)
          if (entry) this.#store.forget(entry)
          changed.push(item.document_id)
        }
        rows.push(this.#replace(workspaceId, item, tailToo))
      }
      try {
        for (const item of items) await takeItem(item)
      } catch (error) {
        // Nothing is written: what was taken in memory is put back.
        for (const one of rows) one.failed(toAppError(error))
        throw error
      }
      await this.#store.commit(rows, async tx => {
        for (const write of writes) await write(tx)
        await addDocuments(tx, added)
        if (cursor !== null)
          await tx.run('update workspaces set cursor = $1 where workspace_id = $2', cursor, workspaceId)
      })
      for (const { info } of added) this.#store.infos.set(info.documentId, info)
      // A draft may be here before its pipeline is; it is read when it is wanted.
      for (const documentId of changed)
        if (this.#store.infos.get(documentId)?.base === null) await this.#store.loadIfReadable(documentId)
    })
    if (erases) await this.#store.state.rewrite()
    for (const documentId of changed) this.#store.emit({ kind: 'reset', documentId, draftId: null })
    for (const { documentId, draftId } of reset) {
      if (draftId !== null) drafts.push(draftId)
      this.#store.emit({ kind: 'reset', documentId, draftId })
      this.#store.emit({ kind: 'listed', workspaceId, documentId })
    }
    for (const item of items) this.#store.emitListed(item.document_id)
    return drafts
  }

  /**
   * Was the server put back to before it erased this? It has what was erased then, no record says otherwise, and the new history that is
   * waited for never comes.
   */
  #hasErasedAgain(item: SnapshotItem, erased: readonly LogItem[]): boolean {
    const pending = this.#store.erasing.get(item.document_id)
    if (!pending) return false
    const said = recordsOf(erased.filter(one => one.document_id === item.document_id))
    const gone = new Set(said.flatMap(record => record.hashes))
    const back = new Set(pending.flatMap(record => record.hashes).filter(hash => !gone.has(hash)))
    return describeChanges(changesOf(item.bytes)).some(change => back.has(change.hash))
  }

  /** The document as the server has it, when something that was erased is here of it; else null. */
  async #takeErased(
    workspaceId: string,
    item: SnapshotItem,
    erased: readonly LogItem[],
  ): Promise<Taken | null> {
    // What was erased behind the item comes with the log.
    const said = erased.filter(one => one.document_id === item.document_id && one.seq <= item.seq)
    const records = recordsOf(said)
    const due = this.#store.erasing.has(item.document_id)
    if (!due && !(await this.#voids.holds(item.document_id, records))) return null
    const { document_id: documentId, kind, subject, base } = item
    const arrived = base === null ? changesOf(item.bytes) : splitChanges(item.bytes)
    return await this.#voids.take({ workspaceId, documentId, kind, subject, base, records, arrived })
  }

  /**
   * What this machine has acknowledged of a document and the server does not have, as a draft; null for nothing. What waits goes with it
   * where it builds on that (`tailToo`), and so do drafts (`forks`).
   */
  async #extra(
    info: DocumentInfo,
    item: SnapshotItem,
  ): Promise<{ draft: LocalDraft; tailToo: boolean; forks: string[] } | null> {
    const { documentId } = info
    const waiting = this.#store.outbox.of(documentId)
    const stored = await readDocument(this.#store.state, documentId)
    if (info.base !== null && extraChanges(ownChanges(stored, waiting), item).length === 0) return null
    const mine = await this.#store.serverSide(documentId)
    if (mine === null) return null
    const base = info.base === null ? null : (await this.#store.load(info.base)).doc
    let theirs = base ? buildDraft(base, splitChanges(item.bytes)) : A.load<unknown>(item.bytes)
    const local = A.load<unknown>(mine)
    try {
      if (A.getHeads(local).every(head => A.hasHeads(theirs, [head]))) return null
      const tail = stored.changes.filter(change => waiting.has(change.hash)).map(change => change.bytes)
      const ground = baseHeads(tail)
      const tailToo = ground.some(hash => !A.hasHeads(theirs, [hash]) && !(base && A.hasHeads(base, [hash])))
      const bytes = tailToo ? A.save((await this.#store.load(documentId)).doc) : mine
      const draft: LocalDraft = {
        draftId: newId(),
        workspaceId: info.workspaceId,
        documentId,
        kind: info.kind,
        title: this.#store.localDraftTitle(info),
        code: 'diverged',
        reason: 'The server no longer has these changes.',
        changes: A.getChanges(theirs, local).length + (tailToo ? tail.length : 0),
        createdAt: this.#store.now(),
        bytes,
        baseBytes: A.save(theirs),
      }
      if (base === null && !tailToo) theirs = A.applyChanges(theirs, tail)[0]
      const forks: string[] = []
      for (const one of [...this.#store.infos.values()].filter(other => other.base === documentId)) {
        const own = ownChanges(await readDocument(this.#store.state, one.documentId))
        if (!A.hasHeads(theirs, baseHeads(own))) forks.push(one.documentId)
      }
      return { draft, tailToo, forks }
    } finally {
      A.free(theirs)
      A.free(local)
    }
  }

  /** @param tailToo what waits goes too: it is in a local draft. */
  #replace(workspaceId: string, item: SnapshotItem, tailToo: boolean): Rows {
    const { infos, outbox } = this.#store
    const { document_id: documentId, heads, bytes } = item
    const waiting = outbox.of(documentId)
    const gone = tailToo ? [...waiting] : []
    for (const [hash] of gone) waiting.delete(hash)
    const keep = [...waiting.values()]
    const info = infoOf(workspaceId, item, this.#store.now())
    const before = infos.get(documentId)
    infos.set(documentId, info)
    const ord = (keep.length > 0 ? Math.min(...keep) : this.#store.nextOrd++) - 1
    return {
      work: async tx => {
        await putInfo(tx, info)
        await putSnapshot(tx, { documentId, ord, heads, bytes }, keep)
        await removeFromOutbox(
          tx,
          gone.map(([, at]) => at),
        )
      },
      done: () => undefined,
      failed: () => {
        for (const [hash, at] of gone) outbox.of(documentId).set(hash, at)
        if (before) infos.set(documentId, before)
        else infos.delete(documentId)
      },
    }
  }
}

const changesOf = (bytes: Uint8Array): Uint8Array[] => {
  const doc = A.load<unknown>(bytes)
  const changes = A.getAllChanges(doc)
  A.free(doc)
  return changes
}

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
