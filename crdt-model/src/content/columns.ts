/** These bytes are none that can be read here. Never leaves this folder. */
export class Unreadable extends Error {}

/** Numbers and pieces out of bytes; throws `Unreadable` at their end. */
export class ByteReader {
  readonly bytes: Uint8Array
  at: number
  readonly end: number

  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.bytes = bytes
    this.at = at
    this.end = end
  }

  get done(): boolean {
    return this.at >= this.end
  }

  byte(): number {
    if (this.at >= this.end) throw new Unreadable('the bytes are cut')
    return this.bytes[this.at++] as number
  }

  uleb(): number {
    let [value, factor] = [0, 1]
    for (;;) {
      const byte = this.byte()
      value += (byte & 0x7f) * factor
      if (byte < 0x80) break
      factor *= 128
    }
    if (value >= Number.MAX_SAFE_INTEGER) throw new Unreadable('a number is too large')
    return value
  }

  sleb(): number {
    let [value, factor] = [0, 1]
    for (;;) {
      const byte = this.byte()
      value += (byte & 0x7f) * factor
      factor *= 128
      if (byte >= 0x80) continue
      if (byte & 0x40) value -= factor
      break
    }
    if (Math.abs(value) >= Number.MAX_SAFE_INTEGER) throw new Unreadable('a number is too large')
    return value
  }

  take(length: number): Uint8Array {
    if (length > this.end - this.at) throw new Unreadable('the bytes are cut')
    this.at += length
    return this.bytes.subarray(this.at - length, this.at)
  }
}

/** Fills `rows` places with the runs of a column; a column that ends, or is not there, is `absent` from there on. */
function fill(
  column: Uint8Array | undefined,
  rows: number,
  out: Int32Array | Uint8Array,
  absent: number,
  read: (reader: ByteReader) => number,
): void {
  let at = 0
  const reader = new ByteReader(column ?? new Uint8Array(0))
  while (!reader.done && at < rows) {
    const count = reader.sleb()
    if (count > 0) {
      const to = Math.min(rows, at + count)
      out.fill(read(reader), at, to)
      at = to
    } else if (count < 0) {
      for (const to = Math.min(rows, at - count); at < to; at++) out[at] = read(reader)
    } else {
      const to = Math.min(rows, at + reader.uleb())
      out.fill(absent, at, to)
      at = to
    }
  }
  out.fill(absent, at, rows)
}

/** How many rows a run-length column of numbers has; above `limit` it is `Unreadable`. */
export function countRows(column: Uint8Array | undefined, limit: number): number {
  let rows = 0
  for (const reader = new ByteReader(column ?? new Uint8Array(0)); !reader.done; ) {
    const count = reader.sleb()
    if (count > 0) reader.uleb()
    else if (count < 0) for (let i = 0; i > count; i--) reader.uleb()
    rows += count === 0 ? reader.uleb() : Math.abs(count)
    if (rows > limit) throw new Unreadable('there are too many operations')
  }
  return rows
}

/** How many rows a column begins with in which it has no value; all of them where there is no column. */
export function countAbsent(column: Uint8Array | undefined): number {
  if (!column) return Number.POSITIVE_INFINITY
  const reader = new ByteReader(column)
  return reader.done ? Number.POSITIVE_INFINITY : reader.sleb() === 0 ? reader.uleb() : 0
}

/** Numbers that fit 31 bits; -1 where there is none. */
export function numbers(column: Uint8Array | undefined, rows: number): Int32Array {
  const out = new Int32Array(rows)
  fill(column, rows, out, -1, reader => small(reader.uleb()))
  return out
}

/** 1 where a column of numbers has one above 0. */
export function some(column: Uint8Array | undefined, rows: number): Uint8Array {
  const out = new Uint8Array(rows)
  fill(column, rows, out, 0, reader => (reader.uleb() > 0 ? 1 : 0))
  return out
}

/** Numbers that are kept as differences to the one before, read as far as they are asked for; -1 where there is none. */
export class Differences {
  readonly #reader: ByteReader
  readonly #out: Int32Array
  /** Rows that are read. */
  #read = 0
  #value = 0
  /** What is left of the run that was begun: above 0 of equal steps, below 0 of one step each. */
  #left = 0
  #step = 0

  constructor(column: Uint8Array | undefined, rows: number) {
    this.#reader = new ByteReader(column ?? new Uint8Array(0))
    this.#out = new Int32Array(rows).fill(-1)
  }

  at(row: number): number {
    if (row >= this.#read) this.#readTo(row + 1)
    return this.#out[row] as number
  }

  all(): Int32Array {
    this.#readTo(this.#out.length)
    return this.#out
  }

  #readTo(rows: number): void {
    const reader = this.#reader
    const out = this.#out
    const end = Math.min(rows, out.length)
    let [at, value, left, step] = [this.#read, this.#value, this.#left, this.#step]
    while (at < end) {
      if (left === 0) {
        if (reader.done) break
        left = reader.sleb()
        if (left > 0) step = reader.sleb()
        else if (left === 0) {
          at = Math.min(out.length, at + reader.uleb())
          continue
        }
      }
      if (left > 0) {
        left--
        value += step
      } else {
        left++
        value += reader.sleb()
      }
      if (value < 0 || value > 0x7fff_ffff) throw new Unreadable('a number is too large')
      out[at++] = value
    }
    this.#read = Math.max(at, end)
    this.#value = value
    this.#left = left
    this.#step = step
  }
}

/** 0 and 1: the lengths of runs by turns, the first of 0. */
export function booleans(column: Uint8Array | undefined, rows: number): Uint8Array {
  const out = new Uint8Array(rows)
  let [at, value] = [0, 0]
  for (const reader = new ByteReader(column ?? new Uint8Array(0)); !reader.done && at < rows; value ^= 1) {
    const to = Math.min(rows, at + reader.uleb())
    if (value) out.fill(1, at, to)
    at = to
  }
  return out
}

/** The strings of a column by row; those of rows that have none are absent. */
export function strings(column: Uint8Array | undefined, rows: number): Map<number, string> {
  const out = new Map<number, string>()
  const reader = new ByteReader(column ?? new Uint8Array(0))
  const read = (): string => UTF8.decode(reader.take(reader.uleb()))
  for (let at = 0; !reader.done && at < rows; ) {
    const count = reader.sleb()
    if (count > 0) {
      const text = read()
      for (const to = Math.min(rows, at + count); at < to; at++) out.set(at, text)
    } else if (count < 0) for (const to = Math.min(rows, at - count); at < to; at++) out.set(at, read())
    else at += reader.uleb()
  }
  return out
}

/** A byte order mark is a character as any other. */
export const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true })

function small(value: number): number {
  if (value < 0 || value > 0x7fff_ffff) throw new Unreadable('a number is too large')
  return value
}
