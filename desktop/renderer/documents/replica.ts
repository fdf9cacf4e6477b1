import * as Automerge from '@automerge/automerge'
import { contentOf } from '@pluto-duck/crdt-model'
import { AppError, CODES, type ErrorBody } from '@pluto-duck/crdt-model/errors'
import type { Bridge } from '@pluto-duck/engine/contract'
import { fromBase64, toBase64 } from './base64.ts'

/** Remote changes wait this long for company: applying many at once costs as much as applying one (milliseconds). */
const COALESCE_MS = 60
const RETRY_MS = 1000
/** What a host that is there could not store is handed over again after this long: a full disk does not end in a second (milliseconds). */
const REFUSED_RETRY_MS = 10_000
/** A shorter document is loaded before anybody would see that it was read first. */
const READ_FIRST_BYTES = 16 * 1024
const BATCH = 500
/** A request of at most so many characters outlives the page that sent it: browsers keep 64 KiB of such alive in all. */
export const OUTLIVES_PAGE_CHARS = 15_000
/** What a request has beside the changes themselves, at most. */
const ENVELOPE_CHARS = 200
/** The host is not there, or is another one that does not know this window yet: what waits is sent when it does. */
export const AWAY: ReadonlySet<string> = new Set(['host.unreachable', 'host.token'])

/** Whether it can be over without anybody doing anything about the document. */
export const passes = ({ code }: ErrorBody): boolean => AWAY.has(code) || CODES[code]?.retry === 'later'

export interface ReplicaChange {
  readonly patches: readonly Automerge.Patch[]
  /** What made it: a caller's own mark, `remote`, or `reopened` (then `patches` are empty and everything may differ). */
  readonly origin: unknown
}
export type AppendState =
  | { readonly state: 'stored' }
  | { readonly state: 'storing'; readonly waiting: number }
  | { readonly state: 'failed'; readonly waiting: number; readonly error: ErrorBody }

type Opened<D extends object> =
  | {
      readonly ok: true
      readonly value: { readonly doc: Automerge.Doc<D>; readonly readOnlyReason: string | null }
    }
  | { readonly ok: false; readonly error: ErrorBody }

/** What somebody is shown of a long document before it is loaded; loading waits until it has settled. */
export type ReadFirst<D extends object> = (content: D) => Promise<void>

async function openIn<D extends object>(
  bridge: Bridge,
  id: string,
  readFirst?: ReadFirst<D>,
): Promise<Opened<D>> {
  const opened = await bridge.call('document.open', { document_id: id })
  if (!opened.ok) return opened
  const { actor, read_only, read_only_reason } = opened.value
  const bytes = fromBase64(opened.value.bytes)
  if (readFirst && bytes.length >= READ_FIRST_BYTES) {
    const content = await contentOf(bytes)
    if (content) await readFirst(content as D)
  }
  try {
    const doc = Automerge.load<D>(bytes, { actor })
    return { ok: true, value: { doc, readOnlyReason: read_only ? (read_only_reason ?? '') : null } }
  } catch (cause) {
    const message = 'This window cannot read the document.'
    return { ok: false, error: new AppError('document.corrupt', message, { cause }).toBody() }
  }
}

/**
 * The UI's own replica of a document. A local change is visible at once and handed to the host in order; remote ones arrive
 * coalesced. When the host was away the replica opens the document again and keeps what the host had not stored yet; when that
 * fails, `openError` says why until it succeeds. Closing it gives up what is not stored: `Replicas` closes none before that.
 */
export class Replica<D extends object> {
  readonly id: string
  doc: Automerge.Doc<D>
  readOnlyReason: string | null
  appendState: AppendState = { state: 'stored' }
  /** Why the document could not be opened again: `doc` is what it was before, and takes no changes. Null while all is well. */
  openError: ErrorBody | null = null
  private readonly bridge: Bridge
  private unsent: Uint8Array[] = []
  /** Those of `unsent` that were handed over at least once: the host may have them. */
  private readonly tried = new Set<Uint8Array>()
  /** How many are in a request that arrives although the page goes. */
  private underWay = 0
  /** What was handed over last was not stored: until something is, what waits is in this window alone. */
  failing = false
  /** What builds on something that the host took back: it goes into the local draft that holds that, and is not shown any more. */
  private strays: Uint8Array[] = []
  private sending: Promise<void> | null = null
  private arrived: Uint8Array[] = []
  private timer: ReturnType<typeof setTimeout> | null = null
  private readonly listeners = new Set<(change: ReplicaChange) => void>()
  private readonly appendListeners = new Set<(state: AppendState) => void>()
  private readonly openListeners = new Set<(error: ErrorBody | null) => void>()
  /** How often it was opened again: only the last answer counts. */
  private reopened = 0
  /** What the host may have had when it made a local draft of what cannot stay: the next opening does not bring it back. */
  private readonly withdrawn = new Set<Uint8Array>()
  /** Own changes that the host stored since it was asked to open the document: its answer may be older. Null while it is not asked. */
  private storedMeanwhile: Uint8Array[] | null = null
  private retry: ReturnType<typeof setTimeout> | null = null
  private sendAgain: ReturnType<typeof setTimeout> | null = null
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
        if (event.document_id !== id) return
        // Without a draft nothing was given up: the host has more than its changes say, or other ones.
        if (event.draft_id !== null) for (const change of this.tried) this.withdrawn.add(change)
        // What came before is in what is opened now, or was taken back.
        this.arrived = []
        void this.openAgain()
      }),
      // What one may do in it comes with it.
      bridge.on('workspaces.changed', () => void this.openAgain()),
      bridge.onConnection(connected => {
        if (connected && !this.wasConnected) void this.openAgain()
        this.wasConnected = connected
      }),
    )
  }

  /**
   * Opens a document. `readFirst` is handed what a long one holds, out of its bytes, as loading is dozens of times slower; it is not
   * called for a short one, or one that cannot be read so.
   */
  static async open<D extends object>(
    bridge: Bridge,
    id: string,
    readFirst?: ReadFirst<D>,
  ): Promise<{ ok: true; value: Replica<D> } | { ok: false; error: ErrorBody }> {
    // What comes while the host answers and while it is read first.
    let arrived: Uint8Array[] = []
    let reset = false
    const stops = [
      bridge.on('document.changes', event => {
        if (event.document_id === id) arrived.push(...event.changes.map(fromBase64))
      }),
      bridge.on('document.reset', event => {
        if (event.document_id !== id) return
        reset = true
        arrived = []
      }),
    ]
    const opened = await openIn(bridge, id, readFirst)
    for (const stop of stops) stop()
    if (!opened.ok) return opened
    const replica = new Replica<D>(bridge, id, opened.value.doc, opened.value.readOnlyReason)
    if (arrived.length > 0) replica.arrive(arrived)
    if (reset) void replica.openAgain()
    return { ok: true, value: replica }
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

  /** Hears why the document could not be opened again, and null once it could. */
  onOpen(listener: (error: ErrorBody | null) => void): () => void {
    this.openListeners.add(listener)
    return () => this.openListeners.delete(listener)
  }

  /** Makes one edit, of one change or more. What `edit` throws reaches the caller, and then nothing is changed. */
  change(edit: (doc: Automerge.Doc<D>) => Automerge.Doc<D>, origin: unknown = 'local'): void {
    if (this.openError && !AWAY.has(this.openError.code))
      throw new AppError(this.openError.code, this.openError.message, { hint: this.openError.hint })
    const before = this.doc
    const after = edit(before)
    if (after === before) return
    const heads = Automerge.getHeads(before)
    this.doc = after
    this.unsent.push(...Automerge.getChangesSince(after, heads))
    const patches = origin === 'editor' ? [] : Automerge.diff(after, heads, Automerge.getHeads(after))
    this.tell({ patches, origin })
    this.send()
    // While the host is away nothing else counts them before the next try.
    const { appendState } = this
    const away = appendState.state === 'failed' && AWAY.has(appendState.error.code)
    if (this.failing && (away || appendState.state === 'storing'))
      this.setAppendState({ ...appendState, waiting: this.waiting })
  }

  /** Resolves when everything that was typed so far is durable on this machine, with null; or with why it could not be stored. */
  async stored(): Promise<ErrorBody | null> {
    if (this.sendAgain) this.send()
    while (this.sending) await this.sending
    return this.appendState.state === 'failed' ? this.appendState.error : null
  }

  /** How many changes the host has not stored yet. */
  get waiting(): number {
    return this.strays.length + this.unsent.length
  }

  /** How many of those would be lost if the page went now. */
  get held(): number {
    return Math.max(0, this.waiting - this.underWay)
  }

  close(): void {
    this.closed = true
    for (const stop of this.stops) stop()
    if (this.timer) clearTimeout(this.timer)
    if (this.retry) clearTimeout(this.retry)
    if (this.sendAgain) clearTimeout(this.sendAgain)
    this.sendAgain = null
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
    // While the document is being opened they wait: what is applied now would be gone with what is shown now.
    if (this.closed || this.storedMeanwhile || this.arrived.length === 0) return
    const changes = this.arrived
    this.arrived = []
    const before = Automerge.getHeads(this.doc)
    const [doc] = Automerge.applyChanges(this.doc, changes)
    this.doc = doc
    // An event was lost: what it held is in the host's document.
    if (Automerge.getMissingDeps(doc, []).length > 0) {
      void this.openAgain()
      return
    }
    const patches = Automerge.diff(doc, before, Automerge.getHeads(doc))
    if (patches.length > 0) this.tell({ patches, origin: 'remote' })
  }

  /**
   * Takes the document as the host has it. What the host had not stored yet is applied on top and sent, except what it was given before it
   * made a local draft. A failure that can pass by itself is tried again; any other one is when the host says something new of the
   * document.
   */
  async openAgain(): Promise<void> {
    const mine = ++this.reopened
    if (this.retry) clearTimeout(this.retry)
    this.retry = null
    this.storedMeanwhile = []
    const opened = await openIn<D>(this.bridge, this.id)
    if (this.closed || mine !== this.reopened) {
      if (opened.ok) Automerge.free(opened.value.doc)
      return
    }
    const stored = this.storedMeanwhile
    this.storedMeanwhile = null
    if (!opened.ok) {
      if (passes(opened.error)) this.retry = setTimeout(() => void this.openAgain(), RETRY_MS)
      this.setOpenError(opened.error)
      this.applyArrived()
      return
    }
    let { doc } = opened.value
    const unsent = new Set(this.unsent)
    const { fits, strays } = sorted(doc, [...stored, ...unsent])
    const shown = fits.filter(change => !this.withdrawn.has(change))
    this.unsent = shown.filter(change => unsent.has(change))
    this.strays.push(...strays.filter(change => unsent.has(change)))
    this.withdrawn.clear()
    if (shown.length > 0) doc = Automerge.applyChanges(doc, shown)[0]
    const old = this.doc
    this.doc = doc
    this.readOnlyReason = opened.value.readOnlyReason
    this.setOpenError(null)
    this.tell({ patches: [], origin: 'reopened' })
    Automerge.free(old)
    // What came while the host answered may be newer than its answer.
    this.applyArrived()
    if (this.waiting > 0) this.send()
    else this.setAppendState({ state: 'stored' })
  }

  private send(): void {
    if (this.sendAgain) clearTimeout(this.sendAgain)
    this.sendAgain = null
    this.sending ??= this.sendAll().finally(() => {
      this.sending = null
    })
  }

  private async sendAll(): Promise<void> {
    // Let the keystrokes of this turn gather into one call.
    await Promise.resolve()
    while (this.waiting > 0) {
      const strays = this.strays.length > 0
      const batch = (strays ? this.strays : this.unsent).slice(0, BATCH)
      for (const change of batch) this.tried.add(change)
      const changes = batch.map(toBase64)
      const chars = changes.reduce((sum, change) => sum + change.length + 3, ENVELOPE_CHARS)
      this.underWay = !this.failing && chars <= OUTLIVES_PAGE_CHARS ? batch.length : 0
      this.setAppendState({ state: 'storing', waiting: this.waiting })
      const reply = await this.bridge.call('document.append', { document_id: this.id, changes })
      this.underWay = 0
      this.failing = !reply.ok
      const away = !reply.ok && AWAY.has(reply.error.code)
      // A stray that the host has no draft for cannot be stored, and must not hold up what comes after it: it is said, once.
      const hopeless = strays && !reply.ok && !passes(reply.error)
      if (reply.ok || hopeless) this.settle(batch)
      if (reply.ok) {
        this.storedMeanwhile?.push(...batch)
        if (strays) void this.openAgain()
        continue
      }
      this.setAppendState({ state: 'failed', waiting: this.waiting, error: reply.error })
      if (!away && !hopeless) {
        if (!this.closed && passes(reply.error))
          this.sendAgain = setTimeout(() => this.send(), REFUSED_RETRY_MS)
        return
      }
      if (away) await new Promise(resolve => setTimeout(resolve, RETRY_MS))
      if (this.closed) return
    }
    this.failing = false
    this.setAppendState({ state: 'stored' })
  }

  private settle(batch: readonly Uint8Array[]): void {
    const settled = new Set(batch)
    this.strays = this.strays.filter(change => !settled.has(change))
    this.unsent = this.unsent.filter(change => !settled.has(change))
    for (const change of batch) this.tried.delete(change)
  }

  private setAppendState(state: AppendState): void {
    this.appendState = state
    for (const listener of this.appendListeners) listener(state)
  }

  private setOpenError(error: ErrorBody | null): void {
    if (error === null && this.openError === null) return
    this.openError = error
    for (const listener of this.openListeners) listener(error)
  }

  private tell(change: ReplicaChange): void {
    for (const listener of this.listeners) listener(change)
  }
}

/** Changes that build on nothing but the document and each other, and those that do not. */
function sorted(
  doc: Automerge.Doc<unknown>,
  changes: readonly Uint8Array[],
): { readonly fits: Uint8Array[]; readonly strays: Uint8Array[] } {
  const fits: Uint8Array[] = []
  const strays: Uint8Array[] = []
  const known = new Set<string>()
  for (const change of changes) {
    const { hash, deps } = Automerge.decodeChange(change)
    const fitting = deps.every(dep => known.has(dep) || Automerge.hasHeads(doc, [dep]))
    if (fitting) known.add(hash)
    ;(fitting ? fits : strays).push(change)
  }
  return { fits, strays }
}
