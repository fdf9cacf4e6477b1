import * as Automerge from '@automerge/automerge'
import type { ErrorBody } from '@pluto-duck/crdt-model/errors'
import type { Bridge } from '@pluto-duck/engine/contract'
import { fromBase64, toBase64 } from './base64.ts'

/** Remote changes wait this long for company: applying many at once costs as much as applying one (milliseconds). */
const COALESCE_MS = 60
const RETRY_MS = 1000
const BATCH = 500
/** The host is not there, or is another one that does not know this window yet: what waits is sent when it does. */
export const AWAY: ReadonlySet<string> = new Set(['host.unreachable', 'host.token'])

export interface ReplicaChange {
  readonly patches: readonly Automerge.Patch[]
  /** What made it: a caller's own mark, `remote`, or `reopened` (then `patches` are empty and everything may differ). */
  readonly origin: unknown
}
export type AppendState =
  | { readonly state: 'stored' }
  | { readonly state: 'storing'; readonly waiting: number }
  | { readonly state: 'failed'; readonly waiting: number; readonly error: ErrorBody }

/**
 * The UI's own replica of a document. A local change is visible at once and handed to the host in order; remote ones arrive
 * coalesced. When the host was away the replica opens the document again and keeps what the host had not stored yet.
 */
export class Replica<D extends object> {
  readonly id: string
  doc: Automerge.Doc<D>
  readOnlyReason: string | null
  appendState: AppendState = { state: 'stored' }
  private readonly bridge: Bridge
  private unsent: Uint8Array[] = []
  private sending: Promise<void> | null = null
  private arrived: Uint8Array[] = []
  private timer: ReturnType<typeof setTimeout> | null = null
  private readonly listeners = new Set<(change: ReplicaChange) => void>()
  private readonly appendListeners = new Set<(state: AppendState) => void>()
  private readonly stops: (() => void)[] = []
  private wasConnected = true
  private closed = false

  private constructor(bridge: Bridge, id: string, doc: Automerge.Doc<D>, readOnlyReason: string | null) {
    this.bridge = bridge
    this.id = id
    this.doc = doc
    this.readOnlyReason = readOnlyReason
    this.stops.push(
      bridge.on('document.changes', event => {
        if (event.document_id === id) this.arrive(event.changes.map(fromBase64))
      }),
      bridge.on('document.reset', event => {
        if (event.document_id === id) void this.reopen(false)
      }),
      bridge.onConnection(connected => {
        if (connected && !this.wasConnected) void this.reopen(true)
        this.wasConnected = connected
      }),
    )
  }

  static async open<D extends object>(
    bridge: Bridge,
    id: string,
  ): Promise<{ ok: true; value: Replica<D> } | { ok: false; error: ErrorBody }> {
    const opened = await bridge.call('document.open', { document_id: id })
    if (!opened.ok) return opened
    const { bytes, actor, read_only, read_only_reason } = opened.value
    const doc = Automerge.load<D>(fromBase64(bytes), { actor })
    return { ok: true, value: new Replica<D>(bridge, id, doc, read_only ? (read_only_reason ?? '') : null) }
  }

  /** Hears about each change after it was applied, with `doc` being the new state. */
  onChange(listener: (change: ReplicaChange) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  onAppend(listener: (state: AppendState) => void): () => void {
    this.appendListeners.add(listener)
    return () => this.appendListeners.delete(listener)
  }

  /** Makes one local change. What `edit` throws reaches the caller, and then nothing is changed. */
  change(edit: (doc: Automerge.Doc<D>) => Automerge.Doc<D>, origin: unknown = 'local'): void {
    const before = this.doc
    const after = edit(before)
    if (after === before) return
    const heads = Automerge.getHeads(before)
    this.doc = after
    const bytes = Automerge.getLastLocalChange(after)
    if (bytes) this.unsent.push(bytes)
    const patches = origin === 'editor' ? [] : Automerge.diff(after, heads, Automerge.getHeads(after))
    this.tell({ patches, origin })
    this.send()
  }

  /** Resolves when everything that was typed so far is durable on this machine (or storing it failed). */
  async stored(): Promise<void> {
    while (this.sending) await this.sending
  }

  close(): void {
    this.closed = true
    for (const stop of this.stops) stop()
    if (this.timer) clearTimeout(this.timer)
    void this.stored().then(() => Automerge.free(this.doc))
  }

  private arrive(changes: Uint8Array[]): void {
    this.arrived.push(...changes)
    this.timer ??= setTimeout(() => {
      this.timer = null
      this.applyArrived()
    }, COALESCE_MS)
  }

  private applyArrived(): void {
    if (this.closed || this.arrived.length === 0) return
    const changes = this.arrived
    this.arrived = []
    const before = Automerge.getHeads(this.doc)
    const [doc] = Automerge.applyChanges(this.doc, changes)
    this.doc = doc
    // An event was lost: what it held is in the host's document.
    if (Automerge.getMissingDeps(doc, []).length > 0) {
      void this.reopen(true)
      return
    }
    const patches = Automerge.diff(doc, before, Automerge.getHeads(doc))
    if (patches.length > 0) this.tell({ patches, origin: 'remote' })
  }

  /** `keep`: what the host had not stored yet is applied on top and sent; a reset gives it up, as the host did. */
  private async reopen(keep: boolean): Promise<void> {
    const opened = await this.bridge.call('document.open', { document_id: this.id })
    if (this.closed || !opened.ok) return
    const { bytes, actor, read_only, read_only_reason } = opened.value
    let doc = Automerge.load<D>(fromBase64(bytes), { actor })
    if (keep && this.unsent.length > 0) doc = Automerge.applyChanges(doc, this.unsent)[0]
    else if (!keep) this.unsent = []
    const old = this.doc
    this.doc = doc
    this.arrived = []
    this.readOnlyReason = read_only ? (read_only_reason ?? '') : null
    this.tell({ patches: [], origin: 'reopened' })
    Automerge.free(old)
    if (this.unsent.length > 0) this.send()
    else this.setAppendState({ state: 'stored' })
  }

  private send(): void {
    this.sending ??= this.sendAll().finally(() => {
      this.sending = null
    })
  }

  private async sendAll(): Promise<void> {
    // Let the keystrokes of this turn gather into one call.
    await Promise.resolve()
    while (this.unsent.length > 0) {
      const batch = this.unsent.slice(0, BATCH)
      this.setAppendState({ state: 'storing', waiting: this.unsent.length })
      const reply = await this.bridge.call('document.append', {
        document_id: this.id,
        changes: batch.map(toBase64),
      })
      if (reply.ok) {
        this.unsent = this.unsent.filter(change => !batch.includes(change))
        continue
      }
      this.setAppendState({ state: 'failed', waiting: this.unsent.length, error: reply.error })
      if (!AWAY.has(reply.error.code)) return
      await new Promise(resolve => setTimeout(resolve, RETRY_MS))
      if (this.closed) return
    }
    this.setAppendState({ state: 'stored' })
  }

  private setAppendState(state: AppendState): void {
    this.appendState = state
    for (const listener of this.appendListeners) listener(state)
  }

  private tell(change: ReplicaChange): void {
    for (const listener of this.listeners) listener(change)
  }
}
