import type { Plan, PlanSource } from '../plan/plan-types.ts'
import { type Failure, type Runner, RunnerError, type RunnerPool } from '../runner/index.ts'
import type { RunSettings } from './run-types.ts'

type Define = (runner: Runner) => Promise<unknown>

/**
 * The runner of one plan: taken from the pool when first needed, told the plan's exact paths, and replaced if it dies. What was
 * defined so far is defined again in its successor, so that a crash costs one attempt of what was running and nothing else.
 */
export class PlanRunner {
  readonly #pool: RunnerPool
  readonly #settings: RunSettings
  readonly #allowedPaths: readonly string[]
  readonly #sources: readonly PlanSource[]
  readonly #definitions = new Map<string, Define>()
  #current: { readonly runner: Runner; readonly ready: Promise<void> } | null = null
  #closed = false

  constructor(pool: RunnerPool, settings: RunSettings, plan: Plan, allowedPaths: readonly string[]) {
    this.#pool = pool
    this.#settings = settings
    this.#sources = plan.sources
    this.#allowedPaths = allowedPaths
  }

  /** A runner in which every relation that was defined so far can be read. */
  async get(): Promise<Runner> {
    if (this.#closed) throw new RunnerError({ class: 'cancelled', message: 'The run has ended.' })
    if (!this.#current?.runner.alive) {
      const runner = this.#pool.take()
      this.#current = { runner, ready: this.#prepare(runner) }
    }
    const { runner, ready } = this.#current
    await ready
    return runner
  }

  /** Defines a relation now and, should the runner be replaced, again. */
  async define(name: string, definition: Define): Promise<void> {
    const runner = await this.get()
    await definition(runner)
    this.#definitions.set(name, definition)
  }

  /** True between the death of a runner and the start of its successor. */
  get isDown(): boolean {
    return this.#current !== null && !this.#current.runner.alive
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#current?.runner.kill()
  }

  async #prepare(runner: Runner): Promise<void> {
    const { limits, parallel } = this.#settings
    await runner.configure({
      limits,
      allowed_paths: [...this.#allowedPaths],
      // One more, so that defining and checking never waits for a long step.
      connections: parallel + 1,
    })
    for (const source of this.#sources) await runner.defineSource(source)
    for (const definition of this.#definitions.values()) await definition(runner)
  }
}

/** Classes of failure that another attempt can mend. */
export const isWorthRetrying = ({ class: cause }: Failure): boolean =>
  cause === 'resource' ||
  cause === 'network' ||
  cause === 'source' ||
  cause === 'timeout' ||
  cause === 'internal'
