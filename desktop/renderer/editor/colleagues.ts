import { StateEffect, StateField } from '@codemirror/state'
import { Decoration, type DecorationSet, EditorView, WidgetType } from '@codemirror/view'

export interface ColleagueCursor {
  readonly name: string
  readonly at: number
}
export const setColleagues = StateEffect.define<readonly ColleagueCursor[]>()

class Caret extends WidgetType {
  readonly name: string
  constructor(name: string) {
    super()
    this.name = name
  }
  override eq(other: Caret): boolean {
    return other.name === this.name
  }
  override toDOM(): HTMLElement {
    const caret = document.createElement('span')
    caret.className = 'cm-colleague'
    caret.setAttribute('aria-hidden', 'true')
    const label = document.createElement('span')
    label.textContent = this.name
    caret.append(label)
    return caret
  }
}

/** Where other people's cursors are; they move with the text until the next word from them. */
export const colleagues = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(held, transaction) {
    let next = held.map(transaction.changes)
    for (const effect of transaction.effects)
      if (effect.is(setColleagues))
        next = Decoration.set(
          effect.value.map(({ name, at }) =>
            Decoration.widget({ widget: new Caret(name), side: 1 }).range(
              Math.min(at, transaction.newDoc.length),
            ),
          ),
          true,
        )
    return next
  },
  provide: field => EditorView.decorations.from(field),
})
