import * as Automerge from '@automerge/automerge'
import { readChunks } from './chunks.ts'
import { ByteReader, Unreadable, UTF8 } from './columns.ts'
import { type Rows, rowsOf } from './rows.ts'

const ACTION = { makeMap: 0, set: 1, makeList: 2, delete: 3, makeText: 4, increment: 5, mark: 7 } as const
const KINDS: Readonly<Record<number, Kind>> = {
  [ACTION.makeMap]: 'map',
  [ACTION.makeList]: 'list',
  [ACTION.makeText]: 'text',
}
const TYPE = { null: 0, false: 1, true: 2, uint: 3, int: 4, float: 5, text: 6, bytes: 7, time: 9 } as const
/** What stands in a text for what is no text. */
const NO_TEXT = new Uint8Array([0xef, 0xbf, 0xbc])
/** Objects in objects. */
const MAX_DEPTH = 64
/** More actors than this are not told apart in one number. */
const ACTORS = 65_536

type Kind = 'map' | 'list' | 'text'
interface Obj {
  readonly kind: Kind
  /** Its first row, -1 while it has none. */
  head: number
  last: number
  size: number
}

/**
 * What a document holds, as `Automerge.load` would show it, out of its bytes alone: a document of 260 k keystrokes is read in a
 * fraction of the time that loading takes, because nothing is built with which it could be edited.
 *
 * `bytes`: a document chunk and the changes behind it, as the host hands them to a view. Null for what is not read here (no document
 * chunk, too many changes behind it, counters, anything broken): then loading tells.
 */
export const contentOf = (bytes: Uint8Array): Promise<Record<string, unknown> | null> =>
  unlessUnreadable(async () => new Content(rowsOf(await readChunks(bytes))).read())

/** The values at the root of a document that are no objects, such as its schema version: `contentOf` without the rest. */
export const rootOf = (bytes: Uint8Array): Promise<Record<string, unknown> | null> =>
  unlessUnreadable(async () => new Content(rowsOf(await readChunks(bytes), { rootOnly: true })).readRoot())

async function unlessUnreadable<T>(read: () => Promise<T>): Promise<T | null> {
  try {
    return await read()
  } catch (error) {
    if (error instanceof Unreadable) return null
    throw error
  }
}

class Content {
  readonly #rows: Rows
  readonly #objects = new Map<number, Obj>()
  readonly #root: Obj = { kind: 'map', head: -1, last: -1, size: 0 }
  /** The row behind each in its object, -1 for none: changes come in between. */
  readonly #next: Int32Array
  /** Rows by their ids; filled when changes come behind the document. */
  readonly #index = new Map<number, number>()

  constructor(rows: Rows) {
    if (rows.actors.length > ACTORS) throw new Unreadable('there are too many actors')
    this.#rows = rows
    this.#next = new Int32Array(rows.count).fill(-1)
  }

  read(): Record<string, unknown> {
    this.#takeDocument()
    this.#indexDocument()
    for (let row = this.#rows.later; row < this.#rows.count; row++) this.#takeLater(row)
    return this.#map(this.#root, 0)
  }

  /** Of a document of which only the root's rows are here. */
  readRoot(): Record<string, unknown> {
    const { later, count, objectCounter } = this.#rows
    this.#takeDocument()
    this.#indexDocument()
    for (let row = later; row < count; row++) if (objectCounter[row]! < 0) this.#takeLater(row)
    const shown = [...this.#shown(this.#root)].filter(([, row]) => this.#rows.action[row] === ACTION.set)
    return Object.fromEntries(shown.map(([name, row]) => [name, this.#scalar(row)]))
  }

  /** The document's rows stand object by object, and elements in their order with what was set in them behind them. */
  #takeDocument(): void {
    const { later, objectCounter, objectActor, action } = this.#rows
    const next = this.#next
    let object = this.#root
    let [counter, actor] = [-1, -1]
    for (let row = 0; row < later; row++) {
      if (row === 0 || objectCounter[row] !== counter || objectActor[row] !== actor) {
        if (row > 0) this.#endAt(object, row)
        counter = objectCounter[row] as number
        actor = objectActor[row] as number
        object = this.#object(row)
        if (object.head >= 0) throw new Unreadable('an object stands in two places')
        object.head = row
      }
      next[row] = row + 1
      if (action[row] !== ACTION.set) this.#assertKnown(row)
    }
    if (later > 0) this.#endAt(object, later)
  }

  #endAt(object: Obj, end: number): void {
    object.last = end - 1
    object.size = end - object.head
    this.#next[end - 1] = -1
  }

  #indexDocument(): void {
    const { later, count, idCounter, idActor } = this.#rows
    if (later === count) return
    for (let row = 0; row < later; row++) this.#index.set(idCounter.at(row) * ACTORS + idActor[row]!, row)
  }

  /** An operation of a change behind the document. */
  #takeLater(row: number): void {
    const { action, gone, preds, later, idCounter, idActor, insert } = this.#rows
    const object = this.#object(row)
    // Unsent changes stay behind a snapshot that may have them already.
    if (this.#find(idCounter.at(row), idActor[row]!) >= 0) return
    for (const [counter, actor] of preds[row - later]!) {
      const replaced = this.#find(counter, actor)
      if (replaced < 0) throw new Unreadable('something is replaced that is not there')
      gone[replaced] = 1
    }
    if (action[row] === ACTION.delete) return
    this.#index.set(idCounter.at(row) * ACTORS + idActor[row]!, row)
    if (action[row] !== ACTION.set) this.#assertKnown(row)
    if (object.kind === 'map') this.#append(object, row)
    else this.#insertBehind(object, this.#place(object, row, insert[row] === 1), row)
  }

  /** Behind which row a later one belongs; -1 for the start. */
  #place(object: Obj, row: number, inserts: boolean): number {
    const { elementCounter, elementActor, later, insert } = this.#rows
    const counter = elementCounter[row - later]!
    let at = -1
    if (counter > 0) {
      at = this.#find(counter, elementActor[row - later]!)
      if (at < 0) throw new Unreadable('an element is named that is not there')
    }
    if (!inserts) return at
    // What was inserted at the same place later, or beside it with a greater id, stays before it.
    for (let next = at < 0 ? object.head : this.#next[at]!; next >= 0; next = this.#next[next]!) {
      if (insert[next] && !this.#isLater(next, row)) break
      at = next
    }
    return at
  }

  #append(object: Obj, row: number): void {
    object.size++
    if (object.last < 0) object.head = row
    else this.#next[object.last] = row
    object.last = row
  }

  #insertBehind(object: Obj, at: number, row: number): void {
    if (at === object.last) {
      this.#append(object, row)
      return
    }
    object.size++
    this.#next[row] = at < 0 ? object.head : this.#next[at]!
    if (at < 0) object.head = row
    else this.#next[at] = row
  }

  /** The row with this id, -1 for none. */
  #find(counter: number, actor: number): number {
    return this.#index.get(counter * ACTORS + actor) ?? -1
  }

  #object(row: number): Obj {
    const { objectCounter, objectActor } = this.#rows
    if (objectCounter[row]! < 0) return this.#root
    const object = this.#objects.get(objectCounter[row]! * ACTORS + objectActor[row]!)
    if (!object) throw new Unreadable('an object is named that is not there')
    return object
  }

  #assertKnown(row: number): void {
    const { action, idCounter, idActor } = this.#rows
    const kind = KINDS[action[row]!]
    if (kind)
      this.#objects.set(idCounter.at(row) * ACTORS + idActor[row]!, { kind, head: -1, last: -1, size: 0 })
    else if (action[row] !== ACTION.mark) throw new Unreadable('an operation is of a kind that is not read')
  }

  #isLater(row: number, than: number): boolean {
    const { idCounter, idActor, actors } = this.#rows
    const [id, other] = [idCounter.at(row), idCounter.at(than)]
    if (id !== other) return id > other
    return actors[idActor[row]!]! > actors[idActor[than]!]!
  }

  /** Of what stands at one place at once, the one that shows. */
  #winner(held: number, row: number): number {
    const { gone, action } = this.#rows
    if (gone[row] || action[row] === ACTION.mark) return held
    return held < 0 || this.#isLater(row, held) ? row : held
  }

  #map(object: Obj, depth: number): Record<string, unknown> {
    const out: Record<string, unknown> = {}
    for (const [name, row] of this.#shown(object)) out[name] = this.#value(row, depth)
    return out
  }

  /** The row that shows under each key of a map that has one. */
  #shown(object: Obj): Map<string, number> {
    const { key } = this.#rows
    const shown = new Map<string, number>()
    for (let row = object.head; row >= 0; row = this.#next[row]!) {
      const name = key.get(row)
      if (name === undefined || name === '__proto__') throw new Unreadable('a key is missing')
      const winner = this.#winner(shown.get(name) ?? -1, row)
      if (winner >= 0) shown.set(name, winner)
    }
    return shown
  }

  /** The row that shows of each element. */
  #elements(object: Obj): Int32Array {
    const { insert, gone } = this.#rows
    const next = this.#next
    const out = new Int32Array(object.size)
    let [length, shown] = [0, -1]
    for (let row = object.head; row >= 0; row = next[row]!) {
      if (insert[row]) {
        if (shown >= 0) out[length++] = shown
        shown = -1
      }
      if (!gone[row]) shown = this.#winner(shown, row)
    }
    if (shown >= 0) out[length++] = shown
    return out.subarray(0, length)
  }

  #text(object: Obj): string {
    const { action, valueMeta, valueAt, values, insert, gone, later, count: rows } = this.#rows
    // Mostly each row is a character of its own, and nobody typed behind the document.
    const inRow =
      later === rows &&
      object.head >= 0 &&
      !insert.subarray(object.head, object.head + object.size).includes(0)
    const shown = inRow ? null : this.#elements(object)
    const count = shown ? shown.length : object.size
    const out = new Uint8Array(values.length + NO_TEXT.length * count)
    let length = 0
    // A plain loop: this runs once, before anything could make iterators quick.
    for (let i = 0; i < count; i++) {
      const row = shown ? shown[i]! : object.head + i
      if (gone[row] === 1 || action[row] === ACTION.mark) continue
      const meta = valueMeta[row]!
      const plain = action[row] === ACTION.set && (meta & 15) === TYPE.text
      const from = plain ? values : NO_TEXT
      let at = plain ? valueAt[row]! : 0
      for (const end = at + (plain ? meta >>> 4 : NO_TEXT.length); at < end; at++) out[length++] = from[at]!
    }
    return UTF8.decode(out.subarray(0, length))
  }

  #value(row: number, depth: number): unknown {
    const { action, idCounter, idActor } = this.#rows
    if (action[row] === ACTION.set) return this.#scalar(row)
    if (depth >= MAX_DEPTH) throw new Unreadable('objects lie too deep in each other')
    const object = this.#objects.get(idCounter.at(row) * ACTORS + idActor[row]!)!
    if (object.kind === 'map') return this.#map(object, depth + 1)
    if (object.kind === 'text') return this.#text(object)
    return Array.from(this.#elements(object), element => this.#value(element, depth + 1))
  }

  #scalar(row: number): unknown {
    const { valueMeta, valueAt, values } = this.#rows
    const meta = valueMeta[row]!
    const size = meta >>> 4
    const at = valueAt[row]!
    const reader = new ByteReader(values, at, at + size)
    switch (meta & 15) {
      case TYPE.null:
        return null
      case TYPE.false:
        return false
      case TYPE.true:
        return true
      case TYPE.uint:
        return reader.uleb()
      case TYPE.int:
        return reader.sleb()
      case TYPE.float:
        if (size !== 8) break
        return new DataView(values.buffer, values.byteOffset + at, 8).getFloat64(0, true)
      case TYPE.text:
        return new Automerge.ImmutableString(UTF8.decode(values.subarray(at, at + size)))
      case TYPE.bytes:
        return values.slice(at, at + size)
      case TYPE.time:
        return new Date(reader.sleb())
    }
    throw new Unreadable('a value is of a type that is not read')
  }
}
