import type { RunView, StepProgress } from '../contract/index.ts'
import type { RunEvent } from '../run/index.ts'
import { afterEvent, type TestLabels } from './progress.ts'
import type { RunJournal } from './run-journal.ts'
import { isOver, type RunRecord } from './run-record.ts'

interface Parts {
  readonly log: RunJournal
  readonly labels: TestLabels
  save(record: RunRecord): Promise<void>
  show(record: RunRecord, steps: readonly StepProgress[]): Promise<RunView>
  publish(view: RunView): void
  /** The run could not be shown; it goes on. */
  unseen(error: unknown): void
}

/** How often a view hears of progress. */
const SHOW_MS = 100

/** A run that is going on: its record, what its steps do now, and who has to hear of it. */
export class ActiveRun {
  readonly log: RunJournal
  /** Aborted by whoever cancels it. */
  readonly abort = new AbortController()
  readonly #parts: Parts
  readonly #done = Promise.withResolvers<void>()
  #record: RunRecord
  #steps: readonly StepProgress[]
  #timer: NodeJS.Timeout | null = null
  #saved: Promise<void> = Promise.resolve()

  constructor(record: RunRecord, parts: Parts) {
    this.#record = record
    this.#steps = record.steps
    this.#parts = parts
    this.log = parts.log
  }

  get record(): RunRecord {
    return this.#record
  }
  get steps(): readonly StepProgress[] {
    return this.#steps
  }
  /** Resolves when the run has ended. */
  get ended(): Promise<void> {
    return this.#done.promise
  }

  view(): Promise<RunView> {
    return this.#parts.show(this.#record, this.#steps)
  }

  event(event: RunEvent): void {
    // A step that is still stopping when the run broke off.
    if (isOver(this.#record)) return
    this.log.event(event)
    this.#steps = afterEvent(this.#steps, event, this.#parts.labels)
    if (event.type === 'step') this.#keep()
    this.#show()
  }

  /**
   * Changes the record; durable when it resolves, and shown at once when the run has ended. Rejects when this change was not
   * stored; an earlier one that was not is made good by it.
   */
  async change(change: Partial<RunRecord>): Promise<void> {
    const next = { ...this.#record, ...change }
    this.#steps = change.steps ?? this.#steps
    if (!isOver(next)) {
      this.#record = next
      this.#keep()
      await this.#saved
      return this.#show()
    }
    await this.#saved.catch(() => undefined)
    await this.#parts.save(next)
    // Nobody sees an end that a crash could take back.
    this.#record = next
    this.stop()
    await this.#publish()
  }

  /**
   * Ends the run at once, before that is stored: only for the end that a crash would give it as well. Nothing that comes later
   * changes it.
   */
  async breakOff(end: Partial<RunRecord>): Promise<void> {
    this.#record = { ...this.#record, ...end }
    this.#steps = this.#record.steps
    this.stop()
    await this.#publish()
  }

  /** Stores the record as it is now; rejects when the disk does not take it. */
  async store(): Promise<void> {
    await this.#saved.catch(() => undefined)
    await this.#parts.save(this.#record)
  }

  /** Nothing more comes. */
  stop(): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#timer = null
    this.#done.resolve()
  }

  #keep(): void {
    // Messages can quote data: they are kept elsewhere.
    this.#record = { ...this.#record, steps: this.#steps.map(step => ({ ...step, message: null })) }
    const record = this.#record
    // One that failed is made good by the next.
    const saved = this.#saved.catch(() => undefined).then(() => this.#parts.save(record))
    this.#saved = saved
    // A `change` waits for its own and hears of a failure.
    saved.catch(() => undefined)
  }

  /** At most ten times a second, and always what came last. */
  #show(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      if (!isOver(this.#record)) void this.#publish()
    }, SHOW_MS)
  }

  #publish(): Promise<void> {
    return this.view().then(this.#parts.publish).catch(this.#parts.unseen)
  }
}
