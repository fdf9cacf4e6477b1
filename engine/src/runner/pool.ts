import { Runner, type RunnerOptions } from './runner.ts'

/**
 * Hands out runners that have started already. A runner is never used twice: its sandbox is locked for one plan.
 *
 * Keeps one warm spare (about 60 MB), so that a run or a preview begins in milliseconds instead of waiting for a process.
 */
export class RunnerPool {
  readonly #options: RunnerOptions
  readonly #taken = new Set<Runner>()
  #spare: Runner | null = null
  #closed = false

  constructor(options: RunnerOptions = {}) {
    this.#options = options
  }

  /** Starts the spare now instead of at the first `take`. */
  warm(): void {
    if (!this.#closed && !this.#spare?.alive) this.#spare = new Runner(this.#options)
  }

  /** A runner that belongs to the caller, who ends it with `kill`. Its spare is started once it is ready. */
  take(): Runner {
    if (this.#closed) throw new Error('The pool of runners is closed.')
    const runner = this.#spare?.alive ? this.#spare : new Runner(this.#options)
    this.#spare = null
    this.#taken.add(runner)
    runner.exited.then(() => this.#taken.delete(runner))
    runner.ready.then(
      () => this.warm(),
      () => undefined,
    )
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
