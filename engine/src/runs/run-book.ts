import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Delivery } from '../artifacts/next-delivery.ts'
import type { PipelineEntry, RunView, StepProgress } from '../contract/index.ts'
import type { TopicBus } from '../host/bus.ts'
import { JsonTable, type State } from '../state/index.ts'
import type { ActiveRun } from './active-run.ts'
import type { PrivateMessages } from './private-messages.ts'
import { type RunRecord, runRecord } from './run-record.ts'
import { runViewOf, withMessages } from './run-view.ts'

interface Parts {
  readonly state: State
  readonly bus: TopicBus
  readonly messages: PrivateMessages
  readonly log: { error(context: Record<string, unknown>, message: string): void }
  /** How much of a run was sent. */
  delivery(runId: string): Promise<Delivery | null>
}

/** The runs of this machine: their records, which of them go on now, and how views see them. */
export class RunBook {
  readonly #parts: Parts
  readonly #table: JsonTable<typeof runRecord>
  readonly #active = new Map<string, ActiveRun>()

  constructor(parts: Parts) {
    this.#parts = parts
    this.#table = new JsonTable(parts.state, 'runs', runRecord)
  }

  /** As it is now, or null when this machine made no such run. */
  async get(runId: string): Promise<RunRecord | null> {
    return this.#active.get(runId)?.record ?? (await this.#table.get(runId))
  }

  /** Newest first. Throws `state.corrupt`, which names the run that cannot be read. */
  list(filter: {
    readonly parent?: string
    readonly since?: string
    readonly limit: number
  }): Promise<RunRecord[]> {
    return this.#table.list(filter)
  }

  /** The newest that can be read; the others are logged. */
  readable(limit: number): Promise<RunRecord[]> {
    return this.#table.list({ limit }, error => this.#broken(error))
  }

  /** Durable when it resolves. */
  save(record: RunRecord): Promise<void> {
    return this.#table.put(record.run_id, { parent: record.pipeline_id, at: record.created_at }, record)
  }

  async lastRuns(): Promise<Map<string, PipelineEntry['last_run']>> {
    // One run that cannot be read hides no pipeline.
    const newest = await this.#table.newest(error => this.#broken(error))
    return new Map(
      [...newest].map(([pipelineId, { run_id, state, finished_at }]) => [
        pipelineId,
        { run_id, state, finished_at },
      ]),
    )
  }

  /** Runs that go on. */
  get going(): readonly ActiveRun[] {
    return [...this.#active.values()]
  }
  goingOn(runId: string): ActiveRun | undefined {
    return this.#active.get(runId)
  }
  begun(run: ActiveRun): void {
    this.#active.set(run.record.run_id, run)
  }
  ended(runId: string): void {
    this.#active.delete(runId)
  }

  async view(record: RunRecord): Promise<RunView> {
    const active = this.#active.get(record.run_id)
    if (active) return active.view()
    return this.viewOf(record, withMessages(record.steps, await this.#parts.messages.read(record.run_id)))
  }

  async viewOf(record: RunRecord, steps: readonly StepProgress[]): Promise<RunView> {
    return runViewOf(record, steps, record.remote ? await this.#parts.delivery(record.run_id) : null)
  }

  /** Throws `run.not_found`. */
  async viewById(runId: string): Promise<RunView> {
    const record = await this.get(runId)
    if (!record) throw new AppError('run.not_found', 'There is no such run on this machine.')
    return this.view(record)
  }

  /** Something beside the run changed, how much of it was sent: views hear of it. A run that goes on tells them by itself. */
  async tell(runId: string): Promise<void> {
    try {
      const record = await this.get(runId)
      if (record && !this.#active.has(runId)) this.#parts.bus.publish('run.changed', await this.view(record))
    } catch (error) {
      this.#parts.log.error({ run_id: runId, err: error }, 'a run could not be shown')
    }
  }

  #broken(error: AppError): void {
    this.#parts.log.error({ err: error }, 'a run cannot be read')
  }
}
