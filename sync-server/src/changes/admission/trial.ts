import { type Outcome, TOO_LONG, type TrialOptions, TrialPool, type TrialRequest } from './trial-pool.ts'

/** A document as the trial needs it: where it stands, and its bytes when the worker does not have it. */
export interface TrialDocument {
  readonly id: string
  readonly heads: readonly string[]
  /** A document chunk and change chunks, in an order that `Automerge.load` accepts. */
  readonly load: () => Promise<Uint8Array>
  /** Stored changes that came since its last trial, if it is known that there are no others. Default: none. */
  readonly untold?: readonly Uint8Array[]
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
  private readonly pool: TrialPool

  constructor(options: TrialOptions = {}) {
    this.pool = new TrialPool(options)
  }

  /**
   * They are tried as one batch; when that fails one by one, each on top of those that passed. A stored document that
   * cannot be loaded fails all of them.
   */
  async try(document: TrialDocument, changes: readonly TriedChange[]): Promise<TrialVerdict> {
    const whole = await this.ask(document, 'changes', changes)
    if (whole.status === 'ok') return { title: whole.title, failures: changes.map(() => null) }
    // What failed may have found a worker that was broken before: it is tried again in a new one. Time was not its worker's fault.
    if (changes.length === 1 && whole.reason === TOO_LONG) return { title: null, failures: [whole.reason] }

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
      const one = await this.ask(step, 'changes', [change])
      if (one.status === 'ok') {
        passed.push(change)
        title = one.title
      }
      failures.push(one.status === 'ok' ? null : one.reason)
    }
    return { title, failures }
  }

  /** The document's compacted bytes, proven to load with the same heads; or why they do not. */
  async snapshot(document: TrialDocument): Promise<{ bytes: Uint8Array } | { failed: string }> {
    const reply = await this.ask(document, 'snapshot', [])
    if (reply.status === 'ok' && reply.bytes) return { bytes: reply.bytes }
    return { failed: reply.status === 'failed' ? reply.reason : 'no bytes came back' }
  }

  async close(): Promise<void> {
    await this.pool.close()
  }

  private ask(
    document: TrialDocument,
    kind: TrialRequest['kind'],
    changes: readonly TriedChange[],
  ): Promise<Outcome> {
    const { id, heads, untold = [], load } = document
    return this.pool.ask({ kind, document: id, heads, untold, changes: changes.map(one => one.bytes) }, load)
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
