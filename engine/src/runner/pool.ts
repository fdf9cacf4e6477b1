import { Runner, type RunnerOptions, removeLeftovers } from './runner.ts'

const WARM_AFTER_MS = 3000

/**
 * Hands out runners that have started already. A runner is never used twice: its sandbox is locked for one plan.
 *
 * Keeps one warm spare (about 120 MB), so that a run or a preview begins in milliseconds instead of waiting half a second for a
 * process. It is started 3 s after a runner was taken, or when that one ends.
 */
export class RunnerPool {
  readonly #options: RunnerOptions
  readonly #taken = new Set<Runner>()
  #spare: Runner | null = null
  #closed = false

  constructor(options: RunnerOptions = {}) {
    this.#options = options
    if (options.tempRoot !== undefined) removeLeftovers(options.tempRoot)
  }

  /** Starts the spare now instead of at the first `take`. Where there is no room for one there is none, and `take` starts its own. */
  warm(): void {
    if (this.#closed || this.#spare?.alive) return
    try {
      this.#spare = new Runner(this.#options)
    } catch {
      // Nobody asked for it: a disk or a process without room is told to whoever takes a runner.
      this.#spare = null
    }
  }

  /** A runner that belongs to the caller, who ends it with `kill`. Throws the system's error when none can be started. */
  take(): Runner {
    if (this.#closed) throw new Error('The pool of runners is closed.')
    const runner = this.#spare?.alive ? this.#spare : new Runner(this.#options)
    this.#spare = null
    this.#taken.add(runner)
    // Not at once: starting a process would slow down what was just asked for.
    const later = setTimeout(() => this.warm(), WARM_AFTER_MS).unref()
    runner.exited.then(() => {
      this.#taken.delete(runner)
      clearTimeout(later)
      this.warm()
    })
    return runner
  }

  /** Ends every runner, also those that were handed out. */
  async close(): Promise<void> {
    this.#closed = true
    const all = [...this.#taken, ...(this.#spare ? [this.#spare] : [])]
    this.#spare = null
    await Promise.all(all.map(runner => runner.kill()))
  }
}
