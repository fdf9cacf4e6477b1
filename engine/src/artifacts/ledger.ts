import { hash, timestamp } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'
import type { OutputOf } from '../contract/index.ts'
import { JsonTable, type State } from '../state/index.ts'

const entry = z.strictObject({
  at: timestamp,
  run_id: z.string().nullable(),
  what: z.string(),
  name: z.string(),
  destination: z.string(),
  bytes: z.number().int().nonnegative(),
  sha256: hash.nullable(),
})
export type LedgerEntry = z.infer<typeof entry>

/**
 * Every byte of a run that left this machine. An entry is durable before its bytes are sent, so that a crash can leave one too
 * many but never one too few; sending the same again is one entry.
 */
export class Ledger {
  readonly #table: JsonTable<typeof entry>

  constructor(state: State) {
    this.#table = new JsonTable(state, 'ledger', entry)
  }

  /** @param key names what is sent: the same key again is the same bytes again. */
  async write(key: string, sent: LedgerEntry): Promise<void> {
    if (await this.#table.get(key)) return
    await this.#table.put(key, { parent: sent.run_id ?? '', at: sent.at }, sent)
  }

  /** Newest first. */
  async list(): Promise<OutputOf<'ledger.list'>> {
    return { entries: await this.#table.list({ limit: 100_000 }) }
  }
}
