import * as A from '@automerge/automerge'
import { toAppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { dueRewrite } from '../state/index.ts'
import type { DocumentStore, Rows } from './document-store.ts'
import { type LocalDraft, putDraft } from './drafts.ts'
import type { Refusal } from './events.ts'
import { ownChanges, topUp } from './forks.ts'
import { putErasing, readDocument, removeFromOutbox } from './rows.ts'
import { setAside } from './set-aside.ts'

/** What is here of a workspace after leaving it: local drafts, and documents that could not be made into one. */
export interface LeftBehind {
  readonly drafts: string[]
  readonly unreadable: { readonly documentId: string; readonly error: unknown }[]
}

/** Documents that are taken back to what the server has, or off this machine; what only this device has becomes local drafts. */
export class TakeBack {
  readonly #store: DocumentStore

  constructor(store: DocumentStore) {
    this.#store = store
  }

  /**
   * The server refused changes of a document for good. Its whole unacknowledged tail becomes one local draft with its content, and
   * the document is again what the server has; without anything there it leaves the list.
   */
  async refuse(documentId: string, refusal: Refusal): Promise<string> {
    for (const draft of await this.#buildingOnTail(documentId))
      await this.refuse(draft, { code: 'missing_deps', reason: 'What it builds on was refused.' })
    const draftId = newId()
    await this.#store.serial.run(async () => {
      const entry = await this.#store.load(documentId)
      const info = this.#store.info(documentId)
      const bytes = A.save(entry.doc)
      const waiting = this.#store.outbox.of(documentId)
      const ords = [...waiting.values()]
      this.#store.forget(entry)
      await this.#store.flush()
      const base = await this.#serverSide(documentId)
      // A draft that the server has nothing of is an edit of its pipeline.
      const fork =
        base === null && info.base !== null ? await this.#store.forkPoint(documentId, info.base) : null
      const draft: LocalDraft = {
        draftId,
        workspaceId: info.workspaceId,
        documentId: fork === null ? documentId : (info.base as string),
        kind: info.kind,
        title: this.#store.localDraftTitle(info),
        ...refusal,
        changes: waiting.size,
        createdAt: this.#store.now(),
        bytes,
        baseBytes: base ?? fork,
      }
      await this.#store.state.write(async tx => {
        await putDraft(tx, draft)
        await removeFromOutbox(tx, ords)
        if (ords.length > 0) await tx.run(`delete from changes where ord in (${ords.join(',')})`)
        if (base === null) await tx.run('delete from documents where document_id = $1', documentId)
      })
      this.#store.outbox.drop(documentId)
      if (base === null) this.#store.infos.delete(documentId)
      else await this.#store.load(documentId)
    })
    this.#store.emit({ kind: 'reset', documentId, draftId })
    this.#store.emitListed(documentId)
    return draftId
  }

  /**
   * A document as the server has it, null for nothing; a draft with what it took in of its pipeline since, which is no edit of its own.
   */
  async #serverSide(documentId: string): Promise<Uint8Array | null> {
    const bytes = await this.#store.serverSide(documentId)
    const { base } = this.#store.info(documentId)
    if (bytes === null || base === null) return bytes
    const { doc: pipeline } = await this.#store.load(base)
    const own = ownChanges(await readDocument(this.#store.state, documentId))
    const there = topUp(A.load<unknown>(bytes), pipeline, own)
    const whole = A.save(there)
    A.free(there)
    return whole
  }

  /** Drafts that build on what the server has not acknowledged of their pipeline. */
  #buildingOnTail(documentId: string): Promise<string[]> {
    return this.#store.serial.run(async () => {
      const tail = [...this.#store.outbox.of(documentId).keys()]
      const drafts = [...this.#store.infos.values()].filter(info => info.base === documentId)
      const found: string[] = []
      for (const draft of drafts) {
        const { doc } = await this.#store.load(draft.documentId)
        if (tail.some(hash => A.hasHeads(doc, [hash]))) found.push(draft.documentId)
      }
      return found
    })
  }

  /**
   * The server no longer has this document, and nothing of it waits: it and its drafts, which cannot be there either, leave the list and
   * are local drafts of code `diverged`. Answers these.
   */
  async setAside(documentId: string): Promise<string[]> {
    const { workspaceId } = this.#store.info(documentId)
    const gone = await this.#store.serial.run(async () => {
      await this.#store.flush()
      const forks = [...this.#store.infos.values()].filter(info => info.base === documentId)
      const aside: { documentId: string; draft: LocalDraft; rows: Rows }[] = []
      try {
        // A draft is read with its pipeline, so that goes last.
        for (const id of [...forks.map(info => info.documentId), documentId])
          aside.push({
            documentId: id,
            ...(await setAside(this.#store, id, 'The server no longer has this document.')),
          })
      } catch (error) {
        for (const { rows } of aside) rows.failed(toAppError(error))
        throw error
      }
      await this.#store.commit(aside.map(({ rows }) => rows))
      return aside.map(one => ({ documentId: one.documentId, draftId: one.draft.draftId }))
    })
    for (const one of gone) {
      this.#store.emit({ kind: 'reset', ...one })
      this.#store.emit({ kind: 'listed', workspaceId, documentId: one.documentId })
    }
    return gone.map(one => one.draftId)
  }

  /**
   * Takes a workspace's documents off this machine, with versions and records; resolves when nothing of them is left in the folder. What
   * the server does not have is kept as local drafts before, also what is written meanwhile. A document of which that fails stays as it
   * is, with its error in `unreadable`.
   */
  async leave(workspaceId: string, refusal: Refusal): Promise<LeftBehind> {
    const drafts: string[] = []
    const unreadable: LeftBehind['unreadable'] = []
    const kept = new Set<string>()
    let gone: string[] | null = null
    while (gone === null) {
      for (const { documentId, base } of this.#store.list(workspaceId)) {
        if (!this.#unsent(documentId) || kept.has(documentId)) continue
        try {
          drafts.push(await this.refuse(documentId, refusal))
        } catch (error) {
          await this.#store.flush()
          // Its first write failed meanwhile: it never was.
          if (!this.#store.has(documentId)) continue
          unreadable.push({ documentId, error })
          kept.add(documentId)
          if (base !== null) kept.add(base)
        }
      }
      gone = await this.#forgetWorkspace(workspaceId, kept)
    }
    if (gone.length > 0) await this.#store.state.rewrite()
    for (const documentId of gone) this.#store.emit({ kind: 'listed', workspaceId, documentId })
    return { drafts, unreadable }
  }

  #unsent(documentId: string): boolean {
    return this.#store.has(documentId) && this.#store.outbox.size(documentId) > 0
  }

  /** Forgets all documents but the kept ones; answers which. Null when something was written in one of them meanwhile: nothing was done. */
  #forgetWorkspace(workspaceId: string, kept: ReadonlySet<string>): Promise<string[] | null> {
    return this.#store.serial.run(async () => {
      const gone = this.#store
        .list(workspaceId)
        .map(info => info.documentId)
        .filter(documentId => !kept.has(documentId))
      if (gone.some(documentId => this.#unsent(documentId))) return null
      await this.#store.flush()
      const ids = gone.map(documentId => `'${documentId}'`).join(',')
      await this.#store.state.write(async tx => {
        await tx.run('update workspaces set cursor = null where workspace_id = $1', workspaceId)
        if (gone.length === 0) return
        for (const table of ['documents', 'snapshots', 'changes', 'records', 'outbox'])
          await tx.run(`delete from ${table} where document_id in (${ids})`)
        await tx.run(`delete from versions where parent in (${ids})`)
        await tx.run(`delete from overviews where key in (${ids})`)
        for (const documentId of gone)
          if (this.#store.erasing.has(documentId)) await putErasing(tx, documentId, [])
        await dueRewrite(tx)
      })
      for (const documentId of gone) {
        const entry = this.#store.entries.get(documentId)
        if (entry) this.#store.forget(entry)
        this.#store.infos.delete(documentId)
        this.#store.erasing.delete(documentId)
        this.#store.unreadable.delete(documentId)
        this.#store.outbox.drop(documentId)
        this.#store.outbox.dropRecords(documentId)
      }
      return gone
    })
  }
}
