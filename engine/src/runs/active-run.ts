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
  /** Resolves when the run has ended and is stored. */
  get ended(): Promise<void> {
    return this.#done.promise
  }

  view(): Promise<RunView> {
    return this.#parts.show(this.#record, this.#steps)
  }

  event(event: RunEvent): void {
    this.log.event(event)
    this.#steps = afterEvent(this.#steps, event, this.#parts.labels)
    if (event.type === 'step') this.#keep()
    this.#show()
  }

  /** Changes the record; durable when it resolves, and shown at once when the run has ended. */
  async change(change: Partial<RunRecord>): Promise<void> {
    const next = { ...this.#record, ...change }
    this.#steps = change.steps ?? this.#steps
    if (!isOver(next)) {
      this.#record = next
      this.#keep()
      await this.#saved
      return this.#show()
    }
    await this.#saved
    await this.#parts.save(next)
    // Nobody sees an end that a crash could take back.
    this.#record = next
    this.stop()
    this.#parts.publish(await this.view())
  }

  /** Nothing more comes: also when the end could not be stored. */
  stop(): void {
    if (this.#timer) clearTimeout(this.#timer)
    this.#timer = null
    this.#done.resolve()
  }

  #keep(): void {
    // Messages can quote data: they are kept elsewhere.
    this.#record = { ...this.#record, steps: this.#steps.map(step => ({ ...step, message: null })) }
    const record = this.#record
    const saved = this.#saved.then(() => this.#parts.save(record))
    this.#saved = saved
    // The next `change` waits for it and hears of a failure.
    saved.catch(() => undefined)
  }

  /** At most ten times a second, and always what came last. */
  #show(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = null
      if (!isOver(this.#record)) this.view().then(this.#parts.publish).catch(this.#parts.unseen)
    }, SHOW_MS)
  }
}
