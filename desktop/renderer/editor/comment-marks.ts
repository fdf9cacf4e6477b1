import { StateEffect, StateField } from '@codemirror/state'
import { Decoration, type DecorationSet, EditorView, GutterMarker, gutter } from '@codemirror/view'

export interface CommentMark {
  readonly threadId: string
  readonly from: number
  readonly to: number
  readonly label: string
}
export const setCommentMarks = StateEffect.define<readonly CommentMark[]>()

const markOf = (threadId: string) => Decoration.mark({ class: 'cm-comment-mark', threadId })

const commentMarks = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(held, transaction) {
    let next = held.map(transaction.changes)
    for (const effect of transaction.effects)
      if (effect.is(setCommentMarks))
        next = Decoration.set(
          effect.value
            .filter(({ from, to }) => from < to && to <= transaction.newDoc.length)
            .map(({ threadId, from, to }) => markOf(threadId).range(from, to)),
          true,
        )
    return next
  },
  provide: field => EditorView.decorations.from(field),
})

class Bubble extends GutterMarker {
  readonly threadId: string
  readonly label: string
  private readonly go: (threadId: string) => void
  constructor(threadId: string, label: string, go: (threadId: string) => void) {
    super()
    this.threadId = threadId
    this.label = label
    this.go = go
  }
  override eq(other: Bubble): boolean {
    return other.threadId === this.threadId
  }
  override toDOM(): HTMLElement {
    const button = document.createElement('button')
    button.type = 'button'
    button.textContent = '●'
    button.title = this.label
    button.setAttribute('aria-label', this.label)
    button.onclick = () => this.go(this.threadId)
    return button
  }
}

/** Marks commented lines in the text and in a gutter; a click on the gutter opens the thread. */
export const commentsIn = (label: string, go: (threadId: string) => void) => [
  commentMarks,
  gutter({
    class: 'cm-comment-gutter',
    lineMarker(view, line) {
      let found: Bubble | null = null
      view.state.field(commentMarks).between(line.from, line.to, (from, _to, decoration) => {
        if (from < line.from || from > line.to) return
        found = new Bubble(String((decoration.spec as { threadId: string }).threadId), label, go)
        return false
      })
      return found
    },
    lineMarkerChange: update =>
      update.docChanged ||
      update.transactions.some(({ effects }) => effects.some(effect => effect.is(setCommentMarks))),
  }),
]
