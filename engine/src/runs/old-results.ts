import { isoTime } from '../clock.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { RunBook } from './run-book.ts'

interface Parts {
  readonly warehouse: Warehouse
  readonly book: RunBook
  readonly clock: { now(): number }
  readonly log: { error(context: Record<string, unknown>, message: string): void }
}

/** How long a result that nothing points at any more can still be taken again or compared. */
const KEEP_MS = 14 * 24 * 3600 * 1000
const DAY_MS = 24 * 3600 * 1000
/** A machine that makes more runs than this in two weeks keeps the results of the newest. */
const RUNS = 20_000

/**
 * Makes room: results that are older than 14 days go, except what is current, what a run of the last 14 days made or took again,
 * and what somebody reads now. Beside the work, and never a reason for it to fail.
 */
export class OldResults {
  readonly #parts: Parts
  #timer: NodeJS.Timeout | null = null
  #going: Promise<void> = Promise.resolve()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Now, and then once a day. */
  watch(): void {
    const collect = () => {
      this.#going = this.collect().catch(error =>
        this.#parts.log.error({ err: error }, 'old results could not be removed'),
      )
    }
    this.#timer ??= setInterval(collect, DAY_MS).unref()
    collect()
  }

  async collect(): Promise<void> {
    const { warehouse, book, clock } = this.#parts
    const now = clock.now()
    const workspaces = await warehouse.workspaces()
    if (workspaces.length === 0) return
    const recent = await book.list({ since: isoTime(now - KEEP_MS), limit: RUNS })
    const keep = new Set(
      recent.flatMap(run => run.manifest?.steps.flatMap(step => step.fingerprint ?? []) ?? []),
    )
    for (const workspaceId of workspaces)
      await warehouse.collect(workspaceId, { keep, olderThanMs: KEEP_MS, now })
  }

  async close(): Promise<void> {
    if (this.#timer) clearInterval(this.#timer)
    this.#timer = null
    await this.#going
  }
}
