import { readChunk } from './chunk.ts'
import { ByteReader, countRle, readBooleans, readDelta, readRle, utf8 } from './columns.ts'
import { type ChangeLimits, DEFAULT_LIMITS, type Refusal, RefusedChange, refuse } from './limits.ts'

/**
 * A change's bytes as values, without Automerge: bounded work, nothing hidden, nothing guessed.
 *
 * Automerge's own `decodeChange` leaves out what it does not know, turns big numbers into near ones, and spends seconds and
 * hundreds of megabytes on a hostile change. Here an unknown column, a second column of the same kind, bytes at the end or
 * a run that is longer than the change has operations refuse the change.
 */

/** Tables (6) and marks (7) are left out: nothing here makes them, see docs/decisions/admission.md. */
export const ACTION = {
  makeMap: 0,
  set: 1,
  makeList: 2,
  del: 3,
  makeText: 4,
  inc: 5,
} as const

export const VALUE = {
  null: 0,
  false: 1,
  true: 2,
  uint: 3,
  int: 4,
  float64: 5,
  text: 6,
  bytes: 7,
  counter: 8,
  timestamp: 9,
} as const

/** One operation; its id is `startOp` plus its position, by the change's actor. Actors are places in `DecodedChange.actors`. */
export interface DecodedOp {
  readonly action: number
  /** -1 for the root map. */
  readonly objActor: number
  readonly objCounter: number
  /** The map key, or null for an element of a list or text. */
  readonly key: string | null
  /** -1 with counter 0 is the head of a list or text; meaningless beside a key. */
  readonly elemActor: number
  readonly elemCounter: number
  readonly insert: boolean
  readonly valueType: number
  readonly valueBytes: Uint8Array
  readonly predActors: readonly number[]
  readonly predCounters: readonly number[]
}

export interface DecodedChange {
  readonly hash: string
  /** Hex. The first is the change's own. */
  readonly actors: readonly string[]
  readonly seq: number
  readonly startOp: number
  /** Seconds since 1970, as its author's clock said; never used for order. */
  readonly time: number
  readonly message: string
  readonly deps: readonly string[]
  readonly ops: readonly DecodedOp[]
}

const COLUMN = {
  objActor: 0x01,
  objCounter: 0x02,
  keyActor: 0x11,
  keyCounter: 0x13,
  keyText: 0x15,
  insert: 0x34,
  action: 0x42,
  valueMeta: 0x56,
  valueRaw: 0x57,
  predGroup: 0x70,
  predActor: 0x71,
  predCounter: 0x73,
} as const
const KNOWN_COLUMNS: ReadonlySet<number> = new Set(Object.values(COLUMN))
const REQUIRED_COLUMNS = [COLUMN.insert, COLUMN.action, COLUMN.valueMeta, COLUMN.predGroup] as const
const EMPTY = new Uint8Array(0)

export type Decoded =
  | { readonly ok: true; readonly change: DecodedChange }
  | { readonly ok: false; readonly refusal: Refusal }

/** Never throws for bad bytes: they are refused as `invalid`, or as `quota` when they are above a limit. */
export function decodeChangeBytes(bytes: Uint8Array, limits: ChangeLimits = DEFAULT_LIMITS): Decoded {
  try {
    const { hash, body } = readChunk(bytes, limits)
    return { ok: true, change: decodeBody(hash, body, limits) }
  } catch (error) {
    if (error instanceof RefusedChange) return { ok: false, refusal: error.refusal }
    throw error
  }
}

function decodeBody(hash: string, body: Uint8Array, limits: ChangeLimits): DecodedChange {
  const reader = new ByteReader(body, 0, body.length)
  const depCount = reader.uleb()
  if (depCount > limits.deps) refuse('quota', `a change depends on at most ${limits.deps} others`)
  const deps: string[] = []
  for (let i = 0; i < depCount; i++) deps.push(hex(reader.take(32)))
  const actors = [readActor(reader)]
  const seq = reader.uleb()
  const startOp = reader.uleb()
  const time = reader.sleb()
  const message = reader.text(limits.messageBytes)
  const actorCount = reader.uleb()
  if (actorCount > limits.actors) refuse('quota', `a change names at most ${limits.actors} other actors`)
  for (let i = 0; i < actorCount; i++) actors.push(readActor(reader))
  const columns = readColumns(reader, body)
  if (!reader.done) refuse('invalid', 'bytes after its last column')
  return { hash, actors, seq, startOp, time, message, deps, ops: decodeOps(columns, actors.length, limits) }
}

function readActor(reader: ByteReader): string {
  const length = reader.uleb()
  if (length < 1 || length > 64) refuse('invalid', 'an actor id is 1 to 64 bytes')
  return hex(reader.take(length))
}

type Columns = ReadonlyMap<number, Uint8Array>

function readColumns(reader: ByteReader, body: Uint8Array): Columns {
  const count = reader.uleb()
  if (count > KNOWN_COLUMNS.size) refuse('invalid', 'a column of an unknown kind')
  const heads: [spec: number, length: number][] = []
  let last = -1
  for (let i = 0; i < count; i++) {
    const spec = reader.uleb()
    const length = reader.uleb()
    if (!KNOWN_COLUMNS.has(spec)) refuse('invalid', 'a column of an unknown kind')
    if (spec <= last) refuse('invalid', 'columns out of order')
    last = spec
    heads.push([spec, length])
  }
  const columns = new Map<number, Uint8Array>()
  for (const [spec, length] of heads) {
    if (length > body.length) refuse('invalid', 'ends in the middle of a value')
    columns.set(spec, reader.take(length))
  }
  return columns
}

function decodeOps(columns: Columns, actorCount: number, limits: ChangeLimits): DecodedOp[] {
  const open = (spec: number): ByteReader => {
    const bytes = columns.get(spec) ?? EMPTY
    return new ByteReader(bytes, 0, bytes.length)
  }
  const count = countRle(open(COLUMN.action), limits.ops)
  if (count > limits.ops) refuse('quota', `a change has at most ${limits.ops} operations`)

  // Automerge always writes these, and panics or takes other defaults when they are not there.
  if (count === 0 && columns.size > 0) refuse('invalid', 'columns without operations')
  if (count > 0 && REQUIRED_COLUMNS.some(spec => !columns.has(spec)))
    refuse('invalid', 'a column is not there')

  const numbers = (spec: number, length: number, absent: number): number[] => {
    if (!columns.has(spec)) return new Array<number>(length).fill(absent)
    const reader = open(spec)
    return readRle(reader, length, () => reader.uleb(), absent)
  }
  const actorPlaces = (spec: number, length: number): number[] => {
    const places = numbers(spec, length, -1)
    if (places.some(place => place >= actorCount)) refuse('invalid', 'an actor that it does not list')
    return places
  }
  const deltas = (spec: number, length: number): number[] =>
    columns.has(spec) ? readDelta(open(spec), length) : new Array<number>(length).fill(-1)
  const actions = numbers(COLUMN.action, count, -1)
  const objActors = actorPlaces(COLUMN.objActor, count)
  const objCounters = numbers(COLUMN.objCounter, count, -1)
  const elemActors = actorPlaces(COLUMN.keyActor, count)
  const elemCounters = deltas(COLUMN.keyCounter, count)
  const keyReader = open(COLUMN.keyText)
  const keys = columns.has(COLUMN.keyText)
    ? readRle<string | null>(keyReader, count, () => keyReader.text(limits.keyBytes), null)
    : new Array<string | null>(count).fill(null)
  const inserts = columns.has(COLUMN.insert)
    ? readBooleans(open(COLUMN.insert), count)
    : new Array<boolean>(count).fill(false)
  const valueMetas = numbers(COLUMN.valueMeta, count, 0)
  const predCounts = numbers(COLUMN.predGroup, count, 0)
  const predTotal = predCounts.reduce((sum, n) => sum + n, 0)
  if (predTotal > limits.preds) refuse('quota', `a change names at most ${limits.preds} predecessors`)
  const predActors = actorPlaces(COLUMN.predActor, predTotal)
  const predCounters = deltas(COLUMN.predCounter, predTotal)
  const raw = open(COLUMN.valueRaw)

  const ops: DecodedOp[] = []
  let pred = 0
  for (let i = 0; i < count; i++) {
    const meta = valueMetas[i]!
    const preds = predCounts[i]!
    ops.push({
      action: actions[i]!,
      objActor: objActors[i]!,
      objCounter: objCounters[i]!,
      key: keys[i]!,
      elemActor: elemActors[i]!,
      elemCounter: elemCounters[i]!,
      insert: inserts[i]!,
      valueType: meta % 16,
      valueBytes: meta < 16 ? EMPTY : raw.take(Math.floor(meta / 16)),
      predActors: preds === 0 ? [] : predActors.slice(pred, pred + preds),
      predCounters: preds === 0 ? [] : predCounters.slice(pred, pred + preds),
    })
    pred += preds
  }
  if (!raw.done) refuse('invalid', 'values that no operation has')
  return ops
}

/** The value of an integer, counter or timestamp. Refuses what is not in its shortest form or beyond 2^53. */
export function integerOf(op: DecodedOp): number {
  const reader = new ByteReader(op.valueBytes, 0, op.valueBytes.length)
  const value = op.valueType === VALUE.uint ? reader.uleb() : reader.sleb()
  if (!reader.done) refuse('invalid', 'a number with bytes after it')
  return value
}

/** The text of a text value. */
export const textOf = (op: DecodedOp): string => utf8(op.valueBytes)

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}
