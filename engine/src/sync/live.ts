import { toAppError } from '@pluto-duck/crdt-model/errors'
import type { LiveEvent, LogItem } from '@pluto-duck/crdt-model/protocol'
import { logItems } from './exchange.ts'
import type { Incoming } from './incoming.ts'
import { readLiveEvents } from './live-events.ts'
import type { SyncNews, SyncOptions } from './options.ts'
import type { Standing } from './standing.ts'
import type { Waker } from './waker.ts'

/**
 * What comes after a quiet while is applied at once. Each application costs the document's length, so what follows waits for as
 * long as three of the last one took, at most so many milliseconds, and is applied together: a burst costs a quarter of the time.
 */
const COALESCE_MS = 60
const COALESCE_COSTS = 3
const PRESENCE_MS = 45_000

export interface LiveParts {
  readonly options: SyncOptions
  readonly standing: Standing
  readonly incoming: Incoming
  readonly waker: Waker
  readonly stop: AbortSignal
  readonly news: (news: SyncNews) => void
  /** The status has changed. */
  readonly tell: () => void
}

/** The stream of live events: changes that wait to be applied together, who else is here, and the rest for whoever listens. */
export class Live {
  readonly #parts: LiveParts
  readonly #present = new Map<string, number>()
  #events: Promise<void> | null = null
  #abort: AbortController | null = null
  #streaming = false
  #arrived: LogItem[] = []
  #arrivedTo = 0
  /** When the last arrivals were applied, and how long it took. */
  #applied = { at: 0, ms: 0 }

  constructor(parts: LiveParts) {
    this.#parts = parts
  }

  /** Events come in. */
  get streaming(): boolean {
    return this.#streaming
  }

  devicesOnline(now: number): number {
    // Nor from a time to come: the clock was put back.
    for (const [device, at] of this.#present)
      if (Math.abs(now - at) > PRESENCE_MS) this.#present.delete(device)
    return this.#present.size
  }

  /** Opens the stream unless it is open. It ends by itself; the next settled round opens it again. */
  listen(): void {
    const { options, standing, waker, stop } = this.#parts
    if (this.#events || stop.aborted) return
    const abort = new AbortController()
    this.#abort = abort
    this.#events = readLiveEvents(options.client, {
      workspaceId: options.workspaceId,
      cursor: standing.cursor ?? 0,
      signal: abort.signal,
      onOpen: () => {
        this.#streaming = true
      },
      onEvent: event => this.#heard(event),
    })
      .catch((error: unknown) => {
        if (abort.signal.aborted) return
        options.log('info', 'live events ended', { code: toAppError(error).code })
      })
      .then(async () => {
        const was = this.#streaming
        this.#streaming = false
        this.#present.clear()
        // Not at once: a server that has no stream, or is just starting, is polled meanwhile.
        if (!abort.signal.aborted) await options.clock.sleep(was ? 500 : 5_000, stop)
        this.#events = null
        if (was) {
          standing.serverSeq = null
          waker.rouse()
        }
      })
  }

  /** Ends the stream, if it is open. */
  hangUp(): void {
    this.#abort?.abort()
  }

  /** Resolves when no stream is open. */
  async ended(): Promise<void> {
    await this.#events
  }

  /** Stores what events brought, if it follows the cursor. */
  async takeArrived(): Promise<void> {
    const { options, standing, incoming } = this.#parts
    const arrived = this.#arrived
    const to = this.#arrivedTo
    this.#arrived = []
    this.#arrivedTo = 0
    const { cursor } = standing
    if (to === 0 || cursor === null) return
    const next = arrived.filter(item => item.seq > cursor && !standing.ahead.has(item.seq))
    const reached = next.reduce(
      (at, item) => (item.seq === standing.ahead.from(at) + 1 ? item.seq : Number.NaN),
      cursor,
    )
    if (reached > cursor) {
      const { clock } = options
      const started = clock.now()
      await incoming.take(next, reached)
      this.#applied = { at: clock.now(), ms: clock.now() - started }
    }
    // After a gap the server is ahead of the cursor, so the log is read.
    if (standing.serverSeq !== null) standing.serverSeq = Math.max(standing.serverSeq, to)
  }

  #heard(event: LiveEvent): void {
    const { options, waker, stop, news, tell } = this.#parts
    if (event.type === 'changes') {
      const first = this.#arrivedTo === 0
      if (event.items !== null) this.#arrived.push(...logItems(event.items))
      this.#arrivedTo = Math.max(this.#arrivedTo, event.to)
      if (!first) return
      const { at, ms } = this.#applied
      const wait = waker.left(at, Math.min(COALESCE_MS, ms * COALESCE_COSTS))
      if (wait === 0) waker.rouse()
      else options.clock.sleep(wait, stop).then(() => waker.rouse())
      return
    }
    if (event.type === 'presence' && event.device_id !== options.deviceId) {
      if (event.left) this.#present.delete(event.device_id)
      else this.#present.set(event.device_id, options.clock.now())
      tell()
    }
    news({ kind: 'live', event })
  }
}
