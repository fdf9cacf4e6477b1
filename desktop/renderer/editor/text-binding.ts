import type { Patch } from '@automerge/automerge'
import { Annotation, ChangeSet, type Extension, Transaction, type TransactionSpec } from '@codemirror/state'
import { EditorView, type ViewUpdate } from '@codemirror/view'

/** The text of a document that an editor shows. */
export interface BoundText {
  /** Where it is in the document, for example `['steps', id, 'sql']`. */
  readonly path: readonly (string | number)[]
  read(): string
  /** Makes one change of these splices, positions counted as they are met one after the other. Answers whether it was made. */
  splice(splices: readonly Splice[]): boolean
  /** Tells about changes that this editor did not make; empty patches mean that anything may differ. */
  onChange(listener: (patches: readonly Patch[]) => void): () => void
}
export interface Splice {
  readonly at: number
  readonly deleteCount: number
  readonly insert: string
}

/** Marks transactions that come from the document, so that they are not written back. */
export const fromDocument = Annotation.define<boolean>()

/**
 * Binds an editor to a text. What is typed becomes splices of the document at once; what others type becomes a transaction
 * that keeps the cursor and never enters this editor's undo history, so undo takes back one's own changes only.
 */
export function bindText(text: BoundText): Extension {
  return EditorView.updateListener.of((update: ViewUpdate) => {
    for (const transaction of update.transactions) {
      if (!transaction.docChanged || transaction.annotation(fromDocument)) continue
      const splices: Splice[] = []
      transaction.changes.iterChanges((fromA, toA, fromB, _toB, inserted) => {
        splices.push({ at: fromB, deleteCount: toA - fromA, insert: inserted.toString() })
      })
      // Refused (read-only, gone): show again what the document holds. Later, as an update may not dispatch.
      if (!text.splice(splices)) queueMicrotask(() => followDocument(update.view, text, []))
    }
  })
}

/** Takes over what the document holds now: by its patches, and whole where they do not lead there. */
export function followDocument(view: EditorView, text: BoundText, patches: readonly Patch[]): void {
  const wanted = text.read()
  const spec = byPatches(view, text, patches, wanted) ?? byDifference(view.state.doc.toString(), wanted)
  if (!spec) return
  view.dispatch({
    ...spec,
    annotations: [fromDocument.of(true), Transaction.addToHistory.of(false), Transaction.remote.of(true)],
  })
}

function byPatches(
  view: EditorView,
  text: BoundText,
  patches: readonly Patch[],
  wanted: string,
): TransactionSpec | null {
  let changes = ChangeSet.empty(view.state.doc.length)
  for (const patch of patches) {
    if (!inText(patch, text.path)) continue
    const at = patch.path.at(-1)
    const length = patch.action === 'del' ? (patch.length ?? 1) : 0
    if (typeof at !== 'number' || at + length > changes.newLength) return null
    if (patch.action === 'splice')
      changes = changes.compose(ChangeSet.of({ from: at, insert: patch.value }, changes.newLength))
    else if (patch.action === 'del')
      changes = changes.compose(ChangeSet.of({ from: at, to: at + length }, changes.newLength))
    else return null
  }
  return !changes.empty && changes.apply(view.state.doc).toString() === wanted ? { changes } : null
}

const inText = (patch: Patch, path: readonly (string | number)[]): boolean =>
  patch.path.length === path.length + 1 && path.every((part, index) => part === patch.path[index])

/** The one replaced range between two texts; null when they are equal. */
export function byDifference(held: string, wanted: string): TransactionSpec | null {
  if (held === wanted) return null
  const most = Math.min(held.length, wanted.length)
  let start = 0
  while (start < most && held[start] === wanted[start]) start += 1
  let end = 0
  while (end < most - start && held[held.length - 1 - end] === wanted[wanted.length - 1 - end]) end += 1
  return { changes: { from: start, to: held.length - end, insert: wanted.slice(start, wanted.length - end) } }
}
