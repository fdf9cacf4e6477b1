import type { State } from '../state/index.ts'
import { type OwnRecord, putOwnRecords, removeFromOutbox } from './rows.ts'

/**
 * What the server has not acknowledged, by document, and what it has told of the rest: its records are only counted here.
 */
export class Outbox {
  readonly #state: State
  /** Unacknowledged changes: document -> hash -> ord. */
  readonly #waiting = new Map<string, Map<string, number>>()
  /** Hashes of what was written live and has no record here yet, by document. */
  readonly #beside = new Map<string, Set<string>>()
  /** How many records of each document are stored. */
  readonly #recorded = new Map<string, number>()

  constructor(state: State) {
    this.#state = state
  }

  /** Reads how many records there are. */
  async open(): Promise<void> {
    for (const { document_id, stored } of await this.#state.read.all<{ document_id: string; stored: number }>(
      'select document_id, count(*) as stored from records group by document_id',
    ))
      this.#recorded.set(document_id, stored)
  }

  /** A document's unacknowledged changes, hash -> ord: to be changed with the rows. */
  of(documentId: string): Map<string, number> {
    const map = this.#waiting.get(documentId) ?? new Map<string, number>()
    this.#waiting.set(documentId, map)
    return map
  }

  size(documentId: string): number {
    return this.#waiting.get(documentId)?.size ?? 0
  }

  /** Every document that something waits of, or did. */
  sizes(): Iterable<readonly [documentId: string, size: number]> {
    return [...this.#waiting].map(([documentId, hashes]) => [documentId, hashes.size] as const)
  }

  drop(documentId: string): void {
    this.#waiting.delete(documentId)
  }

  /**
   * How many of the server's records of a document are here, and how many changes were written live and wait for theirs: marks
   * differ only when one of these, or the heads, do.
   */
  recorded(documentId: string): { stored: number; live: number } {
    return {
      stored: this.#recorded.get(documentId) ?? 0,
      live: this.#beside.get(documentId)?.size ?? 0,
    }
  }

  /** Records of a document were stored by another way than `applyRemote`. */
  noteRecords(documentId: string, count: number): void {
    this.#recorded.set(documentId, (this.#recorded.get(documentId) ?? 0) + count)
  }

  dropRecords(documentId: string): void {
    this.#recorded.delete(documentId)
  }

  async recount(documentId: string): Promise<void> {
    const row = await this.#state.read.first<{ stored: number }>(
      'select count(*) as stored from records where document_id = $1',
      documentId,
    )
    this.#recorded.set(documentId, row?.stored ?? 0)
  }

  /** The server has stored these: they leave the outbox, and the cursor and the records that it steps over are stored with that. */
  async acknowledge(
    workspaceId: string,
    stored: readonly { readonly documentId: string; readonly hash: string }[],
    { records, reached }: { readonly records: readonly OwnRecord[]; readonly reached: number },
  ): Promise<void> {
    const ords = stored.flatMap(({ documentId, hash }) => this.of(documentId).get(hash) ?? [])
    await this.#state.write(async tx => {
      await removeFromOutbox(tx, ords)
      await putOwnRecords(tx, records)
      await tx.run('update workspaces set cursor = $1 where workspace_id = $2', reached, workspaceId)
    })
    for (const { documentId, hash } of stored) this.of(documentId).delete(hash)
    this.recordedOwn(records)
  }

  /** The records of own changes are stored. */
  recordedOwn(records: readonly OwnRecord[]): void {
    for (const { documentId, hash } of records) {
      this.hasRecord(documentId, hash)
      this.noteRecords(documentId, 1)
    }
  }

  /** What waits and can be read, oldest first: the changes of one run of equal `live`, at most so many. */
  async rows(
    workspaceId: string,
    limit: number,
    baseOf: (documentId: string) => string | null,
    held: readonly string[],
  ): Promise<{ documentId: string; hash: string; ord: number; live: boolean; bytes: Uint8Array }[]> {
    const unreadable = held.map(id => `'${id}'`)
    const except = unreadable.length > 0 ? `and document_id not in (${unreadable.join()})` : ''
    const stored = await this.#state.read.all<{ ord: number; live: boolean; bytes: Uint8Array }>(
      `select o.ord, o.live, c.bytes from (
         select ord, live from outbox where workspace_id = $1 ${except} order by ord limit $2
       ) o join changes c on c.ord = o.ord order by o.ord`,
      workspaceId,
      limit,
    )
    // Whose they are is known here: reading two texts of each row costs more than all else of it.
    const places = new Map<number, { readonly documentId: string; readonly hash: string }>()
    for (const [documentId, hashes] of this.#waiting)
      for (const [hash, ord] of hashes) places.set(ord, { documentId, hash })
    // Acknowledged while this read: no longer there.
    const rows = stored.flatMap(row => {
      const place = places.get(row.ord)
      return place ? [{ ...row, ...place }] : []
    })
    const pushed = new Set<string>()
    const end = rows.findIndex(row => {
      pushed.add(row.documentId)
      // What a draft builds on has to be stored before it.
      const base = baseOf(row.documentId)
      return row.live !== rows[0]?.live || (base !== null && pushed.has(base))
    })
    return end < 0 ? rows : rows.slice(0, end)
  }

  /**
   * Hashes of what was written live and has no record here yet: this device's own until the server tells it, the others' until
   * it is stored. Without it two people who type beside each other would see a mark for as long as that takes.
   */
  writtenLive(documentId: string): ReadonlySet<string> {
    return this.#beside.get(documentId) ?? new Set()
  }

  noteLive(documentId: string, fresh: readonly { readonly hash: string }[]): void {
    const noted = this.#beside.get(documentId) ?? new Set<string>()
    for (const { hash } of fresh) noted.add(hash)
    this.#beside.set(documentId, noted)
  }

  /** The record of a change is here. */
  hasRecord(documentId: string, hash: string): void {
    this.#beside.get(documentId)?.delete(hash)
  }

  /** The connection was lost: what waits was not written beside the others, whatever was thought then. */
  async unlive(workspaceId: string, documentIds: ReadonlySet<string>): Promise<void> {
    for (const documentId of this.#beside.keys())
      if (documentIds.has(documentId)) this.#beside.delete(documentId)
    if (![...documentIds].some(documentId => this.size(documentId) > 0)) return
    await this.#state.write(tx =>
      tx.run('update outbox set live = false where workspace_id = $1 and live', workspaceId),
    )
  }
}
