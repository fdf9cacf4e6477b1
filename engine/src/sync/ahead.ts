import type { OwnRecord } from '../documents/index.ts'

/**
 * Own changes whose record came with the answer to a push while something of others stands before them in the log: the log is
 * read up to the first of them, and they are stepped over. Only in memory: after a restart the log gives them again.
 */
export class Ahead {
  readonly #records = new Map<number, OwnRecord>()
  /** Numbers of the records, in order. */
  #seqs: number[] = []

  /** These and those of `records`; this one stays as it is, for when the others cannot be stored. */
  with(records: readonly OwnRecord[]): Ahead {
    const next = new Ahead()
    for (const record of [...this.#records.values(), ...records]) next.#records.set(record.seq, record)
    next.#seqs = [...next.#records.keys()].sort((a, b) => a - b)
    return next
  }

  has(seq: number): boolean {
    return this.#records.has(seq)
  }

  /** The number that is reached from `seq` by what follows it here without a gap. */
  from(seq: number): number {
    let reached = seq
    while (this.#records.has(reached + 1)) reached++
    return reached
  }

  /** How many numbers lie between `seq` and the first record behind it; null when there is none. */
  gapAfter(seq: number): number | null {
    const next = this.#seqs.find(one => one > seq)
    return next === undefined ? null : next - seq - 1
  }

  /** The records up to `seq`, in order. */
  upTo(seq: number): OwnRecord[] {
    return this.#seqs.filter(one => one <= seq).flatMap(one => this.#records.get(one) ?? [])
  }

  /** They are stored with the cursor. */
  drop(upTo: number): void {
    for (const seq of this.#seqs) if (seq <= upTo) this.#records.delete(seq)
    this.#seqs = this.#seqs.filter(one => one > upTo)
  }

  /** The log was put back, or everything comes anew: these numbers mean nothing any more. */
  clear(): void {
    this.#records.clear()
    this.#seqs = []
  }
}
