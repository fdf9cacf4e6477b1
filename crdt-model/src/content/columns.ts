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
function fill<T>(
  column: Uint8Array | undefined,
  rows: number,
  out: { [place: number]: T; fill(value: T, from: number, to: number): unknown },
  absent: T,
  read: (reader: ByteReader) => T,
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

/** Numbers that are kept as differences to the one before; -1 where there is none. */
export function differences(column: Uint8Array | undefined, rows: number): Int32Array {
  const out = new Int32Array(rows).fill(-1)
  let [at, value] = [0, 0]
  const reader = new ByteReader(column ?? new Uint8Array(0))
  while (!reader.done && at < rows) {
    const count = reader.sleb()
    if (count > 0) {
      const step = reader.sleb()
      for (const to = Math.min(rows, at + count); at < to; at++) out[at] = value = small(value + step)
    } else if (count < 0)
      for (const to = Math.min(rows, at - count); at < to; at++)
        out[at] = value = small(value + reader.sleb())
    else at = Math.min(rows, at + reader.uleb())
  }
  return out
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

export function strings(column: Uint8Array | undefined, rows: number): (string | null)[] {
  const out = new Array<string | null>(rows)
  fill<string | null>(column, rows, out, null, reader => UTF8.decode(reader.take(reader.uleb())))
  return out
}

/** A byte order mark is a character as any other. */
export const UTF8 = new TextDecoder('utf-8', { ignoreBOM: true })

function small(value: number): number {
  if (value < 0 || value > 0x7fff_ffff) throw new Unreadable('a number is too large')
  return value
}
