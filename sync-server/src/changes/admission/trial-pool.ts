import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { type Parts, together } from './parts.ts'

/** What the worker is asked. `heads` are those before the changes, sorted; `base` is given when the worker asked for it. */
export interface TrialRequest {
  readonly id: number
  readonly kind: 'changes' | 'snapshot'
  readonly document: string
  readonly heads: readonly string[]
  readonly base: Uint8Array | null
  /** Stored changes that may have come since the worker saw the document. */
  readonly untold: Parts
  readonly changes: Parts
}

export type TrialReply =
  | { readonly id: number; readonly status: 'ok'; readonly title: string; readonly bytes?: Uint8Array }
  | { readonly id: number; readonly status: 'needs_base' }
  | { readonly id: number; readonly status: 'failed'; readonly reason: string }

export interface TrialOptions {
  /** Workers, each of which keeps documents of its own; started when there is work for them. Default: one for each core, 8 at most. */
  readonly workers?: number
  /** Documents that a worker keeps loaded. Default 200. */
  readonly keep?: number
  /** Milliseconds after which a batch is given up and its worker killed. Default 30,000: a busy machine is no forgery. */
  readonly timeoutMs?: number
  /**
   * Milliseconds after which other documents stop waiting for this one's worker and take another, which is started for them if
   * need be. Default 1,000.
   */
  readonly slowMs?: number
}

/** Workers beyond the usual number that slow documents may occupy. */
const EXTRA = 4
/** Documents of which it is remembered which worker has them. */
const HOMES = 5_000

/** The reason of a failure by time. */
export const TOO_LONG = 'it took too long'

/** What can be asked about one document. */
export interface Question extends Pick<TrialRequest, 'kind' | 'document' | 'heads'> {
  readonly untold: readonly Uint8Array[]
  readonly changes: readonly Uint8Array[]
}
export type Outcome = Exclude<TrialReply, { status: 'needs_base' }>

/**
 * Workers for trials. A document stays with its worker, which has it loaded; but nobody waits for a worker that is slow with
 * somebody else's document.
 */
export class TrialPool {
  private readonly options: Required<TrialOptions>
  private lanes: Lane[] = []
  /** The worker that has a document, in order of last use. */
  private readonly homes = new Map<string, Lane>()

  constructor(options: TrialOptions) {
    this.options = {
      workers: Math.min(8, availableParallelism()),
      keep: 200,
      timeoutMs: 30_000,
      slowMs: 1_000,
      ...options,
    }
  }

  /** `load` is called when the worker does not have the document. */
  async ask(question: Question, load: () => Promise<Uint8Array>): Promise<Outcome> {
    for (;;) {
      const lane = this.laneOf(question.document)
      if (!(await lane.turn(question.document))) continue
      try {
        let reply = await lane.send(question, null)
        if (reply.status === 'needs_base') reply = await lane.send(question, await load())
        if (reply.status === 'needs_base') throw new Error('the trial asked twice for one document')
        // The worker may be in any state now. Before anybody else gets it.
        if (reply.status === 'failed') lane.kill()
        return reply
      } finally {
        lane.done()
        this.retire(lane)
      }
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.lanes.map(lane => lane.close()))
  }

  private laneOf(document: string): Lane {
    const home = this.homes.get(document)
    const lane = home && !home.slow && this.lanes.includes(home) ? home : this.choose()
    this.homes.delete(document)
    this.homes.set(document, lane)
    const [oldest] = this.homes.keys()
    if (this.homes.size > HOMES && oldest !== undefined) this.homes.delete(oldest)
    return lane
  }

  private choose(): Lane {
    const quick = this.lanes.filter(lane => !lane.slow).sort((a, b) => a.load - b.load)
    const [best] = quick
    if (best && (best.load === 0 || quick.length >= this.options.workers)) return best
    if (this.lanes.length < this.options.workers + EXTRA) {
      const lane = new Lane(this.options)
      this.lanes.push(lane)
      return lane
    }
    return best ?? this.lanes.toSorted((a, b) => a.load - b.load)[0]!
  }

  /** Ends a worker that was started beside slow ones, when it is not needed any more. */
  private retire(lane: Lane): void {
    if (this.lanes.length <= this.options.workers || lane.load > 0) return
    this.lanes = this.lanes.filter(one => one !== lane)
    lane.kill()
  }
}

interface Asked {
  readonly id: number
  readonly settle: (reply: TrialReply) => void
}

/** One worker at a time and one request at a time, so that a death has one cause. */
class Lane {
  /** It has been at one document for long. */
  slow = false
  private readonly options: Required<TrialOptions>
  private worker: Worker | null = null
  /** Resolves when the worker has loaded its program. */
  private started: Promise<Worker> | null = null
  private ready = false
  private current: Asked | null = null
  /** Whose turn it is. */
  private document: string | null = null
  private waiting: { readonly document: string; readonly go: (turn: boolean) => void }[] = []
  private patience: NodeJS.Timeout | undefined
  private nextId = 1

  constructor(options: Required<TrialOptions>) {
    this.options = options
  }

  /** How many have it or wait for it. */
  get load(): number {
    return this.waiting.length + (this.document === null ? 0 : 1)
  }

  /** True when it is this document's turn, until `done`; false when it has to look for another worker. */
  async turn(document: string): Promise<boolean> {
    if (this.document !== null) return await new Promise(go => this.waiting.push({ document, go }))
    this.begin(document)
    return true
  }

  done(): void {
    clearTimeout(this.patience)
    this.slow = false
    this.document = null
    const next = this.waiting.shift()
    if (!next) return
    this.begin(next.document)
    next.go(true)
  }

  kill(): void {
    const { worker } = this
    this.forget()
    // What it says from now on is of no interest; its end is awaited by nobody.
    worker?.removeAllListeners()
    void worker?.terminate()
  }

  async close(): Promise<void> {
    while (this.load > 0) await new Promise(resolve => setTimeout(resolve, 5))
    const { worker } = this
    this.forget()
    worker?.removeAllListeners()
    await worker?.terminate()
  }

  /** Throws when the worker cannot be started: that says nothing of the changes. */
  async send(question: Question, base: Uint8Array | null): Promise<TrialReply> {
    this.started ??= this.start()
    const worker = await this.started
    const id = this.nextId++
    return await new Promise(resolve => {
      const settle = (reply: TrialReply): void => {
        clearTimeout(timer)
        this.current = null
        resolve(reply)
      }
      const timer = setTimeout(() => {
        this.kill()
        settle({ id, status: 'failed', reason: TOO_LONG })
      }, this.options.timeoutMs)
      this.current = { id, settle }
      const request: TrialRequest = {
        ...question,
        id,
        base: base && together([base]).bytes,
        untold: together(question.untold),
        changes: together(question.changes),
      }
      const buffers = [request.base, request.untold.bytes, request.changes.bytes].flatMap(
        one => one?.buffer ?? [],
      )
      worker.postMessage(request, buffers as ArrayBuffer[])
    })
  }

  private begin(document: string): void {
    this.document = document
    this.patience = setTimeout(() => this.sendAway(), this.options.slowMs)
  }

  /** Others than the slow document look for another worker. */
  private sendAway(): void {
    if (!this.ready) {
      // Loading its program is not the document's fault.
      this.patience?.refresh()
      return
    }
    this.slow = true
    const others = this.waiting.filter(one => one.document !== this.document)
    this.waiting = this.waiting.filter(one => one.document === this.document)
    for (const other of others) other.go(false)
  }

  private forget(): void {
    this.ready = false
    this.worker = null
    this.started = null
  }

  private start(): Promise<Worker> {
    const ready = Promise.withResolvers<Worker>()
    const worker = new Worker(new URL('./trial-worker.ts', import.meta.url), {
      workerData: { keep: this.options.keep },
      resourceLimits: { maxOldGenerationSizeMb: 512 },
      stdout: true,
      stderr: true,
    })
    const died = (reason: string): void => {
      ready.reject(new AppError('service.unavailable', `A trial could not be started: ${reason}.`))
      if (this.worker !== worker) return
      this.forget()
      const { current } = this
      current?.settle({ id: current.id, status: 'failed', reason })
    }
    worker.on('message', (reply: TrialReply | 'ready') => {
      if (reply === 'ready') {
        this.ready = true
        ready.resolve(worker)
      } else if (this.current?.id === reply.id) this.current.settle(reply)
    })
    worker.on('error', error => died(error.message))
    worker.on('exit', () => died('its trial ended the worker'))
    // A server that has nothing else to do may end.
    worker.unref()
    this.worker = worker
    return ready.promise
  }
}
