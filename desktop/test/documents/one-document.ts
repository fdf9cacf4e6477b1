import * as Automerge from '@automerge/automerge'
import type { ErrorBody } from '@pluto-duck/crdt-model/errors'
import type { Bridge } from '@pluto-duck/engine/contract'
import { connectionOf, listenersOf } from '../../renderer/bridge/listeners.ts'
import { fromBase64, toBase64 } from '../../renderer/documents/base64.ts'

export type Doc = { text: string }
export const ID = '01900000-0000-7000-8000-000000000001'
export const CORRUPT: ErrorBody = {
  code: 'document.corrupt',
  message: 'It cannot be read.',
  hint: 'It is fetched again.',
}
export const AWAY: ErrorBody = { code: 'host.unreachable', message: 'It does not answer.', hint: 'Start it.' }
const MISSING: ErrorBody = { code: 'change.missing_deps', message: 'It builds on nothing.', hint: 'Sync.' }
const DRAFT = '01900000-0000-7000-8000-000000000002'

/** A host with one document: it may be away, refuse to open, or answer late. */
export class Host {
  doc = Automerge.from<Doc>({ text: 'one' })
  fails: ErrorBody | null = null
  broken = false
  appendFails: ErrorBody | null = null
  /** It has what it is given, and answers only after that. */
  appendLate: Promise<void> = Promise.resolve()
  /** Changes that it put into a local draft, as they build on what it took back. */
  drafted: Uint8Array[] = []
  hasDraft = false
  opened = 0
  /** Why it may not be written. */
  readOnly: string | null = null
  /** Answers to `document.open` wait for it. */
  late: Promise<void> = Promise.resolve()
  readonly #listeners = listenersOf()
  readonly connection = connectionOf()

  readonly bridge = {
    call: async (method: string, input: { changes: string[] }) => {
      if (method === 'document.append') {
        if (this.appendFails) return { ok: false, error: this.appendFails }
        const changes = input.changes.map(fromBase64)
        const next = Automerge.applyChanges(Automerge.clone(this.doc), changes)[0]
        if (Automerge.getMissingDeps(next, []).length > 0) {
          if (!this.hasDraft) return { ok: false, error: MISSING }
          this.drafted.push(...changes)
        } else this.doc = next
        await this.appendLate
        return { ok: true, value: { heads: Automerge.getHeads(this.doc) } }
      }
      this.opened++
      const { fails, readOnly } = this
      const bytes = this.broken ? 'AAAA' : toBase64(Automerge.save(this.doc))
      await this.late
      if (fails) return { ok: false, error: fails }
      const actor = crypto.randomUUID().replaceAll('-', '')
      return {
        ok: true,
        value: { document_id: ID, bytes, actor, read_only: readOnly !== null, read_only_reason: readOnly },
      }
    },
    on: this.#listeners.add,
    onConnection: this.connection.add,
  } as unknown as Bridge

  constructor() {
    this.connection.set(true)
  }

  /** A change by somebody else. */
  edit(text: string): void {
    const before = Automerge.getHeads(this.doc)
    this.doc = Automerge.change(this.doc, d => Automerge.splice(d as never, ['text'], d.text.length, 0, text))
    const changes = Automerge.getChangesSince(this.doc, before).map(toBase64)
    this.#listeners.tell({ topic: 'document.changes', event: { document_id: ID, changes } } as never)
  }
  /** What this person may do changed. */
  setReadOnly(why: string | null): void {
    this.readOnly = why
    this.#listeners.tell({ topic: 'workspaces.changed', event: {} })
  }
  /** Views are to open it again; with a draft because what it was given did not stay. */
  reset(draft_id: string | null = DRAFT): void {
    this.hasDraft ||= draft_id !== null
    this.#listeners.tell({ topic: 'document.reset', event: { document_id: ID, draft_id } })
  }
}
