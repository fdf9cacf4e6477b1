import { sha256 } from '@noble/hashes/sha2.js'
import { AppError } from '../errors/index.ts'
import { toHex } from './hex.ts'

/**
 * A bundle: a run of Automerge changes as columns, from which exactly the same bytes come back. What can be derived is left out (magic,
 * checksum, lengths, hashes of changes in the bundle), what repeats lies side by side, so that it compresses: a keystroke of
 * 110 bytes becomes about 5. A bundle knows nothing of what changes mean; whoever unpacks one checks the changes as any others.
 *
 * Only plain change chunks (type 1) can be in one; a deflated one (type 2) travels by itself.
 *
 * Layout, all numbers LEB128: version 1, number of changes, then streams, each with its length before it, in this order:
 *   actors    for each: length (1 to 64), bytes
 *   deps      for each change: number of dependencies, for each: how many changes back it stands in the bundle, 0 for a hash
 *   hashes    32 bytes for each 0 in deps
 *   author    place of the change's actor in actors
 *   seq       signed: actor's number, less the one after the actor's change before it in the bundle (less 1 at first)
 *   start     signed: first op's number, less the one after that of the change before it
 *   time      signed: seconds, less those of the change before it
 *   messages  length of each message
 *   text      the messages' bytes
 *   others    number of other actors, places
 *   shapes    number of columns, for each: specification, length
 *   tails     number of bytes behind the columns, and these
 *   columns   number of specifications; for each, in order: specification, length, and the data of all changes one behind the other
 */
const VERSION = 1
const MAGIC = [0x85, 0x6f, 0x4a, 0x83] as const
const CHANGE = 1
const HASH = 32
const MAX_ACTOR = 64

export interface BundledChange {
  readonly bytes: Uint8Array
  /** Hex. */
  readonly hash: string
}

interface Parsed {
  readonly deps: readonly Uint8Array[]
  readonly actor: Uint8Array
  readonly seq: number
  readonly start: number
  readonly time: number
  readonly message: Uint8Array
  readonly others: readonly Uint8Array[]
  readonly columns: readonly (readonly [spec: number, data: Uint8Array])[]
  readonly tail: Uint8Array
}

/** The changes as one bundle, or null when one is no plain change in its shortest form: then they travel as they are. */
export function encodeBundle(changes: readonly BundledChange[]): Uint8Array | null {
  try {
    return writeBundle(
      changes.map(parseChange),
      changes.map(change => change.hash),
    )
  } catch (error) {
    if (error instanceof AppError) return null
    throw error
  }
}

export interface BundleLimits {
  readonly changes: number
  /** Of all changes together. */
  readonly bytes: number
  /** A faster SHA-256 than the one that runs everywhere. */
  readonly sha256?: (bytes: Uint8Array) => Uint8Array
}

/** The changes of a bundle, with their hashes. `request.invalid` for what is none, `request.too_large` above a limit. */
export function decodeBundle(
  bundle: Uint8Array,
  limits: BundleLimits,
): { bytes: Uint8Array<ArrayBuffer>; hash: string }[] {
  const sha = limits.sha256 ?? sha256
  const reader = new Reader(bundle)
  if (reader.uleb() !== VERSION) throw broken()
  const count = reader.uleb()
  if (count > limits.changes) throw tooLarge()
  const stream = (): Reader => new Reader(reader.take(reader.uleb()))
  const actorStream = stream()
  const [deps, hashes, author, seq, start, time, messages, text, others, shapes, tails] = Array.from(
    { length: 11 },
    stream,
  ) as [Reader, Reader, Reader, Reader, Reader, Reader, Reader, Reader, Reader, Reader, Reader]
  const columnStream = stream()
  if (!reader.done) throw broken()
  const actors: Uint8Array[] = []
  while (!actorStream.done) {
    const length = actorStream.uleb()
    if (length > MAX_ACTOR) throw broken()
    actors.push(actorStream.take(length))
  }
  const data = new Map<number, Reader>()
  while (!columnStream.done) {
    const spec = columnStream.uleb()
    data.set(spec, new Reader(columnStream.take(columnStream.uleb())))
  }
  const actorAt = (place: number): Uint8Array => {
    const actor = actors[place]
    if (!actor) throw broken()
    return actor
  }

  const out: { bytes: Uint8Array<ArrayBuffer>; hash: string }[] = []
  const raw: Uint8Array[] = []
  const body = new Writer()
  const parts: Uint8Array[] = []
  const seqs = new Map<number, number>()
  let [lastStart, lastTime, total] = [0, 0, 0]
  for (let i = 0; i < count; i++) {
    body.clear()
    const depCount = deps.uleb()
    body.uleb(depCount)
    for (let d = 0; d < depCount; d++) {
      const back = deps.uleb()
      const hash = back === 0 ? hashes.take(HASH) : raw[i - back]
      if (!hash) throw broken()
      body.bytes(hash)
    }
    const place = author.uleb()
    const actor = actorAt(place)
    body.uleb(actor.length)
    body.bytes(actor)
    const number = seq.sleb() + (seqs.get(place) ?? 0) + 1
    seqs.set(place, number)
    lastStart += start.sleb() + 1
    lastTime += time.sleb()
    if (number < 0 || lastStart < 0) throw broken()
    body.uleb(number)
    body.uleb(lastStart)
    body.sleb(lastTime)
    const length = messages.uleb()
    body.uleb(length)
    body.bytes(text.take(length))
    const otherCount = others.uleb()
    body.uleb(otherCount)
    for (let o = 0; o < otherCount; o++) {
      const other = actorAt(others.uleb())
      body.uleb(other.length)
      body.bytes(other)
    }
    const columnCount = shapes.uleb()
    body.uleb(columnCount)
    parts.length = 0
    for (let c = 0; c < columnCount; c++) {
      const spec = shapes.uleb()
      const size = shapes.uleb()
      body.uleb(spec)
      body.uleb(size)
      const column = data.get(spec)
      if (!column) throw broken()
      parts.push(column.take(size))
    }
    for (const part of parts) body.bytes(part)
    body.bytes(tails.take(tails.uleb()))
    total += body.length
    if (total > limits.bytes) throw tooLarge()

    const change = chunkOf(body.view())
    const hash = sha(change.subarray(8))
    change.set(hash.subarray(0, 4), 4)
    raw.push(hash)
    out.push({ bytes: change, hash: toHex(hash) })
  }
  const streams = [
    deps,
    hashes,
    author,
    seq,
    start,
    time,
    messages,
    text,
    others,
    shapes,
    tails,
    ...data.values(),
  ]
  if (streams.some(one => !one.done)) throw broken()
  return out
}

/** A change's chunk with this body; its checksum is left for when the hash is known. */
function chunkOf(body: Uint8Array): Uint8Array<ArrayBuffer> {
  let head = 10
  for (let rest = body.length; rest >= 128; rest = Math.floor(rest / 128)) head++
  const chunk = new Uint8Array(head + body.length)
  chunk.set(MAGIC)
  chunk[8] = CHANGE
  let [at, rest] = [9, body.length]
  for (; rest >= 128; rest = Math.floor(rest / 128)) chunk[at++] = (rest % 128) + 128
  chunk[at] = rest
  chunk.set(body, head)
  return chunk
}

function parseChange({ bytes, hash }: BundledChange): Parsed {
  const chunk = new Reader(bytes)
  for (const magic of MAGIC) if (chunk.byte() !== magic) throw broken()
  if (toHex(chunk.take(4)) !== hash.slice(0, 8)) throw broken()
  if (chunk.byte() !== CHANGE) throw broken()
  const body = new Reader(chunk.take(chunk.uleb()))
  if (!chunk.done) throw broken()
  const sized = (): Uint8Array => body.take(body.uleb())
  const actorId = (): Uint8Array => {
    const actor = sized()
    if (actor.length > MAX_ACTOR) throw broken()
    return actor
  }
  const deps = Array.from({ length: body.count(HASH) }, () => body.take(HASH))
  const actor = actorId()
  const [seq, start, time] = [body.uleb(), body.uleb(), body.sleb()]
  const message = sized()
  const others = Array.from({ length: body.count(1) }, actorId)
  const shapes = Array.from({ length: body.count(2) }, () => [body.uleb(), body.uleb()] as const)
  const columns = shapes.map(([spec, size]) => [spec, body.take(size)] as const)
  return { deps, actor, seq, start, time, message, others, columns, tail: body.rest() }
}

function writeBundle(changes: readonly Parsed[], hashesOf: readonly string[]): Uint8Array {
  const [actorStream, deps, hashes, author, seq, start, time, messages, text, others, shapes, tails] =
    Array.from({ length: 12 }, () => new Writer()) as [
      Writer,
      Writer,
      Writer,
      Writer,
      Writer,
      Writer,
      Writer,
      Writer,
      Writer,
      Writer,
      Writer,
      Writer,
    ]
  const data = new Map<number, Writer>()
  const places = new Map<string, number>()
  let last: { readonly actor: Uint8Array; readonly place: number } | null = null
  const placeOf = (actor: Uint8Array): number => {
    if (last && equal(last.actor, actor)) return last.place
    const key = toHex(actor)
    const known = places.get(key)
    last = { actor, place: known ?? places.size }
    if (known !== undefined) return known
    places.set(key, places.size)
    actorStream.uleb(actor.length)
    actorStream.bytes(actor)
    return places.size - 1
  }
  const positions = new Map<string, number>()
  const seqs = new Map<number, number>()
  let [lastStart, lastTime] = [0, 0]
  changes.forEach((change, i) => {
    deps.uleb(change.deps.length)
    for (const dep of change.deps) {
      const position = positions.get(toHex(dep))
      deps.uleb(position === undefined ? 0 : i - position)
      if (position === undefined) hashes.bytes(dep)
    }
    const place = placeOf(change.actor)
    author.uleb(place)
    seq.sleb(change.seq - (seqs.get(place) ?? 0) - 1)
    seqs.set(place, change.seq)
    start.sleb(change.start - lastStart - 1)
    lastStart = change.start
    time.sleb(change.time - lastTime)
    lastTime = change.time
    messages.uleb(change.message.length)
    text.bytes(change.message)
    others.uleb(change.others.length)
    for (const other of change.others) others.uleb(placeOf(other))
    shapes.uleb(change.columns.length)
    for (const [spec, bytes] of change.columns) {
      shapes.uleb(spec)
      shapes.uleb(bytes.length)
      const column = data.get(spec) ?? new Writer()
      data.set(spec, column)
      column.bytes(bytes)
    }
    tails.uleb(change.tail.length)
    tails.bytes(change.tail)
    positions.set(hashesOf[i]!, i)
  })
  const columns = new Writer()
  for (const [spec, column] of [...data].sort(([a], [b]) => a - b)) {
    columns.uleb(spec)
    columns.uleb(column.length)
    columns.bytes(column.view())
  }
  const out = new Writer()
  out.uleb(VERSION)
  out.uleb(changes.length)
  for (const stream of [
    actorStream,
    deps,
    hashes,
    author,
    seq,
    start,
    time,
    messages,
    text,
    others,
    shapes,
    tails,
    columns,
  ]) {
    out.uleb(stream.length)
    out.bytes(stream.view())
  }
  return out.view().slice()
}

const broken = (): AppError => new AppError('request.invalid', 'The bytes are no bundle of changes.')
const tooLarge = (): AppError => new AppError('request.too_large', 'A bundle has more than it may have.')

const equal = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i])

/**
 * Reads within its bytes; anything beyond is a broken bundle. Numbers are whole, within 2^53 and in their shortest form: so what is
 * read is written again as the same bytes.
 */
class Reader {
  readonly #bytes: Uint8Array
  #at = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  get done(): boolean {
    return this.#at === this.#bytes.length
  }

  byte(): number {
    const byte = this.#bytes[this.#at++]
    if (byte === undefined) throw broken()
    return byte
  }

  take(length: number): Uint8Array {
    const end = this.#at + length
    if (end > this.#bytes.length) throw broken()
    const part = this.#bytes.subarray(this.#at, end)
    this.#at = end
    return part
  }

  rest(): Uint8Array {
    return this.take(this.#bytes.length - this.#at)
  }

  /** A number of things of at least so many bytes, which have to be there. */
  count(bytesEach: number): number {
    const count = this.uleb()
    if (count * bytesEach > this.#bytes.length - this.#at) throw broken()
    return count
  }

  uleb(): number {
    let [value, factor] = [0, 1]
    for (;;) {
      const byte = this.byte()
      value += (byte & 0x7f) * factor
      if (value > Number.MAX_SAFE_INTEGER || (byte === 0 && factor > 1)) throw broken()
      if (byte < 0x80) return value
      factor *= 128
    }
  }

  sleb(): number {
    let [value, factor, before] = [0, 1, -1]
    for (;;) {
      const byte = this.byte()
      value += (byte & 0x7f) * factor
      factor *= 128
      if (value > Number.MAX_SAFE_INTEGER) throw broken()
      if (byte < 0x80) {
        const longer = (byte === 0 && (before & 0x40) === 0) || (byte === 0x7f && (before & 0x40) !== 0)
        if (before >= 0 && longer) throw broken()
        return (byte & 0x40) === 0 ? value : value - factor
      }
      before = byte
    }
  }
}

class Writer {
  #bytes = new Uint8Array(64)
  length = 0

  view(): Uint8Array {
    return this.#bytes.subarray(0, this.length)
  }

  /** Views on it hold what is written next. */
  clear(): void {
    this.length = 0
  }

  byte(byte: number): void {
    this.#room(1)
    this.#bytes[this.length++] = byte
  }

  bytes(bytes: Uint8Array): void {
    this.#room(bytes.length)
    this.#bytes.set(bytes, this.length)
    this.length += bytes.length
  }

  uleb(value: number): void {
    let rest = value
    while (rest >= 128) {
      this.byte((rest % 128) + 128)
      rest = Math.floor(rest / 128)
    }
    this.byte(rest)
  }

  sleb(value: number): void {
    let rest = value
    for (;;) {
      const low = ((rest % 128) + 128) % 128
      rest = Math.floor(rest / 128)
      const last = (rest === 0 && (low & 0x40) === 0) || (rest === -1 && (low & 0x40) !== 0)
      this.byte(last ? low : low + 128)
      if (last) return
    }
  }

  #room(more: number): void {
    const needed = this.length + more
    if (needed <= this.#bytes.length) return
    const next = new Uint8Array(Math.max(needed, this.#bytes.length * 2))
    next.set(this.#bytes)
    this.#bytes = next
  }
}
