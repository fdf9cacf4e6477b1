import type { Patch } from '@automerge/automerge'
import { ChangeSet } from '@codemirror/state'

/** One edit of a document's text; positions count UTF-16 code units, as the editor's do. */
export interface Splice {
  readonly at: number
  readonly deleteCount: number
  readonly insert: string
}

/** An editor's changes as splices to be made one after the other. */
export function splicesOf(changes: ChangeSet): Splice[] {
  const splices: Splice[] = []
  changes.iterChanges((fromA, toA, fromB, _toB, inserted) => {
    splices.push({
      at: fromB,
      deleteCount: toA - fromA,
      insert: inserted.sliceString(0, inserted.length, '\n'),
    })
  }, true)
  return splices
}

/** The document's patches below `path` as an editor's changes; null when they do not fit a text of this length. */
export function changesOf(
  patches: readonly Patch[],
  path: readonly (string | number)[],
  length: number,
): ChangeSet | null {
  let changes = ChangeSet.empty(length)
  for (const patch of patches) {
    if (!isIn(patch, path)) continue
    const at = patch.path.at(-1)
    const removed = patch.action === 'del' ? (patch.length ?? 1) : 0
    if (typeof at !== 'number' || at + removed > changes.newLength) return null
    const fits = changes.newLength
    if (patch.action === 'splice')
      changes = changes.compose(ChangeSet.of({ from: at, insert: patch.value }, fits, '\n'))
    else if (patch.action === 'del')
      changes = changes.compose(ChangeSet.of({ from: at, to: at + removed }, fits))
    else return null
  }
  return changes
}

const isIn = (patch: Patch, path: readonly (string | number)[]): boolean =>
  patch.path.length === path.length + 1 && path.every((part, index) => part === patch.path[index])

/** The one replaced range between two texts; null when they are equal. */
export function byDifference(
  held: string,
  wanted: string,
): { from: number; to: number; insert: string } | null {
  if (held === wanted) return null
  const most = Math.min(held.length, wanted.length)
  let start = 0
  while (start < most && held[start] === wanted[start]) start += 1
  let end = 0
  while (end < most - start && held[held.length - 1 - end] === wanted[wanted.length - 1 - end]) end += 1
  return { from: start, to: held.length - end, insert: wanted.slice(start, wanted.length - end) }
}
