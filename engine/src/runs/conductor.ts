import { version as duckdbVersion } from '@duckdb/node-api'
import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Deliveries } from '../artifacts/deliveries.ts'
import { type Clock, isoTime } from '../clock.ts'
import type { ParsedInputOf, RunView, StepProgress } from '../contract/index.ts'
import { assertGranted } from '../grants/grants.ts'
import type { TopicBus } from '../host/bus.ts'
import { type PlanResult, testLabel } from '../plan/index.ts'
import { asFailure } from '../run/index.ts'
import { RunnerError, type RunnerPool } from '../runner/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import { ActiveRun } from './active-run.ts'
import { carryOut } from './carry-out.ts'
import type { Inspection } from './inspection.ts'
import type { Preparation, Target } from './preparation.ts'
import type { PrivateMessages } from './private-messages.ts'
import type { RunBook } from './run-book.ts'
import { RunJournal } from './run-journal.ts'
import { isOver, type OccurrenceHeld, type RunRecord } from './run-record.ts'
import { Turns } from './turns.ts'

interface Parts {
  readonly book: RunBook
  readonly inspection: Inspection
  readonly preparation: Preparation
  readonly deliveries: Deliveries
  readonly warehouse: Warehouse
  readonly pool: RunnerPool
  readonly messages: PrivateMessages
  readonly dataFolder: string
  readonly deviceId: string
  readonly bus: TopicBus
  readonly clock: Clock
  readonly log: { error(context: Record<string, unknown>, message: string): void }
  who(): { readonly user_id: string; readonly name: string }
  remote(workspaceId: string): boolean
}

/** Runs that are carried out at the same time; more wait as `pending`. */
const AT_ONCE = 2
/** How often the log of a run that goes on is sent. */
const LOG_MS = 2_000
/** Pauses while the disk does not take the end of a run. */
const FIRST_PAUSE_MS = 500
const LONGEST_PAUSE_MS = 60_000

/** Begins runs, carries them out a few at a time, and sees that each of them ends in the book, whatever happens. */
export class Conductor {
  readonly #parts: Parts
  readonly #starting = new Map<string, Promise<RunView>>()
  readonly #turns = new Turns(AT_ONCE)
  readonly #closed = new AbortController()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /**
   * Begins a run; answers when it is recorded on this machine. The same id again answers the same run. Throws `grant.required`,
   * `compile.failed`, `request.id_taken` and what else keeps it from beginning: then there is no run.
   */
  async start(input: ParsedInputOf<'run.start'>, occurrence: OccurrenceHeld | null): Promise<RunView> {
    const known = await this.#parts.book.get(input.run_id)
    if (known) {
      if (known.pipeline_id === input.pipeline_id) return this.#parts.book.view(known)
      throw new AppError('request.id_taken', 'There is another run with this id.')
    }
    const starting = this.#starting.get(input.run_id)
    if (starting) return starting
    const started = this.#begin(input, occurrence).finally(() => this.#starting.delete(input.run_id))
    this.#starting.set(input.run_id, started)
    return started
  }

  /** Answers when the run has ended. */
  async cancel(runId: string): Promise<RunView> {
    const active = this.#parts.book.goingOn(runId)
    active?.abort.abort()
    await active?.ended
    return this.#parts.book.viewById(runId)
  }

  /** Runs among these that a crash left unended become failed. */
  async endBroken(records: readonly RunRecord[]): Promise<void> {
    for (const record of records) {
      if (isOver(record) || this.#parts.book.goingOn(record.run_id)) continue
      this.#tryLog(record.run_id, () => {
        const journal = this.#journal(record)
        try {
          journal.say('error', 'The program ended while this run was going on.', { cause: 'internal' })
        } finally {
          journal.close()
        }
      })
      await this.#parts.book.save({ ...record, ...this.#brokenOff(record) })
    }
  }

  /** Cancels what runs and waits for it; begins nothing more. */
  async close(): Promise<void> {
    this.#closed.abort()
    const { going } = this.#parts.book
    for (const run of going) run.abort.abort()
    await Promise.allSettled(going.map(run => run.ended))
  }

  async #begin(input: ParsedInputOf<'run.start'>, occurrence: OccurrenceHeld | null): Promise<RunView> {
    if (this.#closed.signal.aborted) throw new AppError('service.unavailable', 'The program is ending.')
    const { inspection, preparation, book, bus, log } = this.#parts
    const prepared = await inspection.prepare(input.pipeline_id, input.version, input.params)
    assertGranted(prepared.missing)
    const planned = await preparation.plan(prepared, {
      run_id: input.run_id,
      select: input.select,
      full: input.full,
    })
    const record = this.#newRecord(input, occurrence, prepared.target, planned)
    const journal = await this.#record(record)
    const run = new ActiveRun(record, {
      log: journal,
      labels: labelsOf(prepared.target.definition),
      save: changed => book.save(changed),
      show: (changed, steps) => book.viewOf(changed, steps),
      publish: view => bus.publish('run.changed', view),
      unseen: error => log.error({ run_id: record.run_id, err: error }, 'a run could not be shown'),
    })
    book.begun(run)
    if (record.remote) this.#parts.deliveries.kick(record.run_id)
    this.#seeThrough(run, planned, prepared.target.definition).catch(err =>
      log.error({ run_id: record.run_id, err }, 'the end of a run was not seen to'),
    )
    return run.view()
  }

  /** Begins a run's log, its delivery and its record, which comes last: without it there is no run. */
  async #record(record: RunRecord): Promise<RunJournal> {
    let journal: RunJournal | null = null
    try {
      journal = this.#journal(record)
      if (record.remote) await this.#parts.deliveries.begin(record)
      await this.#parts.book.save(record)
      return journal
    } catch (error) {
      this.#tryLog(record.run_id, () => journal?.close())
      this.#parts.deliveries.forget(record.run_id)
      throw error instanceof AppError ? error : new RunnerError(asFailure(error), error)
    }
  }

  /** Carries a run out, and sees that it ends: as it ended, or as broken off. */
  async #seeThrough(run: ActiveRun, planned: PlanResult, definition: PipelineDefinition): Promise<void> {
    const { run_id, remote } = run.record
    const { deliveries, log, book } = this.#parts
    try {
      await this.#carryOut(run, planned, definition)
    } catch (err) {
      log.error({ run_id, err }, 'a run broke off')
      // A step that waits for its next attempt waits no more.
      run.abort.abort()
      this.#tryLog(run_id, () => run.log.say('error', 'The run broke off.', { cause: 'internal' }))
      await run.breakOff(this.#brokenOff(run.record))
      if (remote) deliveries.kick(run_id)
      await this.#storeEnd(run)
    } finally {
      this.#tryLog(run_id, () => run.log.close())
      book.ended(run_id)
      run.stop()
      if (remote) deliveries.kick(run_id)
    }
  }

  /** Until the disk takes it or the program ends: the next start gives a run without an end the same one. */
  async #storeEnd(run: ActiveRun): Promise<void> {
    const { clock, log } = this.#parts
    const { run_id } = run.record
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        return await run.store()
      } catch (err) {
        if (this.#closed.signal.aborted) return
        log.error({ run_id, err }, 'the end of a run could not be stored; it is tried again')
        await clock.sleep(pause, this.#closed.signal)
      }
    }
  }

  /** A log that takes nothing more keeps no run from ending. */
  #tryLog(run_id: string, write: () => void): void {
    try {
      write()
    } catch (err) {
      this.#parts.log.error({ run_id, err }, 'the log of a run could not be written')
    }
  }

  async #carryOut(run: ActiveRun, planned: PlanResult, definition: PipelineDefinition): Promise<void> {
    const { run_id } = run.record
    const { dataFolder, clock, warehouse, pool, messages, deliveries, log } = this.#parts
    // A run may wait long for its turn: what it will reuse has to be there then.
    const { steps, inputs } = planned.plan
    const used = [...steps, ...inputs].map(one => one.fingerprint)
    const release = warehouse.lease(run.record.workspace_id, used)
    const telling = setInterval(() => run.record.remote && deliveries.kick(run_id), LOG_MS)
    try {
      await this.#turns.take(run.abort.signal)
      await carryOut(run, planned, definition, {
        dataFolder,
        clock,
        warehouse,
        pool,
        messages,
        duckdb: duckdbVersion(),
        // What DuckDB says can quote data.
        unfinished: error =>
          log.error(
            {
              run_id,
              cause: asFailure(error).class,
              ...(error instanceof RunnerError ? {} : { err: error }),
            },
            'the report or a snapshot of a run could not be made',
          ),
        outgoing: (record, files) => deliveries.add(record, files),
      })
    } finally {
      clearInterval(telling)
      release()
      this.#turns.leave()
    }
  }

  #newRecord(
    input: ParsedInputOf<'run.start'>,
    occurrence: OccurrenceHeld | null,
    target: Target,
    planned: PlanResult,
  ): RunRecord {
    return {
      format: 'pluto-run/1',
      run_id: input.run_id,
      workspace_id: target.workspaceId,
      pipeline_id: input.pipeline_id,
      pipeline: target.pipelineName,
      version: target.version,
      heads: [...target.heads],
      trigger: occurrence ? 'schedule' : 'manual',
      occurrence,
      state: 'pending',
      cause: null,
      failed_step: null,
      run_by: { ...this.#parts.who() },
      device_id: this.#parts.deviceId,
      created_at: isoTime(this.#parts.clock.now()),
      started_at: null,
      finished_at: null,
      steps: planned.steps.map(step => ({
        step_id: step.step_id,
        name: step.name,
        state: step.action === 'skip' ? 'skipped' : 'waiting',
        percent: null,
        rows: null,
        started_at: null,
        duration_ms: null,
        cause: null,
        message: null,
        reason: step.reason.words,
        tests: [],
      })),
      has_report: false,
      manifest: null,
      remote: this.#parts.remote(target.workspaceId),
    }
  }

  /** What becomes of a run that cannot go on. */
  #brokenOff(record: RunRecord): Partial<RunRecord> {
    const steps = record.steps.map(step => ({ ...step, ...afterCrash(step.state) }))
    const failed_step = steps.find(step => step.state === 'failed')?.name ?? null
    const finished_at = isoTime(this.#parts.clock.now())
    return { state: 'failed', cause: 'internal', failed_step, finished_at, steps }
  }

  #journal(record: RunRecord): RunJournal {
    const { dataFolder, clock, bus } = this.#parts
    const { run_id } = record
    return new RunJournal(
      dataFolder,
      record,
      () => clock.now(),
      lines => bus.publish('run.log', { run_id, lines }),
    )
  }
}

const afterCrash = (state: StepProgress['state']): Partial<RunRecord['steps'][number]> => {
  if (state === 'running' || state === 'testing') return { state: 'failed', cause: 'internal' }
  return state === 'waiting' ? { state: 'skipped' } : {}
}

const labelsOf = (definition: PipelineDefinition): Map<string, string> =>
  new Map(definition.steps.flatMap(step => step.tests.map(test => [test.id, testLabel(test)] as const)))
