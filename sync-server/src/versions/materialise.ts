import { Worker } from 'node:worker_threads'
import type { Mark, MarksInput, Problem } from '@pluto-duck/crdt-model'

export interface MaterialiseInput {
  readonly snapshot: Uint8Array | null
  /** The changes that the snapshot does not hold, in the order of the log. */
  readonly changes: readonly Uint8Array[]
  readonly heads: readonly string[]
  /** The heads of the version to compare with; empty when there is none. */
  readonly parentHeads: readonly string[]
  /** The server's records of the document's changes, by hash: who, when, and whether live. */
  readonly records: MarksInput['records']
}
export interface MaterialiseRequest extends MaterialiseInput {
  readonly id: number
}

export type Materialised =
  | {
      readonly status: 'ok'
      /** Canonical JSON, of which `contentHash` is. */
      readonly definition: string
      readonly contentHash: string
      readonly files: Readonly<Record<string, string>>
      /** The heads without those that others include, sorted. */
      readonly heads: readonly string[]
      /** Whether the parent's changes are all in the past of these heads. */
      readonly knowsParent: boolean
      /** Hashes of the changes since the parent. */
      readonly since: readonly string[]
      /** What met since the parent and somebody has to look at. */
      readonly marks: readonly Mark[]
    }
  | { readonly status: 'invalid'; readonly problems: readonly Problem[] }
  | { readonly status: 'unknown_heads' | 'not_a_pipeline' | 'too_new' }
  | { readonly status: 'failed'; readonly reason: string }

export interface MaterialiseReply {
  readonly id: number
  readonly result: Materialised
}

interface Waiting {
  readonly request: MaterialiseRequest
  readonly settle: (result: Materialised) => void
}

const TIMEOUT_MS = 30_000

/** Reads documents in a worker, one at a time; one that takes longer than 30 s, or kills the worker, is answered `failed`. */
export class Materialiser {
  #worker: Worker | null = null
  #current: Waiting | null = null
  #queue: Promise<unknown> = Promise.resolve()
  #next = 1

  read(input: MaterialiseInput): Promise<Materialised> {
    const turn = this.#queue.then(() => this.#send({ ...input, id: this.#next++ }))
    this.#queue = turn
    return turn
  }

  async close(): Promise<void> {
    await this.#queue
    await this.#worker?.terminate()
    this.#worker = null
  }

  #send(request: MaterialiseRequest): Promise<Materialised> {
    this.#worker ??= this.#start()
    const worker = this.#worker
    return new Promise(resolve => {
      const timer = setTimeout(() => {
        void worker.terminate()
        this.#died(worker, 'it took too long')
      }, TIMEOUT_MS)
      const settle = (result: Materialised): void => {
        clearTimeout(timer)
        this.#current = null
        resolve(result)
      }
      this.#current = { request, settle }
      worker.postMessage(request)
    })
  }

  #start(): Worker {
    const worker = new Worker(new URL('./materialise-worker.ts', import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: 1024 },
      // Automerge's panics are printed by wasm; they may name a document's content and so stay out of the log.
      stdout: true,
      stderr: true,
    })
    worker.on('message', ({ id, result }: MaterialiseReply) => {
      if (this.#current?.request.id === id) this.#current.settle(result)
    })
    worker.on('error', error => this.#died(worker, error.message))
    worker.on('exit', () => this.#died(worker, 'the worker ended'))
    worker.unref()
    return worker
  }

  #died(worker: Worker, reason: string): void {
    if (this.#worker !== worker) return
    this.#worker = null
    this.#current?.settle({ status: 'failed', reason })
  }
}
