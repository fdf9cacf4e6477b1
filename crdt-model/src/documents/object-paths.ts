import * as Automerge from '@automerge/automerge'
import { isMap, stringOf } from './registers.ts'

export type ChangeOp = Automerge.DecodedChange['ops'][number]

/**
 * Where each object of a document is: object id -> keys from the root. Covers what is visible, what lost a conflict (two
 * devices made the same key), and what `addChange` is told of.
 */
export class ObjectPaths {
  readonly #paths = new Map<string, readonly string[]>([['_root', []]])

  /** The paths of a pipeline's or comments document's objects. */
  static of(doc: Automerge.Doc<unknown>): ObjectPaths {
    const paths = new ObjectPaths()
    paths.#visit(doc as unknown as Record<string, unknown>, [])
    return paths
  }

  get(objectId: string): readonly string[] | undefined {
    return this.#paths.get(objectId)
  }

  /** Learns the objects that a change makes. */
  addChange(change: Automerge.DecodedChange): void {
    change.ops.forEach((op, index) => {
      if (!op.action.startsWith('make')) return
      const parent = this.#paths.get(op.obj)
      const key = opKey(op)
      if (parent && key !== undefined)
        this.#paths.set(`${change.startOp + index}@${change.actor}`, [...parent, key])
    })
  }

  #visit(map: Record<string, unknown>, path: readonly string[]): void {
    for (const key of Object.keys(map)) {
      const value = map[key]
      const inner = [...path, key]
      if (typeof value === 'string' && stringOf(value) !== undefined) {
        const id = Automerge.getObjectId(map, key)
        if (id) this.#paths.set(id, inner)
        continue
      }
      if (!isMap(value)) continue
      // Only a key that two devices made has more than one value; its losers are maps that can still be edited.
      const conflicts = Automerge.getConflicts(map, key)
      const values = conflicts ? Object.entries(conflicts) : [[Automerge.getObjectId(value), value] as const]
      for (const [id, held] of values) {
        if (!id) continue
        this.#paths.set(id, inner)
        if (isMap(held) && held === value) this.#visit(held, inner)
      }
    }
  }
}

/** The map key that an op writes; `undefined` for an op on a text or list. */
export function opKey(op: ChangeOp): string | undefined {
  const key = (op as { key?: unknown }).key
  return typeof key === 'string' ? key : undefined
}
