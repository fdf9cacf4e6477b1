import { decodeChange } from '@automerge/automerge'
import {
  type AppendVerdict,
  appendVerdict,
  decodeSequence,
  parseAppend,
  storedRun,
} from '@pluto-duck/crdt-model/protocol'
import { unpack } from '../../src/sync/packs.ts'
import type { Rng } from './random.ts'
import type { Trace } from './trace.ts'

/** How likely each harm is for one request, 0 to 1. */
export interface Weather {
  /** It never arrives. */
  readonly lost: number
  /** It is carried out, and the answer is lost. */
  readonly unanswered: number
  /** The client is told that it was lost; it arrives later, after whatever the client did then. */
  readonly late: number
  /** It arrives twice. */
  readonly repeated: number
  /** The answer breaks off in the middle. */
  readonly cut: number
  /** It takes its time, so that later ones overtake it. */
  readonly delayed: number
}

export const CALM: Weather = { lost: 0, unanswered: 0, late: 0, repeated: 0, cut: 0, delayed: 0 }

/** What a server said of a change: who listens at the server's door knows it, also when the answer was lost. */
export interface Said {
  readonly stored: Map<string, number>
  readonly refused: Map<string, string>
}

/** A server as a client sees it. */
export interface Door {
  readonly dead: boolean
  /** Aborted at its death: what was under way is lost. */
  readonly died: AbortSignal
  readonly name?: string
  readonly server: { readonly url: string }
}

interface Sent {
  readonly path: string
  readonly init: RequestInit
}

/** The network between the devices of one simulation and the servers. */
export class Network {
  readonly #trace: Trace
  readonly #replicas: () => readonly Door[]
  readonly #underWay = new Set<Promise<void>>()
  readonly #unanswered = new Set<{ readonly what: string; readonly since: number }>()
  weather: Weather = CALM
  readonly said: Said = { stored: new Map(), refused: new Map() }

  constructor(trace: Trace, replicas: () => readonly Door[]) {
    this.#trace = trace
    this.#replicas = replicas
  }

  /** `fetch` as one device has it. `offline` is asked at each request. */
  fetchOf(device: string, rng: Rng, offline: () => boolean): typeof fetch {
    return async (input, init = {}) => {
      const url = new URL(String(input))
      const sent: Sent = { path: url.pathname + url.search, init }
      const name = `${init.method ?? 'GET'} ${shortPath(url.pathname)}`
      if (offline()) throw lost()
      const events = url.pathname.endsWith('/events')
      const fate = events ? 'arrives' : this.#fate(rng)
      if (fate !== 'arrives') this.#trace.say(device, `${name}: ${fate}`)
      switch (fate) {
        case 'lost':
          throw lost()
        case 'unanswered':
          await this.#deliver(sent, rng, true)
          throw lost()
        case 'late':
          this.#later(sent, rng)
          throw lost()
        case 'repeated':
          this.#later(sent, rng)
          return await this.#deliver(sent, rng, true)
        case 'cut':
          return cutShort(await this.#deliver(sent, rng, true), rng)
        case 'delayed':
          await pause(rng.between(1, 25))
          return await this.#deliver(sent, rng, true)
        case 'arrives': {
          const response = await this.#deliver(sent, rng, !events)
          return events && this.weather !== CALM ? cutShort(response, rng) : response
        }
      }
    }
  }

  /** What no server has answered yet, with how long that takes. */
  unanswered(): string[] {
    return [...this.#unanswered].map(
      ({ what, since }) => `${(performance.now() - since).toFixed(0)} ms ${what}`,
    )
  }

  /** Until what was late has arrived. */
  async quiet(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.all(this.#underWay)
  }

  #fate(rng: Rng): keyof Weather | 'arrives' {
    let at = rng.next()
    for (const [fate, p] of Object.entries(this.weather) as [keyof Weather, number][]) {
      at -= p
      if (at < 0) return fate
    }
    return 'arrives'
  }

  #later(sent: Sent, rng: Rng): void {
    const ms = rng.between(1, 45)
    // The client gave it up; the network has not.
    const { signal: _, ...init } = sent.init
    const arrives = pause(ms)
      .then(() => this.#deliver({ ...sent, init }, rng, true))
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => this.#underWay.delete(arrives))
    this.#underWay.add(arrives)
  }

  /** To one of the servers that are alive. `whole` waits for the whole answer. */
  async #deliver(sent: Sent, rng: Rng, whole: boolean): Promise<Response> {
    const alive = this.#replicas().filter(replica => !replica.dead)
    if (alive.length === 0) throw lost()
    const replica = rng.pick(alive)
    const asked = {
      what: `${replica.name} ${sent.init.method ?? 'GET'} ${sent.path}`,
      since: performance.now(),
    }
    this.#unanswered.add(asked)
    const signal = sent.init.signal ? AbortSignal.any([sent.init.signal, replica.died]) : replica.died
    let response: Response
    try {
      response = await fetch(replica.server.url + sent.path, { ...sent.init, signal })
      if (whole) response = await wholeOf(response)
    } catch (error) {
      if (sent.init.signal?.aborted) throw error
      throw lost(error)
    } finally {
      this.#unanswered.delete(asked)
    }
    if (response.status === 500) {
      const body = await response.clone().text()
      this.#trace.problem(`${sent.init.method} ${sent.path} was answered 500: ${body}`)
    }
    if (sent.init.method === 'POST' && /\/changes(\?|$)/.test(sent.path) && response.ok)
      this.#listen(sent, new Uint8Array(await response.clone().arrayBuffer()))
    return response
  }

  #listen(sent: Sent, answer: Uint8Array): void {
    const { items } = parseAppend(sent.init.body as Uint8Array, { unpack })
    const hashAt = (index: number): string => decodeChange(items[index]!.bytes).hash
    for (const item of decodeSequence(answer)) {
      if ('end' in item) continue
      if ('count' in item) {
        const { index, count, seq } = storedRun.parse(item)
        for (let i = 0; i < count; i++) this.#stored(hashAt(index + i), seq + i)
        continue
      }
      const verdict: AppendVerdict = appendVerdict.parse(item)
      const hash = hashAt(verdict.index)
      if (verdict.status === 'refused') this.said.refused.set(hash, verdict.code)
      else this.#stored(hash, verdict.seq)
    }
  }

  #stored(hash: string, seq: number): void {
    const before = this.said.stored.get(hash)
    if (before !== undefined && before !== seq)
      this.#trace.problem(`the change ${hash} was stored as ${before} and as ${seq}`)
    this.said.stored.set(hash, seq)
  }
}

const lost = (cause?: unknown): TypeError => new TypeError('fetch failed', { cause })

export const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))

const shortPath = (path: string): string => path.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '*')

async function wholeOf(response: Response): Promise<Response> {
  const { status, headers } = response
  const body = await response.arrayBuffer()
  return new Response(status === 304 || status === 204 ? null : body, { status, headers })
}

/** A part of the answer, then the connection breaks. Streams break after a while. */
function cutShort(response: Response, rng: Rng): Response {
  const source = response.body
  if (!source) return response
  let left = rng.between(0, 4_000)
  const reader = source.getReader()
  // An aborted answer says so when it is left, too.
  const leave = () => reader.cancel().catch(() => undefined)
  const timer = setTimeout(() => void leave(), rng.between(5, 400))
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await reader.read()
      if (done || value.length >= left) {
        clearTimeout(timer)
        if (value) controller.enqueue(value.subarray(0, left))
        controller.error(lost())
        void leave()
        return
      }
      left -= value.length
      controller.enqueue(value)
    },
    cancel: () => {
      clearTimeout(timer)
      return leave()
    },
  })
  return new Response(body, { status: response.status, headers: response.headers })
}
