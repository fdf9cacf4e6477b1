import { type AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import { isoTime } from '../clock.ts'
import { Workspaces } from '../state/index.ts'
import { Incoming } from './incoming.ts'
import { Live } from './live.ts'
import type { SyncNews, SyncOptions, SyncStatus } from './options.ts'
import { Outgoing } from './outgoing.ts'
import { backOffMs, inSync, isLive, nextAction, type SyncView } from './plan.ts'
import { Standing } from './standing.ts'
import { Waker } from './waker.ts'

/** Without live events the log is polled this often; with them more rarely, in case one was lost. */
const POLL_MS = 30_000
const POLL_BESIDE_EVENTS_MS = 60_000
const COMPARE_AFTER_MS = 1_000
const SAVE_SYNCED_MS = 10_000

/**
 * Keeps one workspace the same here and on the server: first by snapshot, then by the log's tail and live events one way and the
 * outbox the other. One loop does one thing at a time; what it is is decided by `nextAction`.
 */
export class Sync {
  readonly #o: SyncOptions
  readonly #workspaces: Workspaces
  readonly #listeners = new Set<(news: SyncNews) => void>()
  readonly #stop = new AbortController()
  readonly #standing: Standing
  readonly #waker: Waker
  readonly #incoming: Incoming
  readonly #live: Live
  readonly #outgoing: Outgoing
  #loop: Promise<void> | null = null
  /** Somebody waits for the outcome of this round. */
  #asked = false
  #unsubscribe: () => void = () => undefined

  #paused = false
  #signedIn = true
  #failures = 0
  /** The connection was lost, or the program was away, since the outbox was told so. */
  #apart = true
  #error: AppError | null = null
  #lastSyncedAt: string | null = null
  #rounds = 0
  /** How often a sync was asked for, and how often that was when what was last read was begun. */
  #asks = 0
  #answered = 0

  constructor(options: SyncOptions) {
    this.#o = options
    this.#workspaces = new Workspaces(options.state)
    const stop = this.#stop.signal
    const standing = new Standing(options)
    const waker = new Waker(options.clock, stop)
    const incoming = new Incoming(options, standing, stop)
    const news = (told: SyncNews) => this.#news(told)
    const live = new Live({ options, standing, incoming, waker, stop, news, tell: () => this.#tell() })
    this.#standing = standing
    this.#waker = waker
    this.#incoming = incoming
    this.#live = live
    this.#outgoing = new Outgoing({ options, standing, live, waker, stop, news })
  }

  on(listener: (news: SyncNews) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Begins; the first round starts at once. */
  async start(): Promise<void> {
    if (this.#loop) return
    const row = await this.#workspaces.get(this.#o.workspaceId)
    this.#standing.cursor = row?.cursor ?? null
    this.#lastSyncedAt = row?.last_synced_at ?? null
    this.#o.documents.setLiveness(workspaceId => workspaceId === this.#o.workspaceId && this.live)
    this.#unsubscribe = this.#o.documents.on(event => {
      if (event.kind !== 'queued' && event.kind !== 'unreadable') return
      if (event.workspaceId !== this.#o.workspaceId) return
      if (event.kind === 'queued') this.#standing.digest = 'unknown'
      this.#waker.rouse()
    })
    this.#loop = this.#run()
  }

  /** Ends the loop and its connections. What waits stays in the outbox. */
  async stop(): Promise<void> {
    this.#stop.abort()
    this.#live.hangUp()
    this.#unsubscribe()
    this.#o.documents.setLiveness(() => false)
    this.#waker.end()
    await this.#loop
    await this.#live.ended()
    // Who waits for a round that will not come is told.
    this.#tell()
  }

  pause(paused: boolean): void {
    this.#paused = paused
    if (paused) {
      this.#live.hangUp()
      this.#standing.serverSeq = null
      this.#standing.digest = 'unknown'
    }
    this.#failures = 0
    this.#tell()
    this.#waker.rouse(true)
  }

  /** Connected and caught up: what is written now is written beside the others. */
  get live(): boolean {
    return isLive(this.#view())
  }

  /**
   * Syncs now and resolves when there is nothing more to do, or when it failed; the status says which. What the server had when this was called
   * is here then.
   */
  async now(): Promise<SyncStatus> {
    this.#failures = 0
    this.#signedIn = true
    this.#standing.serverSeq = null
    this.#asked = true
    this.#asks++
    const from = this.#rounds
    this.#waker.rouse(true)
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
      seq: view.cursor ?? 0,
      last_synced_at: this.#lastSyncedAt,
      devices_online: this.#live.devicesOnline(this.#o.clock.now()),
      error: this.#error?.toBody() ?? null,
      diverged: this.#standing.diverged,
    }
  }

  #view(): SyncView {
    const { cursor, serverSeq, more, digest, healed } = this.#standing
    return {
      paused: this.#paused,
      signedIn: this.#signedIn,
      cursor,
      serverSeq: this.#asks === this.#answered ? serverSeq : null,
      more,
      waiting: this.#o.documents.sendable(this.#o.workspaceId),
      digest,
      healed,
      failures: this.#failures,
    }
  }

  async #run(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      try {
        if (this.#signedIn) this.#signedIn = await this.#o.signedIn()
        await this.#unlive()
        await this.#live.takeArrived()
        const wasFailing = this.#failures > 0
        await this.#act()
        if (wasFailing && this.#standing.serverSeq !== null) {
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
        return await this.#read(() => this.#incoming.snapshot())
      case 'pull':
        return await this.#read(() => this.#incoming.pull())
      case 'push':
        return await this.#outgoing.push(this.#asked)
      case 'heal':
        return await this.#read(() => this.#incoming.heal())
      case 'compare':
        if (await this.#incoming.fetchUnreadable()) return
        return await this.#compareLater()
      case 'listen':
        if (await this.#incoming.fetchUnreadable()) return
        await this.#settled()
        if (await this.#waker.sleep(this.#live.streaming ? POLL_BESIDE_EVENTS_MS : POLL_MS)) return
        return await this.#read(() => this.#incoming.pull())
      case 'rest':
        this.#rounds++
        this.#tell()
        await this.#waker.sleep(POLL_MS)
        if (action.why === 'signed_out') this.#signedIn = true
    }
  }

  /** Reads from the server. Who asks for a sync meanwhile wants what is there then: that read began too early for it. */
  async #read(read: () => Promise<void>): Promise<void> {
    const asks = this.#asks
    await read()
    this.#answered = asks
  }

  /** Nothing to pull and nothing to push. */
  #caughtUp(): void {
    this.#failures = 0
    this.#error = null
    this.#live.listen()
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
    if (this.#asks === this.#answered) {
      this.#rounds++
      this.#asked = false
    }
    this.#caughtUp()
  }

  async #compareLater(): Promise<void> {
    // A server that tells no digest, or unsent work that cannot be read: caught up with, but never said to be in sync.
    const incomparable =
      this.#standing.noDigest ||
      this.#o.documents.waiting({ workspaceId: this.#o.workspaceId }) > this.#view().waiting
    this.#caughtUp()
    if (!this.#asked && (await this.#waker.sleep(incomparable ? POLL_MS : COMPARE_AFTER_MS))) return
    await this.#read(() => this.#incoming.pull())
    if (incomparable && nextAction(this.#view()).do === 'compare') await this.#settled()
  }

  async #failed(error: AppError): Promise<void> {
    this.#rounds++
    this.#standing.serverSeq = null
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
    await this.#waker.backOff(
      Math.max(asked * (1 + Math.random() / 2), backOffMs(this.#failures, Math.random())),
    )
  }

  /** Before anything is sent again: what waits since a failure was not written beside the others. A full disk may need a second try. */
  async #unlive(): Promise<void> {
    if (!this.#apart) return
    await this.#o.documents.unlive(this.#o.workspaceId)
    this.#apart = false
  }

  #tell(): void {
    this.#news({ kind: 'status', status: this.status() })
  }

  #news(news: SyncNews): void {
    for (const listener of this.#listeners) listener(news)
  }
}
