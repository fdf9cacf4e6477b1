import { type AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import { LIMITS } from '@pluto-duck/crdt-model/protocol'
import type { Documents, OwnRecord } from '../documents/index.ts'
import { push } from './exchange.ts'
import type { Live } from './live.ts'
import type { SyncNews, SyncOptions } from './options.ts'
import { judge, nextBatch } from './plan.ts'
import type { Standing } from './standing.ts'
import type { Waker } from './waker.ts'

/** Between two pushes while live: what is written quickly travels together. */
const PUSH_GAP_MS = 50
const PUSH_BYTES = LIMITS.pushBytes - 512 * 1024

export interface OutgoingParts {
  readonly options: SyncOptions
  readonly standing: Standing
  readonly live: Live
  readonly waker: Waker
  readonly stop: AbortSignal
  readonly news: (news: SyncNews) => void
}

/** The outbox on its way to the server, a batch at a time. */
export class Outgoing {
  readonly #parts: OutgoingParts
  /** Documents whose refusal may end after a sync; they had their second try. */
  readonly #tried = new Set<string>()
  #batch: number = LIMITS.pushChanges
  #pushedAt = 0

  constructor(parts: OutgoingParts) {
    this.#parts = parts
  }

  /** @param hurry somebody waits for the outcome. */
  async push(hurry: boolean): Promise<void> {
    const { options, standing, live, waker, stop } = this.#parts
    const { workspaceId, client, documents, clock } = options
    const gap = live.streaming && !hurry ? waker.left(this.#pushedAt, PUSH_GAP_MS) : 0
    if (gap > 0) {
      await clock.sleep(gap, stop)
      await live.takeArrived()
    }
    const rows = await this.#rows()
    const [first] = rows
    // What waits is still on its way to the disk.
    if (!first) {
      await waker.sleep(20)
      return
    }
    const started = clock.now()
    // A full batch means that more waits: it goes right behind.
    this.#pushedAt = rows.length < this.#batch ? started : 0
    let answer: Awaited<ReturnType<typeof push>>
    try {
      answer = await push(
        client,
        workspaceId,
        { deviceId: options.deviceId, live: first.live },
        rows.map(row => ({ ...documents.info(row.documentId), hash: row.hash, bytes: row.bytes })),
        stop,
      )
    } catch (thrown) {
      return await this.#refusedWhole(toAppError(thrown), rows)
    }
    this.#batch = nextBatch(this.#batch, clock.now() - started, LIMITS.pushChanges)
    const outcome = judge(rows, answer.verdicts, this.#tried)
    await this.#stored(outcome.stored)
    for (const [documentId, refusal] of outcome.refused) await this.#refuse(documentId, refusal)
    for (const documentId of outcome.again) this.#tried.add(documentId)
    if (outcome.again.size > 0) standing.serverSeq = null
    else if (answer.end) await this.#afterPush(answer.end.seq, answer.end.digest)
  }

  /** Takes what the server has out of the outbox. Its records are stored with the cursor, now if that comes this far. */
  async #stored(stored: readonly OwnRecord[]): Promise<void> {
    const { options, standing } = this.#parts
    const cursor = standing.cursor ?? 0
    for (const { documentId } of stored) this.#tried.delete(documentId)
    // What is not beyond the cursor was read before, with its record.
    const ahead = standing.ahead.with(stored.filter(record => record.seq > cursor))
    const reached = ahead.from(cursor)
    await options.documents.acknowledge(options.workspaceId, stored, {
      records: ahead.upTo(reached),
      reached,
    })
    ahead.drop(reached)
    standing.ahead = ahead
    standing.cursor = reached
  }

  /** The oldest of what waits, as much as one request takes. */
  async #rows(): ReturnType<Documents['outbox']> {
    const { workspaceId, documents } = this.#parts.options
    const rows: Awaited<ReturnType<Documents['outbox']>> = []
    let bytes = 0
    for (const row of await documents.outbox(workspaceId, this.#batch)) {
      bytes += row.bytes.length + 200
      if (rows.length > 0 && bytes > PUSH_BYTES) break
      rows.push(row)
    }
    return rows
  }

  /** A whole push was refused: a smaller one may pass, and at the size of one it is that change's own fault. */
  async #refusedWhole(error: AppError, rows: readonly { readonly documentId: string }[]): Promise<void> {
    const ownFault = error.code === 'request.invalid' || error.code === 'request.too_large'
    if (!ownFault) {
      this.#batch = nextBatch(this.#batch, null, LIMITS.pushChanges)
      throw error
    }
    const [first] = rows
    if (rows.length > 1) this.#batch = Math.max(1, Math.floor(rows.length / 4))
    else if (first) await this.#refuse(first.documentId, { code: 'invalid', reason: error.message })
  }

  async #refuse(documentId: string, refusal: { code: string; reason: string }): Promise<void> {
    const { documents, workspaceId, log } = this.#parts.options
    let draftId: string
    try {
      draftId = await documents.refuse(documentId, refusal)
    } catch (thrown) {
      // What cannot be read stays as it is, and is not sent again.
      if (!documents.unreadable(workspaceId).includes(documentId)) throw thrown
      log('error', 'unsent work cannot be read', { document_id: documentId, code: refusal.code })
      return
    }
    this.#tried.delete(documentId)
    log('warn', 'the server refused an edit; it is kept as a local draft', {
      document_id: documentId,
      draft_id: draftId,
      code: refusal.code,
    })
    this.#parts.news({ kind: 'refused', documentId, draftId })
  }

  /** Live events bring what others wrote meanwhile; only if they don't the log is read. */
  async #afterPush(seq: number, digest: string | null): Promise<void> {
    const { standing, live, waker } = this.#parts
    if (live.streaming && (standing.cursor ?? 0) < seq) {
      // Counted down by what was slept: the time of day may jump.
      for (let left = 300; left > 0 && live.streaming && (standing.cursor ?? 0) < seq; ) {
        left -= (await waker.sleep(left)) ? 20 : left
        await live.takeArrived()
      }
    }
    standing.serverSeq = Math.max(standing.serverSeq ?? 0, seq)
    standing.compare(seq, digest)
  }
}
