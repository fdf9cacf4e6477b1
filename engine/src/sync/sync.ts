import { createHash } from 'node:crypto'
import { type AppError, type ErrorBody, toAppError } from '@pluto-duck/crdt-model/errors'
import { HeadsDigest, LIMITS, type LiveEvent, type LogItem } from '@pluto-duck/crdt-model/protocol'
import { type Clock, isoTime } from '../clock.ts'
import type { Documents } from '../documents/index.ts'
import { type State, Workspaces } from '../state/index.ts'
import { logItems, push, readLog, readSnapshot } from './exchange.ts'
import { readLiveEvents } from './live-events.ts'
import { backOffMs, inSync, isLive, judge, nextAction, nextBatch, type SyncView } from './plan.ts'
import type { WireClient } from './wire-client.ts'

export interface SyncOptions {
  readonly workspaceId: string
  readonly deviceId: string
  readonly client: WireClient
  readonly state: State
  readonly documents: Documents
  readonly clock: Clock
  /** Is there a token? Asked before each action. */
  readonly signedIn: () => Promise<boolean>
  readonly log: (level: 'info' | 'warn' | 'error', message: string, facts: Record<string, unknown>) => void
}

/** The part of the contract's sync state that sync itself knows. */
export interface SyncStatus {
  readonly state: 'in_sync' | 'syncing' | 'offline' | 'signed_out'
  readonly waiting: number
  readonly paused: boolean
  readonly seq: number
  readonly last_synced_at: string | null
  readonly devices_online: number
  readonly error: ErrorBody | null
  /** Documents that differ from the server's after healing. */
  readonly diverged: readonly string[]
}

export type SyncNews =
  | { readonly kind: 'status'; readonly status: SyncStatus }
  /** Connected, nothing to pull and nothing to push: what is here is there. */
  | { readonly kind: 'caught_up' }
  /** What the server tells beside changes: versions, runs, schedules, members, presence. */
  | { readonly kind: 'live'; readonly event: LiveEvent }
  | { readonly kind: 'refused'; readonly documentId: string; readonly draftId: string }

/** Without live events the log is polled this often; with them more rarely, in case one was lost. */
const POLL_MS = 30_000
const POLL_BESIDE_EVENTS_MS = 60_000
/**
 * What comes after a quiet while is applied at once. Each application costs the document's length, so what follows waits for as
 * long as three of the last one took, at most so many milliseconds, and is applied together: a burst costs a quarter of the time.
 */
const COALESCE_MS = 60
const COALESCE_COSTS = 3
/** Between two pushes while live: what is written quickly travels together. */
const PUSH_GAP_MS = 50
const COMPARE_AFTER_MS = 1_000
const PRESENCE_MS = 45_000
const SAVE_SYNCED_MS = 10_000
const PUSH_BYTES = LIMITS.pushBytes - 512 * 1024

/**
 * Keeps one workspace the same here and on the server: first by snapshot, then by the log's tail and live events one way and the
 * outbox the other. One loop does one thing at a time; what it is is decided by `nextAction`.
 */
export class Sync {
  readonly #o: SyncOptions
  readonly #workspaces: Workspaces
  readonly #listeners = new Set<(news: SyncNews) => void>()
  readonly #stop = new AbortController()
  readonly #tried = new Set<string>()
  /** Unreadable documents that were fetched anew already. */
  readonly #fetched = new Set<string>()
  readonly #present = new Map<string, number>()
  #loop: Promise<void> | null = null
  #events: Promise<void> | null = null
  #eventsAbort: AbortController | null = null
  #streaming = false
  #arrived: LogItem[] = []
  #arrivedTo = 0
  /** When the last arrivals were applied, and how long it took. */
  #applied = { at: 0, ms: 0 }
  #pushedAt = 0
  #wake: AbortController = new AbortController()
  #woken = false
  #urgent = false
  #backingOff = false
  /** Somebody waits for the outcome of this round. */
  #asked = false
  #unsubscribe: () => void = () => undefined

  #paused = false
  #signedIn = true
  #cursor: number | null = null
  #serverSeq: number | null = null
  #more = false
  #digest: SyncView['digest'] = 'unknown'
  #noDigest = false
  readonly #heads = new HeadsDigest(() => createHash('sha256'))
  #healed = 0
  #failures = 0
  /** The connection was lost, or the program was away, since the outbox was told so. */
  #apart = true
  #error: AppError | null = null
  #diverged: string[] = []
  #batch: number = LIMITS.pushChanges
  #lastSyncedAt: string | null = null
  #rounds = 0

  constructor(options: SyncOptions) {
    this.#o = options
    this.#workspaces = new Workspaces(options.state)
  }

  on(listener: (news: SyncNews) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Begins; the first round starts at once. */
  async start(): Promise<void> {
    if (this.#loop) return
    const row = await this.#workspaces.get(this.#o.workspaceId)
    this.#cursor = row?.cursor ?? null
    this.#lastSyncedAt = row?.last_synced_at ?? null
    this.#o.documents.setLiveness(workspaceId => workspaceId === this.#o.workspaceId && this.live)
    this.#unsubscribe = this.#o.documents.on(event => {
      if (event.kind !== 'queued' && event.kind !== 'unreadable') return
      if (event.workspaceId !== this.#o.workspaceId) return
      if (event.kind === 'queued') this.#digest = 'unknown'
      this.#rouse()
    })
    this.#loop = this.#run()
  }

  /** Ends the loop and its connections. What waits stays in the outbox. */
  async stop(): Promise<void> {
    this.#stop.abort()
    this.#eventsAbort?.abort()
    this.#unsubscribe()
    this.#o.documents.setLiveness(() => false)
    this.#wake.abort()
    await this.#loop
    await this.#events
    // Who waits for a round that will not come is told.
    this.#tell()
  }

  pause(paused: boolean): void {
    this.#paused = paused
    if (paused) {
      this.#eventsAbort?.abort()
      this.#serverSeq = null
      this.#digest = 'unknown'
    }
    this.#failures = 0
    this.#tell()
    this.#rouse(true)
  }

  /** Connected and caught up: what is written now is written beside the others. */
  get live(): boolean {
    return isLive(this.#view())
  }

  /** Syncs now and resolves when there is nothing more to do, or when it failed; the status says which. */
  async now(): Promise<SyncStatus> {
    this.#failures = 0
    this.#signedIn = true
    this.#serverSeq = null
    this.#asked = true
    const from = this.#rounds
    this.#rouse(true)
    await new Promise<void>(resolve => {
      const off = this.on(() => {
        if (this.#rounds === from && !this.#stop.signal.aborted) return
        off()
        resolve()
      })
      if (this.#stop.signal.aborted || !this.#loop) {
        off()
        resolve()
      }
    })
    return this.status()
  }

  status(): SyncStatus {
    const view = this.#view()
    const now = this.#o.clock.now()
    for (const [device, at] of this.#present) if (now - at > PRESENCE_MS) this.#present.delete(device)
    const state =
      view.paused || this.#failures > 0
        ? 'offline'
        : !view.signedIn
          ? 'signed_out'
          : inSync(view)
            ? 'in_sync'
            : 'syncing'
    return {
      state,
      waiting: this.#o.documents.waiting({ workspaceId: this.#o.workspaceId }),
      paused: view.paused,
      seq: this.#cursor ?? 0,
      last_synced_at: this.#lastSyncedAt,
      devices_online: this.#present.size,
      error: this.#error?.toBody() ?? null,
      diverged: this.#diverged,
    }
  }

  #view(): SyncView {
    return {
      paused: this.#paused,
      signedIn: this.#signedIn,
      cursor: this.#cursor,
      serverSeq: this.#serverSeq,
      more: this.#more,
      waiting: this.#o.documents.sendable(this.#o.workspaceId),
      digest: this.#digest,
      healed: this.#healed,
      failures: this.#failures,
    }
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        if (this.#signedIn) this.#signedIn = await this.#o.signedIn()
        await this.#unlive()
        await this.#takeArrived()
        const wasFailing = this.#failures > 0
        await this.#act()
        if (wasFailing && this.#serverSeq !== null) {
          this.#failures = 0
          this.#error = null
        }
        this.#tell()
      } catch (thrown) {
        if (!this.#stop.signal.aborted) await this.#failed(toAppError(thrown))
      }
    }
  }

  async #act(): Promise<void> {
    const action = nextAction(this.#view())
    switch (action.do) {
      case 'snapshot':
        return await this.#snapshot()
      case 'pull':
        return await this.#pull()
      case 'push':
        return await this.#push()
      case 'heal':
        return await this.#heal()
      case 'compare':
        if (await this.#fetchUnreadable()) return
        return await this.#compareLater()
      case 'listen':
        if (await this.#fetchUnreadable()) return
        await this.#settled()
        if (await this.#sleep(this.#streaming ? POLL_BESIDE_EVENTS_MS : POLL_MS)) return
        return await this.#pull()
      case 'rest':
        this.#rounds++
        this.#tell()
        await this.#sleep(POLL_MS)
        if (action.why === 'signed_out') this.#signedIn = true
    }
  }

  /** Nothing to pull and nothing to push. */
  #caughtUp(): void {
    this.#failures = 0
    this.#error = null
    this.#listen()
    this.#tell()
    this.#news({ kind: 'caught_up' })
  }

  /** A round ended well. */
  async #settled(): Promise<void> {
    const now = this.#o.clock.now()
    if (this.#lastSyncedAt === null || now - Date.parse(this.#lastSyncedAt) > SAVE_SYNCED_MS)
      await this.#o.state.write(tx =>
        tx.run(
          'update workspaces set last_synced_at = $1 where workspace_id = $2',
          isoTime(now),
          this.#o.workspaceId,
        ),
      )
    this.#lastSyncedAt = isoTime(now)
    this.#rounds++
    this.#asked = false
    this.#caughtUp()
  }

  async #compareLater(): Promise<void> {
    // A server that tells no digest, or unsent work that cannot be read: caught up with, but never said to be in sync.
    const incomparable =
      this.#noDigest || this.#o.documents.waiting({ workspaceId: this.#o.workspaceId }) > this.#view().waiting
    this.#caughtUp()
    if (!this.#asked && (await this.#sleep(incomparable ? POLL_MS : COMPARE_AFTER_MS))) return
    await this.#pull()
    if (incomparable && nextAction(this.#view()).do === 'compare') await this.#settled()
  }

  async #failed(error: AppError): Promise<void> {
    this.#rounds++
    this.#serverSeq = null
    this.#error = error
    if (error.code === 'auth.required' || error.code === 'auth.expired') {
      this.#signedIn = false
      this.#tell()
      return
    }
    this.#failures++
    this.#apart = true
    await this.#unlive().catch((cause: unknown) =>
      this.#o.log('warn', 'the outbox could not be written', { code: toAppError(cause).code }),
    )
    this.#o.log('warn', 'sync failed', { code: error.code, failures: this.#failures })
    this.#tell()
    const asked = Number(error.details?.retry_after_s ?? 0) * 1_000
    // Some later than asked: those who were sent away together do not come back together.
    await this.#backOff(Math.max(asked * (1 + Math.random() / 2), backOffMs(this.#failures, Math.random())))
  }

  async #snapshot(): Promise<void> {
    const { workspaceId, client, documents } = this.#o
    const end = await readSnapshot(client, workspaceId, this.#stop.signal, async (items, last) => {
      await documents.adopt(workspaceId, items, last?.seq ?? null)
    })
    this.#cursor = end.seq
    this.#serverSeq = end.seq
    this.#more = false
    this.#compare(end.seq, end.digest)
  }

  async #pull(): Promise<void> {
    const { workspaceId, client } = this.#o
    const cursor = this.#cursor ?? 0
    const { items, end } = await readLog(client, workspaceId, cursor, this.#stop.signal)
    const reached = end && !end.more ? Math.max(end.seq, cursor) : (items.at(-1)?.seq ?? cursor)
    if (end && !end.more && end.seq < cursor) {
      // Its database was put back to an earlier state: numbers mean other changes now, so only the heads can tell.
      this.#o.log('error', 'the log of the server ends before what this device has of it', {
        cursor,
        seq: end.seq,
      })
      this.#serverSeq = end.seq
      this.#more = false
      this.#digest = 'different'
      return
    }
    await this.#take(items, reached)
    if (end === null) return
    this.#serverSeq = Math.max(end.seq, reached)
    this.#more = end.more
    if (end.more) return
    this.#noDigest = end.digest === null
    this.#compare(end.seq, end.digest)
  }

  /** Stores a piece of the log that begins right after the cursor. */
  async #take(items: readonly LogItem[], reached: number): Promise<void> {
    if (items.length > 0 || reached !== this.#cursor) {
      const { diverged } = await this.#o.documents.applyRemote(this.#o.workspaceId, items, reached)
      for (const documentId of diverged)
        this.#o.log('error', 'a document does not fit the log; it is fetched whole', {
          document_id: documentId,
        })
      this.#cursor = reached
      if (items.length > 0) this.#digest = diverged.length > 0 ? 'different' : 'unknown'
    }
  }

  /** What live events brought, if it follows the cursor. */
  async #takeArrived(): Promise<void> {
    const arrived = this.#arrived
    const to = this.#arrivedTo
    this.#arrived = []
    this.#arrivedTo = 0
    const cursor = this.#cursor
    if (to === 0 || cursor === null) return
    const next = arrived.filter(item => item.seq > cursor)
    const whole = next.every((item, i) => item.seq === cursor + 1 + i)
    if (next.length > 0 && whole) {
      const { clock } = this.#o
      const started = clock.now()
      await this.#take(next, cursor + next.length)
      this.#applied = { at: clock.now(), ms: clock.now() - started }
    }
    // After a gap the server is ahead of the cursor, so the log is read.
    if (this.#serverSeq !== null) this.#serverSeq = Math.max(this.#serverSeq, to)
  }

  async #push(): Promise<void> {
    const { workspaceId, client, documents, clock } = this.#o
    const gap = this.#streaming && !this.#asked ? this.#left(this.#pushedAt, PUSH_GAP_MS) : 0
    if (gap > 0) {
      await clock.sleep(gap, this.#stop.signal)
      await this.#takeArrived()
    }
    const rows: Awaited<ReturnType<Documents['outbox']>> = []
    let bytes = 0
    for (const row of await documents.outbox(workspaceId, this.#batch)) {
      bytes += row.bytes.length + 200
      if (rows.length > 0 && bytes > PUSH_BYTES) break
      rows.push(row)
    }
    const [first] = rows
    // What waits is still on its way to the disk.
    if (!first) {
      await this.#sleep(20)
      return
    }
    const started = clock.now()
    // A full batch means that more waits: it goes right behind.
    this.#pushedAt = rows.length < this.#batch ? started : 0
    let answer: Awaited<ReturnType<typeof push>>
    try {
      answer = await push(
        client,
        workspaceId,
        { deviceId: this.#o.deviceId, live: first.live },
        rows.map(row => ({ ...documents.info(row.documentId), hash: row.hash, bytes: row.bytes })),
        this.#stop.signal,
      )
    } catch (thrown) {
      return await this.#pushRefused(toAppError(thrown), rows)
    }
    this.#batch = nextBatch(this.#batch, clock.now() - started, LIMITS.pushChanges)
    const outcome = judge(rows, answer.verdicts, this.#tried)
    for (const [documentId, hashes] of outcome.stored) {
      await documents.acknowledge(documentId, hashes)
      this.#tried.delete(documentId)
    }
    for (const [documentId, refusal] of outcome.refused) await this.#refuse(documentId, refusal)
    for (const documentId of outcome.again) this.#tried.add(documentId)
    if (outcome.again.size > 0) this.#serverSeq = null
    else if (answer.end) await this.#afterPush(answer.end.seq, answer.end.digest)
  }

  /** A whole push was refused: a smaller one may pass, and at the size of one it is that change's own fault. */
  async #pushRefused(error: AppError, rows: readonly { readonly documentId: string }[]): Promise<void> {
    const ownFault = error.code === 'request.invalid' || error.code === 'request.too_large'
    if (!ownFault) {
      this.#batch = nextBatch(this.#batch, null, LIMITS.pushChanges)
      throw error
    }
    const [first] = rows
    if (rows.length > 1) this.#batch = Math.max(1, Math.floor(rows.length / 4))
    else if (first) await this.#refuse(first.documentId, { code: 'invalid', reason: error.message })
  }

  async #refuse(documentId: string, refusal: { code: string; reason: string }): Promise<void> {
    let draftId: string
    try {
      draftId = await this.#o.documents.refuse(documentId, refusal)
    } catch (thrown) {
      // What cannot be read stays as it is, and is not sent again.
      if (!this.#o.documents.unreadable(this.#o.workspaceId).includes(documentId)) throw thrown
      this.#o.log('error', 'unsent work cannot be read', { document_id: documentId, code: refusal.code })
      return
    }
    this.#tried.delete(documentId)
    this.#o.log('warn', 'the server refused an edit; it is kept as a local draft', {
      document_id: documentId,
      draft_id: draftId,
      code: refusal.code,
    })
    this.#news({ kind: 'refused', documentId, draftId })
  }

  /** Live events bring our own changes back with their records; only if they don't the log is read. */
  async #afterPush(seq: number, digest: string | null): Promise<void> {
    if (this.#streaming && (this.#cursor ?? 0) < seq) {
      // Counted down by what was slept: the time of day may jump.
      for (let left = 300; left > 0 && this.#streaming && (this.#cursor ?? 0) < seq; ) {
        left -= (await this.#sleep(left)) ? 20 : left
        await this.#takeArrived()
      }
    }
    this.#serverSeq = Math.max(this.#serverSeq ?? 0, seq)
    this.#compare(seq, digest)
  }

  /** The digest says something only of the same state: nothing waits here, and the cursor is where it was taken. */
  #compare(seq: number, digest: string | null): boolean {
    const { documents, workspaceId } = this.#o
    if (digest === null || this.#cursor !== seq || documents.waiting({ workspaceId }) > 0) {
      this.#digest = this.#digest === 'different' ? 'different' : 'unknown'
      return false
    }
    this.#heads.replace(
      documents.list(workspaceId).map(info => ({ document_id: info.documentId, heads: info.heads })),
    )
    const mine = this.#heads.digest()
    this.#digest = mine === digest ? 'equal' : 'different'
    if (mine !== digest) return false
    this.#healed = 0
    this.#diverged = []
    return true
  }

  /** The heads differ though nothing is on its way: take what the server has, keep what only we have as drafts, say so. */
  async #heal(): Promise<void> {
    const { workspaceId, documents, client } = this.#o
    this.#healed++
    const there = new Set<string>()
    const drafts: string[] = []
    this.#o.log('error', 'this device and the server differ; healing', { attempt: this.#healed })
    const end = await readSnapshot(client, workspaceId, this.#stop.signal, async items => {
      for (const item of items) there.add(item.document_id)
      drafts.push(...(await documents.adopt(workspaceId, items)).drafts)
    })
    for (const { documentId } of documents.list(workspaceId)) {
      if (there.has(documentId) || documents.waiting({ documentId }) > 0) continue
      drafts.push(await documents.setAside(documentId))
    }
    this.#diverged = documents
      .list(workspaceId)
      .filter(info => !there.has(info.documentId) && documents.waiting({ documentId: info.documentId }) === 0)
      .map(info => info.documentId)
    await this.#o.documents.applyRemote(workspaceId, [], end.seq)
    this.#cursor = end.seq
    this.#serverSeq = end.seq
    this.#digest = 'unknown'
    const equal = this.#compare(end.seq, end.digest)
    this.#o.log('info', 'healed', { drafts, diverged: this.#diverged, equal })
  }

  /** Fetches documents that cannot be read here anew, each once; false when there is none. */
  async #fetchUnreadable(): Promise<boolean> {
    const { workspaceId, documents, client } = this.#o
    const wanted = new Set(documents.unreadable(workspaceId).filter(id => !this.#fetched.has(id)))
    if (wanted.size === 0) return false
    await readSnapshot(client, workspaceId, this.#stop.signal, async items => {
      await documents.adopt(
        workspaceId,
        items.filter(item => wanted.has(item.document_id)),
      )
    })
    for (const documentId of wanted) this.#fetched.add(documentId)
    const left = documents.unreadable(workspaceId).filter(id => wanted.has(id))
    this.#digest = 'unknown'
    this.#o.log(left.length > 0 ? 'error' : 'warn', 'documents that could not be read were fetched anew', {
      documents: [...wanted],
      unreadable: left,
    })
    return true
  }

  /** Opens the stream of live events unless it is open. It ends by itself; the next settled round opens it again. */
  #listen(): void {
    if (this.#events || this.#stop.signal.aborted) return
    const abort = new AbortController()
    this.#eventsAbort = abort
    this.#events = readLiveEvents(this.#o.client, {
      workspaceId: this.#o.workspaceId,
      cursor: this.#cursor ?? 0,
      signal: abort.signal,
      onOpen: () => {
        this.#streaming = true
      },
      onEvent: event => this.#heard(event),
    })
      .catch((error: unknown) => {
        if (abort.signal.aborted) return
        this.#o.log('info', 'live events ended', { code: toAppError(error).code })
      })
      .then(async () => {
        const was = this.#streaming
        this.#streaming = false
        this.#present.clear()
        // Not at once: a server that has no stream, or is just starting, is polled meanwhile.
        if (!abort.signal.aborted) await this.#o.clock.sleep(was ? 500 : 5_000, this.#stop.signal)
        this.#events = null
        if (was) {
          this.#serverSeq = null
          this.#rouse()
        }
      })
  }

  #heard(event: LiveEvent): void {
    if (event.type === 'changes') {
      const first = this.#arrivedTo === 0
      if (event.items !== null) this.#arrived.push(...logItems(event.items))
      this.#arrivedTo = Math.max(this.#arrivedTo, event.to)
      if (!first) return
      const { at, ms } = this.#applied
      const wait = this.#left(at, Math.min(COALESCE_MS, ms * COALESCE_COSTS))
      if (wait === 0) this.#rouse()
      else this.#o.clock.sleep(wait, this.#stop.signal).then(() => this.#rouse())
      return
    }
    if (event.type === 'presence' && event.device_id !== this.#o.deviceId) {
      if (event.left) this.#present.delete(event.device_id)
      else this.#present.set(event.device_id, this.#o.clock.now())
      this.#tell()
    }
    this.#news({ kind: 'live', event })
  }

  /** What is left of so many milliseconds since then; never more, though the time of day may jump. */
  #left(since: number, ms: number): number {
    return Math.min(ms, Math.max(0, since + ms - this.#o.clock.now()))
  }

  /** Before anything is sent again: what waits since a failure was not written beside the others. A full disk may need a second try. */
  async #unlive(): Promise<void> {
    if (!this.#apart) return
    await this.#o.documents.unlive(this.#o.workspaceId)
    this.#apart = false
  }

  /** `urgent` also ends the waiting after a failure. */
  #rouse(urgent = false): void {
    if (urgent) this.#urgent = true
    this.#woken = true
    if (urgent || !this.#backingOff) this.#wake.abort()
  }

  /** Until something happens, at most so long; true when something did. */
  async #sleep(ms: number): Promise<boolean> {
    if (!this.#woken && !this.#stop.signal.aborted) {
      this.#wake = new AbortController()
      await this.#o.clock.sleep(Math.max(0, ms), AbortSignal.any([this.#wake.signal, this.#stop.signal]))
    }
    const woken = this.#woken
    this.#woken = false
    this.#urgent = false
    return woken
  }

  /** The waiting after a failure: typing does not shorten it, a person's wish does. */
  async #backOff(ms: number): Promise<void> {
    if (this.#urgent) {
      // Once: a wish is no reason to fail in a circle.
      this.#urgent = false
      return
    }
    this.#backingOff = true
    this.#wake = new AbortController()
    await this.#o.clock.sleep(ms, AbortSignal.any([this.#wake.signal, this.#stop.signal]))
    this.#backingOff = false
    this.#urgent = false
  }

  #tell(): void {
    this.#news({ kind: 'status', status: this.status() })
  }

  #news(news: SyncNews): void {
    for (const listener of this.#listeners) listener(news)
  }
}
