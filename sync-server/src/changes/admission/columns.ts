import { refuse } from './limits.ts'

/**
 * Readers of the column encodings of a change: LEB128 numbers, run-length, delta, boolean.
 *
 * They accept the shortest form of each number only, and never make more values than they were told to expect, so the
 * work is bounded by the number of operations and not by what a run's header claims.
 */

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export class ByteReader {
  at: number
  private readonly bytes: Uint8Array
  private readonly end: number

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.bytes = bytes
    this.at = start
    this.end = end
  }

  get done(): boolean {
    return this.at >= this.end
  }

  byte(): number {
    if (this.at >= this.end) refuse('invalid', 'ends in the middle of a value')
    return this.bytes[this.at++]!
  }

  take(length: number): Uint8Array {
    if (length > this.end - this.at) refuse('invalid', 'ends in the middle of a value')
    const part = this.bytes.subarray(this.at, this.at + length)
    this.at += length
    return part
  }

  /** An unsigned number up to 2^53 - 1. */
  uleb(): number {
    let value = this.byte()
    if (value < 0x80) return value
    value &= 0x7f
    for (let scale = 128; ; scale *= 128) {
      const next = this.byte()
      value += (next & 0x7f) * scale
      if (value > Number.MAX_SAFE_INTEGER) refuse('invalid', 'a number above 2^53')
      if (next < 0x80) {
        if (next === 0) refuse('invalid', 'a number that is not in its shortest form')
        return value
      }
    }
  }

  /** A signed number within 2^53. */
  sleb(): number {
    let next = this.byte()
    if (next < 0x80) return next & 0x40 ? next - 0x80 : next
    let value = BigInt(next & 0x7f)
    for (let shift = 7n; ; shift += 7n) {
      const previous = next
      next = this.byte()
      if (shift > 63n) refuse('invalid', 'a number above 2^63')
      value |= BigInt(next & 0x7f) << shift
      if (next < 0x80) {
        const redundant = (next === 0 && !(previous & 0x40)) || (next === 0x7f && (previous & 0x40) !== 0)
        if (redundant) refuse('invalid', 'a number that is not in its shortest form')
        const number = Number(next & 0x40 ? value - (1n << (shift + 7n)) : value)
        if (!Number.isSafeInteger(number)) refuse('invalid', 'a number above 2^53')
        return number
      }
    }
  }

  text(maxBytes: number): string {
    const length = this.uleb()
    if (length > maxBytes) refuse('quota', `a name or message is at most ${maxBytes} bytes`)
    return utf8(this.take(length))
  }
}

export function utf8(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes)
  } catch {
    return refuse('invalid', 'text that is not UTF-8')
  }
}

/** How many values an unsigned run-length column holds; stops counting beyond `max`. */
export function countRle(reader: ByteReader, max: number): number {
  let count = 0
  while (!reader.done) {
    const run = reader.sleb()
    if (run > 0) {
      reader.uleb()
      count += run
    } else if (run < 0) {
      for (let i = 0; i < -run && !reader.done; i++) reader.uleb()
      count -= run
    } else {
      count += reader.uleb()
    }
    if (count > max) return count
  }
  return count
}

/**
 * Exactly `count` values; a null is given by `absent`.
 *
 * Only the form that Automerge writes: two equal values make a run, different ones a literal, neighbours that could be one are
 * one, and nothing but nulls is no column. Another form comes back as other bytes with another hash.
 */
export function readRle<T extends number | string | null>(
  reader: ByteReader,
  count: number,
  read: () => T,
  absent: T,
): T[] {
  const values: T[] = []
  let before: 'start' | 'nulls' | 'literal' | 'run' = 'start'
  let hasValue = false
  const push = (value: T): void => {
    if (before !== 'start' && before !== 'nulls' && values[values.length - 1] === value) notShortest()
    values.push(value)
  }
  while (!reader.done) {
    const run = reader.sleb()
    const length = run === 0 ? reader.uleb() : Math.abs(run)
    if (length === 0 || values.length + length > count) refuse('invalid', 'a column of another length')
    if (run === 0) {
      if (before === 'nulls') notShortest()
      for (let i = 0; i < length; i++) values.push(absent)
      before = 'nulls'
      continue
    }
    hasValue = true
    if (run > 0) {
      if (run === 1) notShortest()
      const value = read()
      push(value)
      for (let i = 1; i < length; i++) values.push(value)
      before = 'run'
    } else {
      if (before === 'literal') notShortest()
      for (let i = 0; i < length; i++) {
        push(read())
        before = 'literal'
      }
    }
  }
  if (values.length !== count || !hasValue) refuse('invalid', 'a column of another length')
  return values
}

const notShortest = (): never => refuse('invalid', 'a column that is not in its shortest form')

/** Exactly `count` values, each stored as its difference to the one before; a null is given by -1. */
export function readDelta(reader: ByteReader, count: number): number[] {
  const values = readRle<number | null>(reader, count, () => reader.sleb(), null)
  let absolute = 0
  return values.map(delta => {
    if (delta === null) return -1
    absolute += delta
    if (absolute < 0 || absolute > Number.MAX_SAFE_INTEGER)
      refuse('invalid', 'an operation number out of range')
    return absolute
  })
}

/** Exactly `count` booleans, stored as the lengths of alternating runs that begin with false. */
export function readBooleans(reader: ByteReader, count: number): boolean[] {
  const values: boolean[] = []
  let value = false
  for (let first = true; !reader.done; first = false) {
    const run = reader.uleb()
    if ((run === 0 && !first) || values.length + run > count) refuse('invalid', 'a column of another length')
    for (let i = 0; i < run; i++) values.push(value)
    value = !value
  }
  if (values.length !== count) refuse('invalid', 'a column of another length')
  return values
}
