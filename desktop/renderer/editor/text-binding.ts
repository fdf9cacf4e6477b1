import type { Patch } from '@automerge/automerge'
import { Annotation, type Extension, Transaction } from '@codemirror/state'
import { EditorView, type ViewUpdate } from '@codemirror/view'
import { byDifference, changesOf, type Splice, splicesOf } from './text-edits.ts'

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
      // Refused (read-only, gone): show again what the document holds. Later, as an update may not dispatch.
      if (!text.splice(splicesOf(transaction.changes)))
        queueMicrotask(() => followDocument(update.view, text, []))
    }
  })
}

/** Takes over what the document holds now: by its patches, and whole where they do not lead there. */
export function followDocument(view: EditorView, text: BoundText, patches: readonly Patch[]): void {
  const wanted = text.read()
  const patched = changesOf(patches, text.path, view.state.doc.length)
  const fits = patched && !patched.empty && patched.apply(view.state.doc).toString() === wanted
  const changes = fits ? patched : byDifference(view.state.doc.toString(), wanted)
  if (!changes) return
  view.dispatch({
    changes,
    annotations: [fromDocument.of(true), Transaction.addToHistory.of(false), Transaction.remote.of(true)],
  })
}
