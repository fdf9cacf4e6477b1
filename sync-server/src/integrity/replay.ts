import { Worker } from 'node:worker_threads'
import type { VersionContent } from '../versions/at-heads.ts'

/** A change as its row says that it is. */
export interface LoggedChange {
  readonly seq: number
  readonly hash: string
  /** False for a change of the base that a draft builds on. */
  readonly own: boolean
  readonly bytes: Uint8Array
}

/** Why a change is not in the document that was rebuilt. */
export interface BadChange {
  readonly seq: number
  readonly hash: string
  readonly problem: /** Its bytes are not those that its hash is of: the storage lost them. */
    | 'damaged'
    /** The bytes are what was stored, but break a rule of admission. */
    | 'inadmissible'
    /** It depends on a change that is not there. */
    | 'behind'
  readonly reason: string
}

export type ReplayRequest = { readonly id: number } & ReplayStep
export type ReplayStep =
  /** Forgets the document before. With `structure` every change is admitted again; else Automerge alone decides. */
  | { readonly kind: 'begin'; readonly draft: boolean; readonly structure: boolean }
  | { readonly kind: 'changes'; readonly changes: readonly LoggedChange[] }
  /** Whether compacted bytes are the document as it stands now. */
  | { readonly kind: 'snapshot'; readonly bytes: Uint8Array }
  /** All is there: the proof that what is saved loads again. The versions are asked for after it. */
  | { readonly kind: 'end'; readonly compact: boolean }
  /** The content there, without what the changes of `without` wrote. */
  | { readonly kind: 'version'; readonly heads: readonly string[]; readonly without?: readonly string[] }

export interface Replayed {
  readonly begin: null
  readonly changes: readonly BadChange[]
  /** Null when it is; else why not. */
  readonly snapshot: string | null
  readonly end: {
    readonly heads: readonly string[]
    readonly title: string
    readonly bytes: Uint8Array | null
  }
  readonly version: VersionContent
}

export type ReplayReply =
  | { readonly id: number; readonly status: 'ok'; readonly value: Replayed[ReplayStep['kind']] }
  | { readonly id: number; readonly status: 'failed'; readonly reason: string }

export type Outcome<K extends ReplayStep['kind']> =
  | { readonly ok: true; readonly value: Replayed[K] }
  | { readonly ok: false; readonly reason: string }

const TIMEOUT_MS = 120_000

/**
 * Rebuilds documents from their changes in a worker that may die, one document at a time. After a step that failed the document
 * is gone: begin the next one. Nothing of what a document does there (panic, endless loop, memory) reaches this process.
 */
export class Replayer {
  readonly #timeoutMs: number
  #worker: Worker | null = null
  #waiting: { id: number; settle: (reply: ReplayReply) => void } | null = null
  #next = 1

  /** @param timeoutMs for each step. Default two minutes. */
  constructor(timeoutMs = TIMEOUT_MS) {
    this.#timeoutMs = timeoutMs
  }

  async step<K extends ReplayStep['kind']>(step: Extract<ReplayStep, { kind: K }>): Promise<Outcome<K>> {
    const worker = this.#worker ?? this.#start()
    const id = this.#next++
    const reply = await new Promise<ReplayReply>(resolve => {
      const timer = setTimeout(() => {
        this.#kill()
        settle({ id, status: 'failed', reason: 'it took too long' })
      }, this.#timeoutMs)
      const settle = (answer: ReplayReply): void => {
        clearTimeout(timer)
        this.#waiting = null
        resolve(answer)
      }
      this.#waiting = { id, settle }
      worker.postMessage({ ...step, id })
    })
    if (reply.status === 'ok') return { ok: true, value: reply.value as Replayed[K] }
    // The worker may be in any state now.
    this.#kill()
    return { ok: false, reason: reply.reason }
  }

  async close(): Promise<void> {
    const worker = this.#worker
    this.#worker = null
    worker?.removeAllListeners()
    await worker?.terminate()
  }

  #kill(): void {
    const worker = this.#worker
    this.#worker = null
    worker?.removeAllListeners()
    void worker?.terminate()
  }

  #start(): Worker {
    const worker = new Worker(new URL('./replay-worker.ts', import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: 1024 },
      // Automerge's panics are printed by wasm; they may name a document's content.
      stdout: true,
      stderr: true,
    })
    const died = (reason: string): void => {
      if (this.#worker !== worker) return
      this.#worker = null
      this.#waiting?.settle({ id: this.#waiting.id, status: 'failed', reason })
    }
    worker.on('message', (reply: ReplayReply) => {
      if (this.#waiting?.id === reply.id) this.#waiting.settle(reply)
    })
    worker.on('error', error => died(error.message))
    worker.on('exit', () => died('the worker ended'))
    worker.unref()
    this.#worker = worker
    return worker
  }
}
