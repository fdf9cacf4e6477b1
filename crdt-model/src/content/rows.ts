import { type Chunk, COLUMN } from './chunks.ts'
import {
  booleans,
  countAbsent,
  countRows,
  Differences,
  numbers,
  some,
  strings,
  Unreadable,
} from './columns.ts'

/** Operations of a document that are read: a person types for months before there are as many. */
const MAX_ROWS = 2_000_000
/** More for each byte is no document that people wrote: reading costs what the bytes do, whatever they say. */
const ROWS_PER_BYTE = 16
/** Operations in the changes behind the document that are read: putting each in its place costs the document's length. */
const MAX_LATER = 2_000

/** Operations by row: the document's in its own order, then those of the changes behind it. */
export interface Rows {
  readonly count: number
  /** The first row of a change. */
  readonly later: number
  readonly actors: readonly string[]
  /** -1: the root. */
  readonly objectCounter: Int32Array
  readonly objectActor: Int32Array
  readonly key: ReadonlyMap<number, string>
  /** Most are never asked for. */
  readonly idCounter: Pick<Differences, 'at' | 'all'>
  readonly idActor: Int32Array
  readonly insert: Uint8Array
  readonly action: Int32Array
  readonly valueMeta: Int32Array
  readonly valueAt: Int32Array
  readonly values: Uint8Array
  /** 1: something took its place. */
  readonly gone: Uint8Array
  /** For rows of changes, from `later` on: the element that it names. Counter 0 or -1: before the first. */
  readonly elementCounter: Int32Array
  readonly elementActor: Int32Array
  /** For rows of changes: what it takes the place of, as counter and actor. */
  readonly preds: readonly (readonly (readonly [counter: number, actor: number])[])[]
}

/** The operations of a document chunk and of the changes behind it. `rootOnly`: of the document those of its root, which come first. */
export function rowsOf(chunks: readonly Chunk[], { rootOnly = false } = {}): Rows {
  const [document, ...changes] = chunks
  if (document?.startOp !== null || changes.some(change => change.startOp === null))
    throw new Unreadable('it is no document with changes behind it')
  const all = countRows(document.columns.get(COLUMN.action), mostRows(document))
  const later = rootOnly ? Math.min(all, countAbsent(document.columns.get(COLUMN.objectCounter))) : all
  const sizes = changes.map(change => countRows(change.columns.get(COLUMN.action), MAX_LATER))
  const added = sizes.reduce((sum, size) => sum + size, 0)
  if (added > MAX_LATER) throw new Unreadable('there are too many changes behind the document')
  const actors = [...document.actors]
  const placeOf = new Map(actors.map((actor, place) => [actor, place]))
  const parts = [
    partOf(document, later),
    ...changes.map((change, i) => partOf(change, sizes[i]!, localActors(change, actors, placeOf))),
  ]
  const [only] = parts as [Part]
  return {
    ...(changes.length === 0 ? only : joined(parts)),
    count: later + added,
    later,
    actors,
    elementCounter: joinNumbers(parts.slice(1).map(part => part.elementCounter)),
    elementActor: joinNumbers(parts.slice(1).map(part => part.elementActor)),
    preds: parts.flatMap(part => part.preds),
  }
}

function mostRows(chunk: Chunk): number {
  let bytes = 0
  for (const column of chunk.columns.values()) bytes += column.length
  return Math.min(MAX_ROWS, ROWS_PER_BYTE * bytes)
}

type Part = Omit<Rows, 'count' | 'later' | 'actors'>

/** Where a change's own actors stand in the list of all. */
function localActors(change: Chunk, actors: string[], placeOf: Map<string, number>): number[] {
  return change.actors.map(actor => {
    const known = placeOf.get(actor)
    if (known !== undefined) return known
    placeOf.set(actor, actors.length)
    return actors.push(actor) - 1
  })
}

/** @param actorsOf for a change: the place of each of its actors. */
function partOf(chunk: Chunk, rows: number, actorsOf?: readonly number[]): Part {
  const column = (spec: number): Uint8Array | undefined => chunk.columns.get(spec)
  const actorColumn = (spec: number, length: number): Int32Array => {
    const places = numbers(column(spec), length)
    return actorsOf ? places.map(place => (place < 0 ? -1 : (actorsOf[place] ?? -1))) : places
  }
  const values = column(COLUMN.value) ?? new Uint8Array(0)
  const valueMeta = numbers(column(COLUMN.valueMeta), rows)
  const valueAt = new Int32Array(rows)
  let end = 0
  for (let i = 0; i < rows; i++) {
    valueAt[i] = end
    const meta = valueMeta[i] as number
    if (meta > 0) end += meta >>> 4
    if (end > values.length) throw new Unreadable('the values are cut')
  }
  const predCounts = actorsOf ? numbers(column(COLUMN.predCount), rows) : new Int32Array(0)
  const total = predCounts.reduce((sum, count) => sum + Math.max(0, count), 0)
  if (total > mostRows(chunk)) throw new Unreadable('too much is replaced')
  const predActors = actorColumn(COLUMN.predActor, total)
  const predCounters = new Differences(column(COLUMN.predCounter), total).all()
  let pred = 0
  const start = chunk.startOp ?? 0
  return {
    objectCounter: numbers(column(COLUMN.objectCounter), rows),
    objectActor: actorColumn(COLUMN.objectActor, rows),
    key: strings(column(COLUMN.key), rows),
    idCounter: actorsOf
      ? held(Int32Array.from({ length: rows }, (_, i) => start + i))
      : new Differences(column(COLUMN.idCounter), rows),
    idActor: actorsOf ? new Int32Array(rows).fill(actorsOf[0]!) : actorColumn(COLUMN.idActor, rows),
    insert: booleans(column(COLUMN.insert), rows),
    action: numbers(column(COLUMN.action), rows),
    valueMeta,
    valueAt,
    values,
    gone: actorsOf ? new Uint8Array(rows) : some(column(COLUMN.succCount), rows),
    elementCounter: actorsOf ? new Differences(column(COLUMN.keyCounter), rows).all() : new Int32Array(0),
    elementActor: actorsOf ? actorColumn(COLUMN.keyActor, rows) : new Int32Array(0),
    preds: Array.from(predCounts, count =>
      Array.from({ length: Math.max(0, count) }, () => {
        const at = pred++
        return [predCounters[at]!, predActors[at]!] as const
      }),
    ),
  }
}

const held = (all: Int32Array): Rows['idCounter'] => ({ at: row => all[row] as number, all: () => all })

function joined(parts: readonly Part[]): Part {
  const whole = (of: (part: Part) => Int32Array): Int32Array => joinNumbers(parts.map(of))
  const values = joinBytes(parts.map(part => part.values))
  let before = 0
  const valueAt = parts.map(part => {
    const from = before
    before += part.values.length
    return part.valueAt.map(at => at + from)
  })
  const key = new Map<number, string>()
  let rows = 0
  for (const part of parts) {
    for (const [row, name] of part.key) key.set(rows + row, name)
    rows += part.action.length
  }
  return {
    objectCounter: whole(part => part.objectCounter),
    objectActor: whole(part => part.objectActor),
    key,
    idCounter: held(whole(part => part.idCounter.all())),
    idActor: whole(part => part.idActor),
    insert: joinBytes(parts.map(part => part.insert)),
    action: whole(part => part.action),
    valueMeta: whole(part => part.valueMeta),
    valueAt: joinNumbers(valueAt),
    values,
    gone: joinBytes(parts.map(part => part.gone)),
    elementCounter: new Int32Array(0),
    elementActor: new Int32Array(0),
    preds: [],
  }
}

function joinNumbers(parts: readonly Int32Array[]): Int32Array {
  const out = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

function joinBytes(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}
