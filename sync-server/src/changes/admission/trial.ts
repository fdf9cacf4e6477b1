import { Worker } from 'node:worker_threads'

/** What the worker is asked. `heads` are those before the changes, sorted; `base` is given when the worker asked for it. */
export interface TrialRequest {
  readonly id: number
  readonly kind: 'changes' | 'snapshot'
  readonly document: string
  readonly heads: readonly string[]
  readonly base: Uint8Array | null
  readonly changes: readonly Uint8Array[]
}

export type TrialReply =
  | { readonly id: number; readonly status: 'ok'; readonly title: string; readonly bytes?: Uint8Array }
  | { readonly id: number; readonly status: 'needs_base' }
  | { readonly id: number; readonly status: 'failed'; readonly reason: string }

export interface TrialOptions {
  /** Workers, each of which keeps documents of its own. Default 1. */
  readonly workers?: number
  /** Documents that a worker keeps loaded. Default 200. */
  readonly keep?: number
  /** Milliseconds after which a batch is given up and its worker killed. Default 30,000: a busy machine is no forgery. */
  readonly timeoutMs?: number
}

/** A document as the trial needs it: where it stands, and its bytes when the worker does not have it. */
export interface TrialDocument {
  readonly id: string
  readonly heads: readonly string[]
  /** A document chunk and change chunks, in an order that `Automerge.load` accepts. */
  readonly load: () => Promise<Uint8Array>
}

export interface TrialVerdict {
  /** The document's name after those that passed; null when none did. */
  readonly title: string | null
  /** For each change null, or why it failed. */
  readonly failures: readonly (string | null)[]
}

/**
 * Tries changes in a worker that may die. Nothing that a change does there (panic, endless loop, memory) reaches the server.
 */
export class Trial {
  private readonly lanes: Lane[]

  constructor(options: TrialOptions = {}) {
    const { workers = 1, keep = 200, timeoutMs = 30_000 } = options
    this.lanes = Array.from({ length: workers }, () => new Lane(keep, timeoutMs))
  }

  /**
   * They are tried as one batch; when that fails one by one, each on top of those that passed. A stored document that
   * cannot be loaded fails all of them.
   */
  async try(document: TrialDocument, changes: readonly TriedChange[]): Promise<TrialVerdict> {
    const lane = this.laneOf(document.id)
    const whole = await lane.ask(document, 'changes', changes)
    if (whole.status === 'ok') return { title: whole.title, failures: changes.map(() => null) }
    // The worker may be in any state now.
    lane.kill()
    if (changes.length === 1) return { title: null, failures: [whole.reason] }

    const passed: TriedChange[] = []
    const failures: (string | null)[] = []
    let title: string | null = null
    for (const change of changes) {
      if (change.deps.some(hash => changes.some((other, i) => other.hash === hash && failures[i]))) {
        failures.push(DEPENDS_ON_FAILED)
        continue
      }
      const soFar = [...passed]
      const step: TrialDocument = {
        id: document.id,
        heads: headsAfter(document.heads, soFar),
        load: async () => Buffer.concat([await document.load(), ...soFar.map(one => one.bytes)]),
      }
      const one = await lane.ask(step, 'changes', [change])
      if (one.status === 'ok') {
        passed.push(change)
        title = one.title
      } else lane.kill()
      failures.push(one.status === 'ok' ? null : one.reason)
    }
    return { title, failures }
  }

  /** The document's compacted bytes, proven to load with the same heads; or why they do not. */
  async snapshot(document: TrialDocument): Promise<{ bytes: Uint8Array } | { failed: string }> {
    const lane = this.laneOf(document.id)
    const reply = await lane.ask(document, 'snapshot', [])
    if (reply.status === 'ok' && reply.bytes) return { bytes: reply.bytes }
    lane.kill()
    return { failed: reply.status === 'failed' ? reply.reason : 'no bytes came back' }
  }

  async close(): Promise<void> {
    await Promise.all(this.lanes.map(lane => lane.close()))
  }

  private laneOf(document: string): Lane {
    let sum = 0
    for (let i = 0; i < document.length; i++) sum = (sum * 31 + document.charCodeAt(i)) >>> 0
    return this.lanes[sum % this.lanes.length]!
  }
}

/** The failure of a change which was not tried because one that it depends on failed. */
export const DEPENDS_ON_FAILED = 'it depends on a change that failed'

/** What the trial has to know of a change. */
export interface TriedChange {
  readonly hash: string
  readonly deps: readonly string[]
  readonly bytes: Uint8Array
}

/** The heads after these changes, sorted. */
export function headsAfter(heads: readonly string[], changes: readonly TriedChange[]): string[] {
  const after = new Set(heads)
  for (const change of changes) {
    for (const hash of change.deps) after.delete(hash)
    after.add(change.hash)
  }
  return [...after].sort()
}

type Outcome = Exclude<TrialReply, { status: 'needs_base' }>
interface Asked {
  readonly request: TrialRequest
  readonly settle: (reply: TrialReply) => void
}

/** One worker at a time and one request at a time, so that a death has one cause. */
class Lane {
  private readonly keep: number
  private readonly timeoutMs: number
  private worker: Worker | null = null
  private current: Asked | null = null
  private queue: Promise<unknown> = Promise.resolve()
  private nextId = 1

  constructor(keep: number, timeoutMs: number) {
    this.keep = keep
    this.timeoutMs = timeoutMs
  }

  ask(
    document: TrialDocument,
    kind: TrialRequest['kind'],
    changes: readonly TriedChange[],
  ): Promise<Outcome> {
    const turn = this.queue.then(() => this.askNow(document, kind, changes))
    this.queue = turn.catch(() => {})
    return turn
  }

  kill(): void {
    const { worker } = this
    this.worker = null
    // What it says from now on is of no interest; its end is awaited by nobody.
    worker?.removeAllListeners()
    void worker?.terminate()
  }

  async close(): Promise<void> {
    await this.queue
    const { worker } = this
    this.worker = null
    worker?.removeAllListeners()
    await worker?.terminate()
  }

  private async askNow(
    document: TrialDocument,
    kind: TrialRequest['kind'],
    changes: readonly TriedChange[],
  ): Promise<Outcome> {
    const request = {
      kind,
      document: document.id,
      heads: document.heads,
      changes: changes.map(change => change.bytes),
    }
    const first = await this.send({ ...request, id: this.nextId++, base: null })
    if (first.status !== 'needs_base') return first
    const base = await document.load()
    const second = await this.send({ ...request, id: this.nextId++, base })
    if (second.status === 'needs_base') throw new Error('the trial asked twice for one document')
    return second
  }

  private send(request: TrialRequest): Promise<TrialReply> {
    const worker = this.worker ?? this.start()
    return new Promise(resolve => {
      const settle = (reply: TrialReply): void => {
        clearTimeout(timer)
        this.current = null
        resolve(reply)
      }
      const timer = setTimeout(() => {
        this.kill()
        settle({ id: request.id, status: 'failed', reason: 'it took too long' })
      }, this.timeoutMs)
      this.current = { request, settle }
      worker.postMessage(request)
    })
  }

  private start(): Worker {
    const worker = new Worker(new URL('./trial-worker.ts', import.meta.url), {
      workerData: { keep: this.keep },
      resourceLimits: { maxOldGenerationSizeMb: 512 },
      stdout: true,
      stderr: true,
    })
    const died = (reason: string): void => {
      if (this.worker !== worker) return
      this.worker = null
      const { current } = this
      current?.settle({ id: current.request.id, status: 'failed', reason })
    }
    worker.on('message', (reply: TrialReply) => {
      if (this.current?.request.id === reply.id) this.current.settle(reply)
    })
    worker.on('error', error => died(error.message))
    worker.on('exit', () => died('its trial ended the worker'))
    // A server that has nothing else to do may end.
    worker.unref()
    this.worker = worker
    return worker
  }
}
