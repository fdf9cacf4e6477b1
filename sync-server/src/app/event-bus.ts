import { randomUUID } from 'node:crypto'
import { Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { type LiveEvent, liveEvent } from '@pluto-duck/crdt-model/protocol'
import type { Kysely } from 'kysely'
import pg from 'pg'
import type { Logger } from 'pino'
import { z } from 'zod'
import { type Database, hot, type MakeSocket, runHot } from '../database/index.ts'

export type Listener = (event: LiveEvent) => void

type Changes = Extract<LiveEvent, { type: 'changes' }>

/** Two commits as one event. What does not follow, or is too long for a notification, is read from the log. */
function joined(first: Changes, second: Changes): Changes {
  const { from } = first
  const { to } = second
  const fits =
    first.items !== null &&
    second.items !== null &&
    first.to === second.from &&
    first.items.length + second.items.length < PAYLOAD_LIMIT - 500
  if (!fits) return { type: 'changes', from, to, items: null }
  const items = [first.items, second.items].map(part => Buffer.from(part ?? '', 'base64'))
  return { type: 'changes', from, to, items: Buffer.concat(items).toString('base64') }
}

const CHANNEL = 'pluto_events'
const NOTIFY = hot('select pg_notify($1::text, $2::text)')
/** Postgres takes payloads below 8,000 bytes. */
const PAYLOAD_LIMIT = 7_900
const RECONNECT_MS = 1_000
/** For a connection to be made and to listen, and then for a sign of life from the other machine: after that it is made anew. */
const ANSWER_MS = 10_000
/** For Postgres to answer a goodbye. */
const END_MS = 1_000
/** Between two notifications of one workspace's changes: what is committed meanwhile is one for the other servers. */
const NOTIFY_GAP_MS = 10

const message = z.object({ from: z.string(), workspace_id: z.string(), event: liveEvent })

/**
 * Live events of workspaces, in this process and in every other server process on the same database (NOTIFY). Delivery is
 * at most once and best effort: whoever needs every change reads the log; a listener that must not miss anything polls too.
 */
export class EventBus {
  readonly #id = randomUUID()
  readonly #db: Kysely<Database>
  readonly #url: string
  readonly #log: Logger
  readonly #socket: MakeSocket | undefined
  readonly #answerMs: number
  readonly #listeners = new Map<string, Set<Listener>>()
  readonly #closed = new AbortController()
  /** Changes that other processes are still to be told, and workspaces of which some are being told. */
  readonly #waiting = new Map<string, Changes>()
  readonly #notifying = new Set<string>()
  #running: Promise<void> = Promise.resolve()

  constructor(
    db: Kysely<Database>,
    url: string,
    log: Logger,
    socket?: MakeSocket,
    answerMs: number = ANSWER_MS,
  ) {
    this.#socket = socket
    this.#answerMs = answerMs
    this.#db = db
    this.#url = url
    this.#log = log
  }

  /** Resolves when events of other processes arrive, or when the first try failed; the connection is made again whenever it breaks. */
  async start(): Promise<void> {
    const first = Promise.withResolvers<void>()
    this.#running = this.#listen(first.resolve)
    await first.promise
  }

  subscribe(workspaceId: string, listener: Listener): () => void {
    const set = this.#listeners.get(workspaceId) ?? new Set()
    this.#listeners.set(workspaceId, set.add(listener))
    return () => {
      set.delete(listener)
      if (set.size === 0 && this.#listeners.get(workspaceId) === set) this.#listeners.delete(workspaceId)
    }
  }

  /**
   * Tells everybody. With a transaction, only once it commits and never when it rolls back; without one, at once here, and
   * a failure to reach other processes is logged, not thrown.
   */
  async publish(workspaceId: string, event: LiveEvent, tx?: Kysely<Database>): Promise<void> {
    if (tx !== undefined) {
      await this.#notify(tx, '', workspaceId, event)
      return
    }
    this.#emit(workspaceId, event)
    if (event.type === 'changes') await this.#notifyChanges(workspaceId, event)
    else await this.#notifyOthers(workspaceId, event)
  }

  /** Only for listeners in this process. */
  publishHere(workspaceId: string, event: LiveEvent): void {
    this.#emit(workspaceId, event)
  }

  /** Ends in a second or two, whatever Postgres and the network do. */
  async close(): Promise<void> {
    this.#closed.abort()
    await this.#running
    this.#listeners.clear()
  }

  /** One notification of a workspace's changes at a time: what is committed meanwhile is told together. */
  async #notifyChanges(workspaceId: string, event: Changes): Promise<void> {
    const waiting = this.#waiting.get(workspaceId)
    this.#waiting.set(workspaceId, waiting ? joined(waiting, event) : event)
    if (this.#notifying.has(workspaceId)) return
    this.#notifying.add(workspaceId)
    for (let next = this.#waiting.get(workspaceId); next; next = this.#waiting.get(workspaceId)) {
      this.#waiting.delete(workspaceId)
      await this.#notifyOthers(workspaceId, next)
      await delay(NOTIFY_GAP_MS, undefined, { signal: this.#closed.signal }).catch(() => {})
    }
    this.#notifying.delete(workspaceId)
  }

  async #notifyOthers(workspaceId: string, event: LiveEvent): Promise<void> {
    try {
      await this.#notify(this.#db, this.#id, workspaceId, event)
    } catch (error) {
      this.#log.warn({ err: error }, 'an event did not reach the other servers')
    }
  }

  async #notify(db: Kysely<Database>, from: string, workspaceId: string, event: LiveEvent): Promise<void> {
    let payload = JSON.stringify({ from, workspace_id: workspaceId, event })
    if (Buffer.byteLength(payload) > PAYLOAD_LIMIT && event.type === 'changes') {
      payload = JSON.stringify({ from, workspace_id: workspaceId, event: { ...event, items: null } })
    }
    await runHot(db, NOTIFY, [CHANNEL, payload])
  }

  #emit(workspaceId: string, event: LiveEvent): void {
    for (const listener of this.#listeners.get(workspaceId) ?? []) {
      try {
        listener(event)
      } catch (error) {
        this.#log.error({ err: error }, 'a listener of live events failed')
      }
    }
  }

  async #listen(ready: () => void): Promise<void> {
    const { signal } = this.#closed
    while (!signal.aborted) {
      await this.#hear(ready)
      ready()
      await delay(RECONNECT_MS, undefined, { signal }).catch(() => {})
    }
  }

  /** One connection, until it breaks, is not made in time, or the bus is closed: at any moment, also while it is being made. */
  async #hear(ready: () => void): Promise<void> {
    const { signal } = this.#closed
    // Our own, so that it can be given up whatever the client waits for.
    const socket = this.#socket?.() ?? new Socket()
    const client = new pg.Client({
      connectionString: this.#url,
      connectionTimeoutMillis: this.#answerMs,
      query_timeout: this.#answerMs,
      keepAlive: true,
      keepAliveInitialDelayMillis: ANSWER_MS,
      application_name: 'pluto-server events',
      stream: () => socket,
    })
    const over = Promise.withResolvers<void>()
    signal.addEventListener('abort', () => over.resolve(), { once: true })
    client.once('end', () => over.resolve())
    client.on('error', error => {
      this.#log.warn({ err: error }, 'the connection for live events broke')
      over.resolve()
    })
    client.on('notification', ({ payload }) => this.#receive(payload))
    let listens = false
    const connect = async (): Promise<void> => {
      await client.connect()
      await client.query(`listen ${CHANNEL}`)
      listens = true
    }
    try {
      await Promise.race([connect(), over.promise])
      if (listens) {
        ready()
        await over.promise
      }
    } catch (error) {
      this.#log.warn({ err: error }, 'the connection for live events could not be made')
    }
    if (!listens) socket.destroy()
    const late = setTimeout(() => socket.destroy(), END_MS)
    await client.end().catch(() => {})
    clearTimeout(late)
  }

  #receive(payload: string | undefined): void {
    // Our own, which `publish` has told already.
    if (payload?.startsWith(`{"from":"${this.#id}"`)) return
    let parsed: z.infer<typeof message>
    try {
      parsed = message.parse(JSON.parse(payload ?? ''))
    } catch (error) {
      this.#log.warn({ err: error }, 'a notification was not understood')
      return
    }
    this.#emit(parsed.workspace_id, parsed.event)
  }
}
