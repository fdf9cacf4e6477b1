import { isLinear } from '@pluto-duck/crdt-model'
import type { ContractMark, OutputOf } from '../contract/index.ts'
import { fetchRecords } from '../sync/index.ts'
import type { WorkspaceParts } from './workspace-parts.ts'

export type NamedRecords = ReadonlyMap<
  string,
  { readonly author: { user_id: string; name: string }; readonly at: string }
>

type Parts = Pick<WorkspaceParts, 'state' | 'documents' | 'versions' | 'marks' | 'client' | 'account'>

/** Who wrote what, by the server's records and the members' names, and what that makes of concurrent changes: marks. */
export class Authorship {
  readonly #p: Parts
  readonly #connected: () => boolean
  readonly #onError: (error: unknown) => void
  /** Display names by user id, from the members of the workspace. */
  readonly #names = new Map<string, string>()
  /** Heads of documents whose records are here. */
  readonly #recorded = new Map<string, string>()

  /** `onError` hears why the server's records could not be read: what is known goes on without them. */
  constructor(parts: Parts, connected: () => boolean, onError: (error: unknown) => void) {
    this.#p = parts
    this.#connected = connected
    this.#onError = onError
  }

  rememberNames(members: readonly { readonly user_id: string; readonly name: string }[]): void {
    for (const { user_id, name } of members) this.#names.set(user_id, name)
  }

  async marks(pipelineId: string): Promise<ContractMark[]> {
    const current = await this.#p.versions.current(pipelineId)
    // Nobody met anybody: no need to ask the server who wrote what and when.
    const linear = await this.#p.documents.read(pipelineId, doc => isLinear(doc, current?.heads ?? []))
    if (linear) return []
    await this.#ensureRecords(pipelineId)
    return this.#p.marks.list(pipelineId, current?.heads ?? [], userId => this.nameOf(userId))
  }

  /** Marks as the server gave them. */
  marksOfServer(documentId: string, marks: unknown): Promise<ContractMark[]> {
    return this.#p.marks.ofServer(documentId, marks, userId => this.nameOf(userId))
  }

  /** Who made which change, by the server's records; null while it has none, and for what it does not know. */
  async authors(
    documentId: string,
    hashes: readonly string[],
  ): Promise<OutputOf<'document.authors'>['authors']> {
    const wanted = new Set(hashes)
    await this.#ensureRecords(documentId)
    const known = await this.#p.marks.records(documentId)
    const authors: OutputOf<'document.authors'>['authors'] = {}
    for (const hash of wanted) {
      const record = known.get(hash)
      authors[hash] = record?.author_id
        ? { user_id: record.author_id, name: this.nameOf(record.author_id) }
        : null
    }
    return authors
  }

  /** The server's records of changes, with names; nothing for a change that it does not have. */
  async recordsOf(documentId: string, hashes: readonly string[]): Promise<NamedRecords> {
    await this.#ensureRecords(documentId)
    const known = await this.#p.marks.records(documentId)
    const found = new Map<string, { author: { user_id: string; name: string }; at: string }>()
    for (const hash of hashes) {
      const record = known.get(hash)
      if (!record || record.author_id === null) continue
      const author = { user_id: record.author_id, name: this.nameOf(record.author_id) }
      found.set(hash, { author, at: record.received_at })
    }
    return found
  }

  nameOf(userId: string): string {
    if (userId === this.#p.account.person?.id) return this.#p.account.person.name
    return this.#names.get(userId) ?? 'a former member'
  }

  /** Documents that came by snapshot bring no records. Asked once for each state of a document; offline it does without. */
  async #ensureRecords(documentId: string): Promise<void> {
    const client = this.#p.client()
    if (!client || !this.#connected() || !this.#p.documents.has(documentId)) return
    const heads = this.#p.documents.info(documentId).heads.join()
    if (this.#recorded.get(documentId) === heads) return
    try {
      await fetchRecords({ state: this.#p.state, documents: this.#p.documents, client }, documentId)
      this.#recorded.set(documentId, heads)
    } catch (error) {
      this.#onError(error)
    }
  }
}
