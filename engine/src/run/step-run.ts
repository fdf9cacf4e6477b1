import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Plan, PlanStep, PlanTest } from '../plan/plan-types.ts'
import { type Failure, type Progress, type Runner, RunnerError } from '../runner/index.ts'
import type { Column, ResultRecord, TestOutcome } from '../warehouse/index.ts'
import { asFailure, withoutPrivate } from './failure.ts'
import { isWorthRetrying, type PlanRunner } from './plan-runner.ts'
import type { BareEvent, StepState } from './run-events.ts'
import type { RunParts, StepOutcome } from './run-types.ts'

interface Made {
  readonly rows: number | null
  readonly bytes: number | null
  readonly tests: readonly TestOutcome[]
}

/** One step of one run: waits for nothing, knows no other step. */
export class StepRun {
  readonly step: PlanStep
  readonly #plan: Plan
  readonly #parts: RunParts
  readonly #emit: (event: BareEvent) => void
  readonly #staged: string
  /** Where each test keeps failing rows. */
  readonly #failing: ReadonlyMap<string, string>
  #attempt = 0
  /** The one that the last attempt used. */
  #runner: Runner | null = null
  #started = 0
  columns: readonly Column[] = []
  /** The view's SQL with its params written out; null for a table. */
  viewSql: string | null = null

  private constructor(
    plan: Plan,
    step: PlanStep,
    parts: RunParts,
    emit: (event: BareEvent) => void,
    staged: string,
  ) {
    this.step = step
    this.#plan = plan
    this.#parts = parts
    this.#emit = emit
    this.#staged = staged
    const folder = join(parts.privateDir, plan.run_id)
    this.#failing = new Map(
      step.tests.map((test, i) => [test.test_id, join(folder, `${step.name}.${fileName(test, i)}.parquet`)]),
    )
  }

  static async prepare(
    plan: Plan,
    step: PlanStep,
    parts: RunParts,
    emit: (event: BareEvent) => void,
  ): Promise<StepRun> {
    const staged = await parts.warehouse.stagePath(plan.workspace_id, step.fingerprint)
    const run = new StepRun(plan, step, parts, emit, staged)
    if (step.tests.length > 0) await mkdir(join(parts.privateDir, plan.run_id), { recursive: true })
    run.#say('waiting')
    return run
  }

  /** Files that the runner may write for this step. */
  get outputs(): string[] {
    return [this.#staged, ...this.#failing.values()]
  }

  skip(because: string | null): StepOutcome {
    const state = because === null ? 'cancelled' : 'skipped'
    const reason = because === null ? 'The run was cancelled.' : `It reads ${because}, which has no result.`
    this.#say(state, { reason })
    return this.#outcome(state, { rows: null, bytes: null, tests: [] })
  }

  /** Ends a step that could not begin. */
  give(failure: Failure): StepOutcome {
    return this.#fail(failure, [])
  }

  async run(runner: PlanRunner): Promise<StepOutcome> {
    this.#started = this.#parts.clock.now()
    try {
      const known = await this.#known(runner)
      if (known) return known
    } catch (error) {
      return this.#fail(asFailure(error), [])
    }
    const attempts = this.step.retry?.attempts ?? 1
    let freeRetry = true
    for (;;) {
      this.#attempt += 1
      this.#say('running')
      const tests: TestOutcome[] = []
      try {
        const made = await this.#make(runner, tests)
        // A view has no file to reuse: it is defined and tested anew, and shows the same rows.
        const state = this.step.reuse && this.viewSql !== null ? 'reused' : 'done'
        this.#say(state, { rows: made.rows ?? undefined, bytes: made.bytes ?? undefined })
        return this.#outcome(state, made)
      } catch (error) {
        const failure = asFailure(error)
        await this.#parts.warehouse.discard(this.#staged)
        // Another step may have brought the runner down: a step is not blamed for the first crash it sees.
        const crashed = freeRetry && (this.#runner ? !this.#runner.alive : runner.isDown)
        const again = isWorthRetrying(failure) && (this.#attempt < attempts || crashed)
        if (!again || this.#parts.signal?.aborted) return this.#fail(failure, tests)
        if (this.#attempt >= attempts) freeRetry = false
        this.#say('waiting', { reason: `Trying again after: ${failure.message}`, private: failure.private })
        if (!(await this.#pause())) return this.#fail(CANCELLED, tests)
      }
    }
  }

  async cleanUp(): Promise<void> {
    await this.#parts.warehouse.discard(this.#staged)
  }

  /** Takes a result that is there already. Also one that the plan did not know of: it is the same by its name. */
  async #known(runner: PlanRunner): Promise<StepOutcome | null> {
    if (this.step.materialize === 'view' || !this.step.reuse) return null
    const { warehouse } = this.#parts
    const record = await warehouse.result(this.#plan.workspace_id, this.step.fingerprint)
    if (!record) return null
    await this.#defineResult(runner, record.columns, this.#resultPath())
    for (const test of record.tests) this.#sayTest(test, 0)
    this.#say('reused', { rows: record.rows, bytes: record.bytes })
    return this.#outcome('reused', record)
  }

  async #make(plan: PlanRunner, tests: TestOutcome[]): Promise<Made> {
    this.#runner = null
    const runner = await plan.get()
    this.#runner = runner
    if (this.step.materialize === 'view') {
      const { name, sql } = this.step
      const ask = { name, sql, params: this.#plan.params }
      this.viewSql = await runner.defineView(ask, this.#limits())
      await plan.define(name, child => child.defineView(ask))
      const described = await runner.describe({ sql: `FROM "${name}"`, params: {} }, this.#limits())
      this.columns = described.columns
      await this.#test(runner, tests)
      return { rows: null, bytes: null, tests }
    }
    const made = await runner.materialize(
      { sql: this.step.sql, params: this.#plan.params, path: this.#staged },
      { ...this.#limits(), onProgress: progress => this.#progress(progress) },
    )
    this.columns = made.columns
    if (this.step.tests.length > 0) {
      await this.#defineResult(plan, made.columns, this.#staged)
      await this.#test(runner, tests)
    }
    const record = await this.#commit(made.rows, tests)
    await this.#defineResult(plan, made.columns, this.#resultPath())
    return { rows: record.rows, bytes: record.bytes, tests }
  }

  #commit(rows: number, tests: readonly TestOutcome[]): Promise<ResultRecord> {
    return this.#parts.warehouse.commit(this.#plan.workspace_id, this.#staged, {
      fingerprint: this.step.fingerprint,
      columns: this.columns,
      rows,
      run_id: this.#plan.run_id,
      step: this.step.name,
      created_at: new Date(this.#parts.clock.now()).toISOString(),
      tests,
    })
  }

  /** Runs every test, also after one failed: people want to see all. Throws when one of severity `error` did not pass. */
  async #test(runner: Runner, outcomes: TestOutcome[]): Promise<void> {
    let broken: Failure | null = null
    for (const test of this.step.tests) {
      const started = this.#parts.clock.now()
      const outcome = await this.#testOne(runner, test)
      const failure = 'class' in outcome ? outcome : null
      const recorded: TestOutcome = {
        test_id: test.test_id,
        type: test.type,
        severity: test.severity,
        state: failure ? 'error' : outcome === NONE ? 'passed' : 'failed',
        failing_rows: failure ? 0 : (outcome as Failing).failing_rows,
      }
      outcomes.push(recorded)
      this.#sayTest(recorded, this.#parts.clock.now() - started, failure)
      if (test.severity === 'error' && recorded.state !== 'passed')
        broken ??= failure ?? {
          class: 'data_test',
          message: `The test ${test.type} of ${this.step.name} found ${recorded.failing_rows} failing rows.`,
        }
    }
    if (broken) throw new RunnerError(broken)
  }

  async #testOne(runner: Runner, test: PlanTest): Promise<Failing | Failure> {
    const keep = this.#parts.settings.keep_failing_rows
    try {
      const found = await runner.test(
        {
          sql: test.sql,
          params: this.#plan.params,
          path: keep > 0 ? (this.#failing.get(test.test_id) ?? null) : null,
          keep,
        },
        this.#limits(),
      )
      return found.failing_rows === 0 ? NONE : found
    } catch (error) {
      const failure = asFailure(error)
      // A run that is being cancelled, or a runner that died, says nothing about the test.
      if (!runner.alive || failure.class === 'cancelled') throw error
      return failure
    }
  }

  #defineResult(runner: PlanRunner, columns: readonly Column[], path: string): Promise<void> {
    this.columns = columns
    const ask = { schema: null, name: this.step.name, path, columns: [...columns] }
    return runner.define(this.step.name, child => child.defineResult(ask))
  }

  #resultPath(): string {
    return this.#parts.warehouse.resultPath(this.#plan.workspace_id, this.step.fingerprint)
  }

  #limits() {
    const seconds = this.step.timeout_s ?? this.#parts.settings.step_timeout_s
    return { signal: this.#parts.signal, timeoutMs: seconds * 1000 }
  }

  /** Waits before the next attempt, twice as long each time; false when the run was cancelled meanwhile. */
  async #pause(): Promise<boolean> {
    const base = (this.step.retry?.backoff_s ?? 0) * 1000
    const wait = base * 2 ** (this.#attempt - 1)
    try {
      await sleep(Math.min(wait, MAX_BACKOFF_MS), undefined, {
        ...(this.#parts.signal ? { signal: this.#parts.signal } : {}),
      })
      return true
    } catch {
      return false
    }
  }

  #fail(failure: Failure, tests: readonly TestOutcome[]): StepOutcome {
    const state = failure.class === 'cancelled' ? 'cancelled' : 'failed'
    this.#say(state, { error: withoutPrivate(failure), private: failure.private })
    return { ...this.#outcome(state, { rows: null, bytes: null, tests }), error: failure }
  }

  #outcome(state: StepOutcome['state'], made: Made): StepOutcome {
    return {
      step_id: this.step.step_id,
      name: this.step.name,
      state,
      fingerprint: this.step.fingerprint,
      attempts: this.#attempt,
      duration_ms: this.#duration(),
      columns: this.columns,
      rows: made.rows,
      bytes: made.bytes,
      tests: made.tests,
    }
  }

  #duration(): number {
    return this.#started === 0 ? 0 : this.#parts.clock.now() - this.#started
  }

  #progress({ percent, rows }: Progress): void {
    const left = percent > 0 && percent < 100 ? (this.#duration() * (100 - percent)) / percent : undefined
    this.#emit({
      type: 'progress',
      step_id: this.step.step_id,
      step: this.step.name,
      percent,
      rows,
      ...(left === undefined ? {} : { left_ms: Math.round(left) }),
    })
  }

  #say(state: StepState, more: { [key: string]: unknown } = {}): void {
    const given = Object.fromEntries(Object.entries(more).filter(([, value]) => value !== undefined))
    const ended = state !== 'waiting' && state !== 'running' && this.#started > 0
    this.#emit({
      type: 'step',
      step_id: this.step.step_id,
      step: this.step.name,
      state,
      attempt: this.#attempt,
      ...(ended ? { duration_ms: this.#duration() } : {}),
      ...given,
    })
  }

  #sayTest(outcome: TestOutcome, duration_ms: number, failure: Failure | null = null): void {
    this.#emit({
      type: 'test',
      step_id: this.step.step_id,
      step: this.step.name,
      test_id: outcome.test_id,
      test: outcome.type,
      severity: outcome.severity,
      state: outcome.state,
      failing_rows: outcome.failing_rows,
      duration_ms,
      ...(failure ? { error: withoutPrivate(failure) } : {}),
      ...(failure?.private === undefined ? {} : { private: failure.private }),
    })
  }
}

interface Failing {
  readonly failing_rows: number
}
const NONE: Failing = { failing_rows: 0 }
const CANCELLED: Failure = { class: 'cancelled', message: 'The run was cancelled.' }
const MAX_BACKOFF_MS = 3_600_000

/** A test's id as part of a file's name; its place keeps two odd ids apart. */
const fileName = (test: PlanTest, index: number): string =>
  /^[A-Za-z0-9_-]{1,64}$/.test(test.test_id) ? test.test_id : `${test.type}-${index}`
