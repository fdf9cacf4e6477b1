import * as A from '@automerge/automerge'
import { toAppError } from '@pluto-duck/crdt-model/errors'
import { applyTried, Checked, decodeLocal, type StoredChange } from './admit.ts'
import { type DocumentStore, HOST, NOTHING } from './document-store.ts'
import { listDrafts, putDraft, readDraft } from './drafts.ts'
import { assertWrittenBefore } from './schema.ts'

/** An append that waits for its turn. */
interface Asked {
  readonly changes: readonly Uint8Array[]
  readonly origin: string
  resolve(answer: { heads: string[] }): void
  reject(error: unknown): void
}

/** Changes that views of this machine made, on their way into the documents. */
export class Appends {
  readonly #store: DocumentStore
  /** Appends by document that no application has taken yet. */
  readonly #asked = new Map<string, Asked[]>()

  constructor(store: DocumentStore) {
    this.#store = store
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
      void this.#store.serial.run(() => this.#appendAsked(documentId))
    }
    return promise
  }

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
      const entry = await this.#store.load(documentId)
      const checked = new Checked(entry.doc)
      const taken = group.map(one => ({ ...one, fresh: decodeLocal(entry.doc, one.changes, checked) }))
      const fresh = taken.flatMap(one => one.fresh)
      assertWrittenBefore(entry.doc, fresh, this.#store.schema.version)
      const upgrade = fresh.length > 0 ? await this.#store.upgrade(entry) : NOTHING
      if (fresh.length > 0) this.#store.apply(entry, fresh)
      const heads = A.getHeads(entry.doc)
      const stored = this.#store.store(entry, fresh, { local: true })
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
      this.#store.told(documentId, upgrade.fresh, HOST)
      for (let from = 0, to = 0; from < taken.length; from = to) {
        const origin = taken[from]?.origin ?? HOST
        while (taken[to]?.origin === origin) to++
        this.#store.told(
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

  /** A refused view's further typing: into the draft that holds what it builds on, or null when there is none. */
  async #appendToDraft(
    documentId: string,
    changes: readonly Uint8Array[],
    error: unknown,
  ): Promise<{ heads: string[] } | null> {
    if (toAppError(error).code !== 'change.missing_deps') return null
    for (const { draftId } of await listDrafts(this.#store.state, { documentId })) {
      const draft = await readDraft(this.#store.state, draftId)
      if (!draft) continue
      const doc = A.load<unknown>(draft.bytes)
      try {
        const fresh = decodeLocal(doc, changes)
        const next = applyTried(doc, fresh)
        const grown = { ...draft, bytes: A.save(next), changes: draft.changes + fresh.length }
        await this.#store.state.write(tx => putDraft(tx, grown))
        this.#store.emit({ kind: 'reset', documentId, draftId })
        return { heads: A.getHeads(next) }
      } catch (cause) {
        if (toAppError(cause).code !== 'change.missing_deps') throw cause
      } finally {
        A.free(doc)
      }
    }
    return null
  }
}
