import * as A from '@automerge/automerge'
import { toAppError } from '@pluto-duck/crdt-model/errors'
import type { Documents } from '../../src/documents/index.ts'

let views = 0

/** An editor on a screen: a replica of its own that changes at once and hands each change to the host. */
export class View {
  readonly name = `view ${++views}`
  readonly documentId: string
  readonly #documents: Documents
  #doc: A.Doc<unknown>
  /** After a change that the host did not take it is opened anew. */
  broken = false

  constructor(documentId: string, doc: A.Doc<unknown>, documents: Documents) {
    this.documentId = documentId
    this.#doc = doc
    this.#documents = documents
  }

  get doc(): A.Doc<unknown> {
    return this.#doc
  }

  /** Resolves with the change's hash once the host has acknowledged it; null when nothing changed. */
  async edit(change: (doc: A.Doc<unknown>) => A.Doc<unknown>): Promise<string | null> {
    const before = A.getHeads(this.#doc)
    this.#doc = change(this.#doc)
    const fresh = A.getChangesSince(this.#doc, before)
    const [bytes] = fresh
    if (!bytes) return null
    try {
      await this.#documents.append(this.documentId, fresh, this.name)
    } catch (error) {
      this.broken = true
      if (toAppError(error).code !== 'change.missing_deps') throw error
      return null
    }
    return A.decodeChange(bytes).hash
  }

  hear(changes: readonly Uint8Array[]): void {
    ;[this.#doc] = A.applyChanges(this.#doc, [...changes])
  }
}
