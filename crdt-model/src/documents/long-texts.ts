import * as Automerge from '@automerge/automerge'
import { type Splice, splicesBetween } from '../diff/splices.ts'

/**
 * UTF-16 units of texts that one change inserts and deletes at most. Each is an operation, of which a change has 50,000 at most, and
 * three bytes of its 256 KiB (`LIMITS`); the rest is room for everything else.
 */
export const CHANGE_UNITS = 40_000

/** What a text lacks of what it shall be, from the last place to the first. */
interface Rest {
  readonly path: readonly string[]
  readonly wanted: string
  readonly splices: readonly Splice[]
}

interface Room {
  units: number
  /** By the paths of the texts. */
  readonly later: Map<string, Rest>
}

/** Of documents that are being changed, by what their edits are handed. */
const rooms = new WeakMap<object, Room>()

/**
 * `Automerge.change` for texts of any length: where they are longer than a change takes, what is left of them follows in further
 * changes with the same message. Without a change the document is returned as it is.
 */
export function changeWhole<D extends object>(
  doc: Automerge.Doc<D>,
  message: string,
  edit: (d: D) => void,
): Automerge.Doc<D> {
  const room: Room = { units: CHANGE_UNITS, later: new Map() }
  const change = (from: Automerge.Doc<D>, write: (d: D) => void): Automerge.Doc<D> =>
    Automerge.change(from, { message }, d => {
      rooms.set(d, room)
      write(d as D)
    })
  let next = change(doc, edit)
  while (room.later.size > 0) {
    room.units = CHANGE_UNITS
    next = change(next, d => {
      for (const rest of [...room.later.values()]) apply(d, rest)
    })
  }
  return next
}

/** A new text, as the value of a key of an object that is being made: empty when the change has no room for it, and written then. */
export function newText(root: object, text: string): string {
  const room = rooms.get(root)
  const wanted = text.toWellFormed()
  if (!room) return wanted
  if (wanted.length > room.units) return ''
  room.units -= wanted.length
  return wanted
}

/**
 * Makes the text at `path` equal to `next` by splices that keep what stays; creates it when there is none. Half a character
 * (a lone surrogate) becomes U+FFFD.
 */
export function writeText(root: object, path: readonly string[], next: string): void {
  const wanted = next.toWellFormed()
  if (textAt(root, path) === null) parentOf(root, path)[path.at(-1)!] = newText(root, wanted)
  apply(root, { path, wanted, splices: splicesBetween(textAt(root, path) ?? '', wanted) })
}

/** As much of it as there is room for; the rest waits for the next change. */
function apply(root: object, { path, wanted, splices }: Rest): void {
  const room = rooms.get(root)
  const key = JSON.stringify(path)
  room?.later.delete(key)
  const held = textAt(root, path) ?? ''
  for (const [i, { at, remove, insert }] of splices.entries()) {
    const removed = room ? upTo(held.slice(at, at + remove), room.units).length : remove
    const inserted = room ? upTo(insert, room.units - removed) : insert
    if (removed > 0 || inserted.length > 0) spliceAt(root, path, at, removed, inserted)
    if (room) room.units -= removed + inserted.length
    if (removed < remove || inserted.length < insert.length) {
      const rest = {
        at: at + inserted.length,
        remove: remove - removed,
        insert: insert.slice(inserted.length),
      }
      room?.later.set(key, { path, wanted, splices: [rest, ...splices.slice(i + 1)] })
      return
    }
  }
}

/** Splices a text as an editor does. Positions count UTF-16 code units, in the text as the splices before it left it. */
export function spliceText(
  root: object,
  path: readonly string[],
  at: number,
  deleteCount: number,
  insert: string,
): void {
  const own = { at, remove: deleteCount, insert: insert.toWellFormed() }
  const waiting = rooms.get(root)?.later.get(JSON.stringify(path))?.wanted
  const held = waiting ?? textAt(root, path) ?? ''
  const wanted = held.slice(0, at) + own.insert + held.slice(at + deleteCount)
  if (waiting === undefined) apply(root, { path, wanted, splices: [own] })
  else writeText(root, path, wanted)
}

const spliceAt = (root: object, path: readonly string[], at: number, remove: number, insert: string): void =>
  Automerge.splice(root as Automerge.Doc<unknown>, [...path], at, remove, insert)

function parentOf(root: object, path: readonly string[]): Record<string, unknown> {
  let parent = root as Record<string, unknown>
  for (const key of path.slice(0, -1)) parent = parent[key] as Record<string, unknown>
  return parent
}

function textAt(root: object, path: readonly string[]): string | null {
  const held = parentOf(root, path)[path.at(-1)!]
  return typeof held === 'string' ? held : null
}

/** So many units of a text at most, never half a character. */
function upTo(text: string, units: number): string {
  if (text.length <= units) return text
  const last = text.charCodeAt(units - 1)
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? units - 1 : units)
}
