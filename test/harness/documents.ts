import * as Automerge from '@automerge/automerge'
import type { Device } from './world.ts'

/** A page's replica of one document: opened with an actor of its own, each edit handed to the host at once. */
export class DocumentView<D> {
  readonly id: string
  readonly readOnly: boolean
  readonly readOnlyReason: string | null
  readonly #device: Device
  #doc: Automerge.Doc<D>

  private constructor(
    device: Device,
    opened: {
      document_id: string
      bytes: string
      actor: string
      read_only: boolean
      read_only_reason: string | null
    },
  ) {
    this.id = opened.document_id
    this.readOnly = opened.read_only
    this.readOnlyReason = opened.read_only_reason
    this.#device = device
    this.#doc = Automerge.load<D>(Buffer.from(opened.bytes, 'base64'), { actor: opened.actor })
  }

  static async open<D>(device: Device, documentId: string): Promise<DocumentView<D>> {
    return new DocumentView(device, await device.session.value('document.open', { document_id: documentId }))
  }

  get doc(): Automerge.Doc<D> {
    return this.#doc
  }

  get heads(): string[] {
    return Automerge.getHeads(this.#doc).toSorted()
  }

  /** Makes one change for each edit and hands all of them over at once; resolves when the host has them durably on disk. */
  async editAll(edits: readonly ((doc: Automerge.Doc<D>) => Automerge.Doc<D>)[]): Promise<void> {
    const changes = edits.flatMap(edit => {
      const before = this.#doc
      this.#doc = edit(before)
      const change = this.#doc === before ? undefined : Automerge.getLastLocalChange(this.#doc)
      return change ? [Buffer.from(change).toString('base64')] : []
    })
    await this.#device.session.value('document.append', { document_id: this.id, changes })
  }

  /** Edits and resolves when the host has it durably on disk; the new change's hash, or null when nothing changed. */
  async edit(edit: (doc: Automerge.Doc<D>) => Automerge.Doc<D>): Promise<string | null> {
    const before = this.#doc
    this.#doc = edit(before)
    if (this.#doc === before) return null
    const change = Automerge.getLastLocalChange(this.#doc)
    if (!change) return null
    await this.#device.session.value('document.append', {
      document_id: this.id,
      changes: [Buffer.from(change).toString('base64')],
    })
    return Automerge.decodeChange(change).hash
  }
}

/** A document as the host holds it now. */
export const readDocument = async <D>(device: Device, documentId: string): Promise<Automerge.Doc<D>> =>
  (await DocumentView.open<D>(device, documentId)).doc
