import * as Automerge from '@automerge/automerge'
import { ChangeSet, Text } from '@codemirror/state'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { byDifference, changesOf, splicesOf } from '../../renderer/editor/text-edits.ts'

type Doc = { text: string; other: string }
const make = (text: string): Automerge.Doc<Doc> => Automerge.from<Doc>({ text, other: 'untouched' })
const splice = (d: Doc, at: number, count: number, insert: string): void =>
  Automerge.splice(d as never, ['text'], at, count, insert)

const edits = fc.array(
  fc.record({ at: fc.nat(60), count: fc.nat(8), insert: fc.string({ unit: 'grapheme', maxLength: 6 }) }),
  { maxLength: 12 },
)
/** Positions that do not split a surrogate pair, as an editor's never do. */
const whole = (text: string, at: number): number => {
  const cut = Math.min(at, text.length)
  return /[\uDC00-\uDFFF]/.test(text.charAt(cut)) && /[\uD800-\uDBFF]/.test(text.charAt(cut - 1))
    ? cut - 1
    : cut
}

describe('an editor bound to a text', () => {
  it('[EDIT1] writes any set of changes as splices that give the same text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), edits, (start, list) => {
        let changes = ChangeSet.empty(start.length)
        let text = start
        for (const { at, count, insert } of list) {
          const from = whole(text, at)
          const to = whole(text, Math.min(text.length, from + count))
          const step = ChangeSet.of(
            { from, to: Math.max(from, to), insert: Text.of(insert.split('\n')) },
            text.length,
          )
          changes = changes.compose(step)
          text = step.apply(Text.of(text.split('\n'))).toString()
        }
        const doc = Automerge.change(make(start), d => {
          for (const { at, deleteCount, insert } of splicesOf(changes)) splice(d, at, deleteCount, insert)
        })
        expect(doc.text).toBe(text)
      }),
      { numRuns: 150 },
    )
  })

  it('[EDIT2] shows what others wrote by the patches of their changes, wherever they are', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 60 }), edits, (start, list) => {
        const before = make(start)
        const after = Automerge.change(before, d => {
          for (const { at, count, insert } of list) {
            const from = whole(d.text, at)
            const to = Math.max(from, whole(d.text, Math.min(d.text.length, from + count)))
            splice(d, from, to - from, insert)
          }
          d.other = 'touched'
        })
        const patches = Automerge.diff(after, Automerge.getHeads(before), Automerge.getHeads(after))
        const changes = changesOf(patches, ['text'], start.length)
        expect(changes?.apply(Text.of(start.split('\n'))).toString()).toBe(after.text)
      }),
      { numRuns: 150 },
    )
  })

  it('[EDIT3] replaces only the range that differs when there are no patches', () => {
    expect(byDifference('select 1', 'select 1')).toBeNull()
    expect(byDifference('select a, b', 'select a, c, b')).toEqual({ from: 10, to: 10, insert: 'c, ' })
    expect(byDifference('aaa', 'aa')).toEqual({ from: 2, to: 3, insert: '' })
  })
})
