import { createHash } from 'node:crypto'

/** Numbers of a seed: the same on every machine and in every run. */
export class Rng {
  #state: number

  constructor(...of: readonly (string | number)[]) {
    this.#state = createHash('sha256').update(of.join(':')).digest().readUInt32LE(0)
  }

  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let t = this.#state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  /** A whole number from 0 to `below` - 1. */
  below(below: number): number {
    return Math.floor(this.next() * below)
  }

  chance(share: number): boolean {
    return this.next() < share
  }

  pick<T>(of: readonly T[]): T {
    if (of.length === 0) throw new RangeError('nothing to pick from')
    return of[this.below(of.length)] as T
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256))
  }

  hex(length: number): string {
    return Buffer.from(this.bytes(length)).toString('hex')
  }

  /** A UUID v7. */
  id(): string {
    const bytes = this.bytes(16)
    bytes[0] = 1
    bytes[6] = 0x70 | ((bytes[6] as number) & 15)
    bytes[8] = 0x80 | ((bytes[8] as number) & 63)
    return Buffer.from(bytes)
      .toString('hex')
      .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
  }
}
