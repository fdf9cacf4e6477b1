import * as cborg from 'cborg'
import { parse as parseUuid } from 'uuid'
import { z } from 'zod'
import { AppError } from '../errors/index.ts'
import { type BundleLimits, decodeBundle } from './bundle.ts'
import { toHex } from './hex.ts'
import { hash, id, seq } from './ids.ts'
import { LIMITS } from './limits.ts'
import { documentKind } from './roles.ts'

/**
 * The wire of the change log: CBOR sequences (RFC 8742), a header item, then one item for each record, then (from the
 * server) an end item. A sequence without its end item was cut: what arrived whole counts, the rest is asked for again.
 *
 * On the wire ids are 16-byte strings, hashes 32-byte strings and times milliseconds since 1970 UTC; in TypeScript they are
 * the text forms. Items are deterministic CBOR (RFC 8949 4.2): the same record is always the same bytes.
 */

export const subject = z.strictObject({
  /** What a comments document is about; a pipeline document has none. */
  kind: z.enum(['pipeline', 'draft', 'run', 'report']),
  id,
})
export type Subject = z.infer<typeof subject>

const bytes = z.instanceof(Uint8Array)
const time = z.number().int().nonnegative()

/**
 * A run of items of a sequence, compressed: `bytes` is one zstd frame (RFC 8878) of a CBOR sequence of `size` bytes, which stands in
 * place of the pack. Answers hold packs when they were asked for by `pack=zstd`; an append may hold them behind its header. A
 * pack holds no pack, and no header or end item.
 */
export const packItem = z.strictObject({
  pack: z.literal('zstd'),
  /** Bytes when unpacked: what a reader makes room for. In an append at most `LIMITS.packBytes` in all its packs. */
  size: z.number().int().nonnegative(),
  bytes,
})
export type PackItem = z.infer<typeof packItem>

/** Refusals of a change. `missing_deps` and `actor` can succeed after a sync; the others never. */
export const refusal = z.enum(['permission', 'invalid', 'quota', 'missing_deps', 'actor'])
export type Refusal = z.infer<typeof refusal>

export const appendHeader = z.strictObject({
  v: z.literal(1),
  device_id: id,
  /** The device was connected and caught up while these changes were written: typing beside each other marks nothing. */
  live: z.boolean(),
})
export const appendItem = z.strictObject({
  document_id: id,
  kind: documentKind,
  subject: subject.nullable(),
  /** A draft's base document; null otherwise. */
  base: id.nullable(),
  /** One Automerge change, as `getLastLocalChange` gives it. */
  bytes,
})
/** Changes of one document that follow each other in an append: each counts as an `appendItem`. */
export const appendRun = appendItem.omit({ bytes: true }).extend({
  /** See bundle.ts. */
  bundle: bytes,
})
/** What a stored change has of the server: a device that keeps it need not read its own changes again. */
const storedRecord = {
  seq,
  author_id: z.string(),
  received_at: time,
  live: z.boolean(),
}
export const appendVerdict = z.discriminatedUnion('status', [
  z.strictObject({ status: z.literal('stored'), index: seq, hash, ...storedRecord }),
  z.strictObject({
    status: z.literal('refused'),
    /** Position in the request, for bytes so broken that they have no hash. */
    index: seq,
    hash: hash.nullable(),
    code: refusal,
    reason: z.string(),
  }),
])
/** With `pack=zstd`: `count` changes from `index` on are stored, with the numbers `seq` and on, by one author at one moment. */
export const storedRun = z.strictObject({
  status: z.literal('stored'),
  index: seq,
  count: z.number().int().positive(),
  ...storedRecord,
})
/** Ends every answer: the workspace's seq after it, and the digest of all heads there when it is known (see changes SPEC). */
export const endItem = z.strictObject({
  end: z.literal(true),
  seq,
  more: z.boolean(),
  digest: hash.nullable(),
})

export const logItem = z.strictObject({
  seq,
  /** Absent for a change. `void`: `bytes` are a void record (void.ts), which takes changes of the document out again. */
  record: z.literal('void').optional(),
  document_id: id,
  kind: documentKind,
  subject: subject.nullable(),
  base: id.nullable(),
  hash,
  author_id: z.string(),
  device_id: id,
  received_at: time,
  live: z.boolean(),
  bytes,
})
/**
 * With `pack=zstd`: log items that follow each other, of one document, author, device and moment. The first has the number `seq`, the
 * next the one after it; their hashes come from the changes.
 */
export const logRun = logItem.omit({ bytes: true, hash: true, record: true }).extend({
  /** See bundle.ts. */
  bundle: bytes,
})
export const snapshotItem = z.strictObject({
  document_id: id,
  kind: documentKind,
  subject: subject.nullable(),
  base: id.nullable(),
  /** The document's display name, so that a device lists documents without loading them. */
  title: z.string(),
  heads: z.array(hash),
  /** The greatest seq among its changes. */
  seq,
  /** `Automerge.load` accepts it: a document chunk, possibly followed by change chunks. */
  bytes,
})

export type AppendHeader = z.infer<typeof appendHeader>
export type StoredRun = z.infer<typeof storedRun>
export type AppendRun = z.infer<typeof appendRun>
export type LogRun = z.infer<typeof logRun>
export type AppendItem = z.infer<typeof appendItem>
export type AppendVerdict = z.infer<typeof appendVerdict>
export type EndItem = z.infer<typeof endItem>
export type LogItem = z.infer<typeof logItem>
export type SnapshotItem = z.infer<typeof snapshotItem>

const HEX = /^[0-9a-f]{64}$/
const ID_FIELDS = new Set(['device_id', 'document_id', 'id', 'base'])
const HASH_FIELDS = new Set(['hash', 'digest'])
const HASH_LISTS = new Set(['heads', 'hashes'])

const fromHex = (text: string): Uint8Array => {
  if (!HEX.test(text)) throw new AppError('request.invalid', `Not a hash: ${text.slice(0, 80)}`)
  const out = new Uint8Array(32)
  for (let i = 0; i < 32; i++) out[i] = nibble(text, 2 * i) * 16 + nibble(text, 2 * i + 1)
  return out
}
/** The value of a digit that is one: each change of a push comes by here. */
const nibble = (text: string, at: number): number => {
  const code = text.charCodeAt(at)
  return code < 58 ? code - 48 : code - 87
}
/** Any sixteen bytes: the schemas say which are an id. */
const toId = (given: Uint8Array): string => {
  const hex = toHex(given)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

type Item = Record<string, unknown>

const toWire = (item: Item): Item => {
  const out: Item = {}
  for (const [key, value] of Object.entries(item)) {
    if (value === undefined) continue
    if (value === null) out[key] = null
    else if (ID_FIELDS.has(key)) out[key] = parseUuid(value as string)
    else if (HASH_FIELDS.has(key)) out[key] = fromHex(value as string)
    else if (HASH_LISTS.has(key)) out[key] = (value as string[]).map(fromHex)
    else if (key === 'subject') out[key] = toWire(value as Item)
    else out[key] = value
  }
  return out
}

const fromWire = (item: Item): Item => {
  const out: Item = {}
  for (const [key, value] of Object.entries(item)) {
    if (value instanceof Uint8Array && ID_FIELDS.has(key))
      out[key] = value.length === 16 ? toId(value) : value
    else if (value instanceof Uint8Array && HASH_FIELDS.has(key)) out[key] = toHex(value)
    else if (HASH_LISTS.has(key) && Array.isArray(value)) {
      out[key] = value.map(head => (head instanceof Uint8Array ? toHex(head) : head))
    } else if (key === 'subject' && value !== null && typeof value === 'object')
      out[key] = fromWire(value as Item)
    else out[key] = value
  }
  return out
}

/** One item as deterministic CBOR. */
export const encodeItem = (item: Item): Uint8Array => cborg.encode(toWire(item))

/**
 * The beginning of a pack item, up to its bytes: `length` of them follow. For whoever hands them on in pieces. It is that of
 * `encodeItem`, which puts `bytes` last.
 */
export function packItemHead({
  size,
  length,
}: {
  readonly size: number
  readonly length: number
}): Uint8Array {
  const empty = encodeItem({ pack: 'zstd', size, bytes: new Uint8Array(0) })
  // The byte string's own head in its shortest form: major type 2 and the length.
  const head =
    length < 24
      ? [0x40 + length]
      : length < 0x100
        ? [0x58, length]
        : length < 0x10000
          ? [0x59, length >> 8, length & 255]
          : [0x5a, length >>> 24, (length >> 16) & 255, (length >> 8) & 255, length & 255]
  const bytes = new Uint8Array(empty.length - 1 + head.length)
  bytes.set(empty.subarray(0, -1))
  bytes.set(head, empty.length - 1)
  return bytes
}

export const encodeSequence = (items: Iterable<Item>): Uint8Array => {
  const parts: Uint8Array[] = []
  let length = 0
  for (const item of items) {
    const part = encodeItem(item)
    parts.push(part)
    length += part.length
  }
  const out = new Uint8Array(length)
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

const DECODE = {
  strict: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowBigInt: false,
  rejectDuplicateMapKeys: true,
  useMaps: false,
} as const
/** Items nest a map in a map at most, with few keys, and lists of heads; more is refused before it is decoded. */
const MAX_DEPTH = 4
const MAX_KEYS = 64
const MAX_ELEMENTS = 100_000

/** How long a buffer with the item that it begins with has to be at least. */
const lengthNeeded = (buffer: Uint8Array): number => {
  const cut = { needed: 0 }
  return endOfItem(buffer, 0, 0, cut) ?? cut.needed
}

/**
 * Where the item that starts at `at` ends, or null when the buffer ends before it does. Definite lengths only (RFC 8949 3):
 * knowing the end beforehand tells a cut item from a broken one without reading a decoder's error texts.
 */
const endOfItem = (buffer: Uint8Array, at: number, depth = 0, cut = { needed: 0 }): number | null => {
  const first = buffer[at]
  if (first === undefined) return null
  const major = first >> 5
  const info = first & 31
  if (info > 27 || depth > MAX_DEPTH)
    throw new AppError('request.invalid', 'The body is not a CBOR sequence of ours.')
  const extra = info < 24 ? 0 : 2 ** (info - 24)
  let next = at + 1 + extra
  if (next > buffer.length) return null
  let argument = info
  if (extra > 0) {
    argument = 0
    for (let i = at + 1; i < next; i++) argument = argument * 256 + (buffer[i] as number)
  }
  if (major === 2 || major === 3) {
    next += argument
    cut.needed = next
    return next > buffer.length ? null : next
  }
  if ((major === 4 && argument > MAX_ELEMENTS) || (major === 5 && argument > MAX_KEYS))
    throw new AppError('request.invalid', 'An item of the sequence has more parts than any of ours.')
  const children = major === 4 ? argument : major === 5 ? 2 * argument : major === 6 ? 1 : 0
  for (let i = 0; i < children; i++) {
    const end = endOfItem(buffer, next, depth + 1, cut)
    if (end === null) return null
    next = end
  }
  return next
}

/**
 * The first whole item of `buffer` and what follows it, or null when the item is not complete yet.
 * Throws `request.invalid` for bytes that can never become an item.
 */
export const decodeItem = (buffer: Uint8Array): { item: Item; rest: Uint8Array } | null => {
  const end = endOfItem(buffer, 0)
  if (end === null) return null
  let value: unknown
  try {
    value = cborg.decode(buffer.subarray(0, end), DECODE)
  } catch (error) {
    throw new AppError('request.invalid', 'The body is not a CBOR sequence.', { cause: error })
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value) || value instanceof Uint8Array) {
    throw new AppError('request.invalid', 'An item of the sequence is not a map.')
  }
  return { item: fromWire(value as Item), rest: buffer.subarray(end) }
}

/** The items of a whole sequence, each when it is asked for: whoever stops has paid for no more. */
function* itemsOf(buffer: Uint8Array): Generator<Item> {
  let rest = buffer
  while (rest.length > 0) {
    const next = decodeItem(rest)
    if (!next) throw new AppError('request.invalid', 'The sequence is cut: its last item is not whole.')
    yield next.item
    rest = next.rest
  }
}

/** Every item of a whole sequence. Throws `request.invalid` when it is cut or broken; a stream uses `SequenceReader`. */
export const decodeSequence = (buffer: Uint8Array): Item[] => [...itemsOf(buffer)]

/** Items out of a byte stream, as they become whole. `finish` tells whether bytes were left over. */
export class SequenceReader {
  #pending: Uint8Array = new Uint8Array(0)
  /** What came since `#pending` was joined, and the bytes that its first item needs at least: joining less would be for nothing. */
  #more: Uint8Array[] = []
  #length = 0
  #needed = 0

  push(chunk: Uint8Array): Item[] {
    this.#more.push(chunk)
    this.#length += chunk.length
    if (this.#length < this.#needed) return []
    this.#join()
    const items: Item[] = []
    for (let next = decodeItem(this.#pending); next; next = decodeItem(this.#pending)) {
      items.push(next.item)
      this.#pending = next.rest
    }
    this.#length = this.#pending.length
    this.#needed = lengthNeeded(this.#pending)
    return items
  }

  #join(): void {
    const [only] = this.#more
    if (this.#pending.length === 0 && this.#more.length === 1 && only) this.#pending = only
    else {
      const joined = new Uint8Array(this.#length)
      let at = 0
      for (const part of [this.#pending, ...this.#more]) {
        joined.set(part, at)
        at += part.length
      }
      this.#pending = joined
    }
    this.#more = []
  }

  finish(): { cut: boolean } {
    return { cut: this.#length > 0 }
  }
}

/** Gives back the bytes of a pack; throws for what is none, or is longer than it says. */
export type Unpack = (pack: PackItem) => Uint8Array

/** The items with those of packs in the packs' places. Throws `request.invalid` for a broken pack. */
export function* unpacked(items: Iterable<Item>, unpack: Unpack): Generator<Item> {
  for (const item of items) {
    if (!('pack' in item)) {
      yield item
      continue
    }
    const pack = packItem.safeParse(item)
    if (!pack.success) throw invalid('a pack', pack.error)
    for (const inner of itemsOf(unpack(pack.data))) {
      if ('pack' in inner) throw new AppError('request.invalid', 'A pack holds another pack.')
      yield inner
    }
  }
}

const noPacks: Unpack = () => {
  throw new AppError('request.invalid', 'Packs are not taken here.')
}

export interface AppendReading {
  /** Default: packs are refused. */
  readonly unpack?: Unpack
  readonly sha256?: BundleLimits['sha256']
}

/**
 * The header and items of an append request, what came in packs and bundles one by one; `request.invalid` names the item that is
 * wrong, and `request.too_large` is said of more changes, or more bytes in all packs and bundles, than a push may have. Nothing is
 * read beyond that. Bytes are not looked into.
 */
export const parseAppend = (
  body: Uint8Array,
  { unpack = noPacks, sha256 }: AppendReading = {},
): { header: AppendHeader; items: AppendItem[] } => {
  const all = itemsOf(body)
  const header = appendHeader.safeParse(all.next().value)
  if (!header.success) throw invalid('the header', header.error)
  // Few bytes can be many when they are unpacked: all of them together are bounded.
  let room: number = LIMITS.packBytes
  const take = (bytes: number): void => {
    room -= bytes
    if (room < 0) throw tooLarge(`The packs of a push have at most ${LIMITS.packBytes} bytes.`)
  }
  const within: Unpack = pack => {
    take(pack.size)
    return unpack(pack)
  }
  const items: AppendItem[] = []
  for (const item of unpacked(all, within)) {
    if (items.length === LIMITS.pushChanges)
      throw tooLarge(`A push has at most ${LIMITS.pushChanges} changes.`)
    if (!('bundle' in item)) {
      const parsed = appendItem.safeParse(item)
      if (!parsed.success) throw invalid(`item ${items.length}`, parsed.error)
      items.push(parsed.data)
      continue
    }
    const parsed = appendRun.safeParse(item)
    if (!parsed.success) throw invalid(`item ${items.length}`, parsed.error)
    const { bundle, ...of } = parsed.data
    const limits = { changes: LIMITS.pushChanges - items.length, bytes: room, ...(sha256 ? { sha256 } : {}) }
    for (const { bytes: change } of decodeBundle(bundle, limits)) {
      take(change.length)
      items.push({ ...of, bytes: change })
    }
  }
  return { header: header.data, items }
}

const tooLarge = (message: string): AppError => new AppError('request.too_large', message)

const invalid = (what: string, error: z.ZodError): AppError =>
  new AppError('request.invalid', `In ${what} of the sequence: ${z.prettifyError(error)}`)
