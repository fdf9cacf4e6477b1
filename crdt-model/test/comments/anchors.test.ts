import * as Automerge from '@automerge/automerge'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  createPipeline,
  editPipeline,
  makeAnchor,
  type PipelineDoc,
  pipelineFromDoc,
  removeStep,
  resolveAnchor,
  restoreStep,
  spliceStepSql,
  updateStepSql,
} from '../../src/index.ts'
import { anActor, anyText, aPipeline } from '../../src/testing/index.ts'

const SQL = 'select sum(amount) as total from orders'
const ID = 'step-a'
const fresh = (sql = SQL) => createPipeline(aPipeline({ steps: [{ name: 'a', sql }] }))
const sqlOf = (doc: Automerge.Doc<PipelineDoc>) => pipelineFromDoc(doc).steps[0]!.sql
const splice = (doc: Automerge.Doc<PipelineDoc>, at: number, count: number, text = '') =>
  editPipeline(Automerge.clone(doc, { actor: anActor() }), 'edit', d => spliceStepSql(d, ID, at, count, text))

function read(doc: Automerge.Doc<PipelineDoc>, anchor: ReturnType<typeof makeAnchor>) {
  const found = resolveAnchor(doc, anchor)
  return found.state === 'at' ? sqlOf(doc).slice(found.from, found.to) : found
}

describe('anchors', () => {
  it('[CMT9] an anchor follows its text as it moves, grows and shrinks', () => {
    const doc = fresh()
    const anchor = makeAnchor(doc, ID, 7, 18)
    expect(anchor.quote).toBe('sum(amount)')
    expect(read(doc, anchor)).toBe('sum(amount)')
    expect(read(splice(doc, 0, 0, '-- why\n'), anchor)).toBe('sum(amount)')
    expect(read(splice(doc, 11, 6, 'price'), anchor)).toBe('sum(price)')
    expect(read(splice(doc, 0, 11), anchor)).toBe('amount)')
    expect(read(splice(doc, 14, 25), anchor)).toBe('sum(amo')
    expect(read(splice(doc, 18, 0, '!'), anchor)).toBe('sum(amount)')
  })

  it('[CMT10] when all of the range is gone it is orphaned and says what it was, wherever it stood', () => {
    for (const [from, to] of [
      [0, 6],
      [7, 18],
      [33, 39],
      [0, 39],
    ] as const) {
      const doc = fresh()
      const anchor = makeAnchor(doc, ID, from, to)
      const gone = splice(doc, from, to - from)
      expect(read(gone, anchor)).toEqual({ state: 'orphaned', quote: SQL.slice(from, to) })
      expect(read(splice(gone, from, 0, 'new'), anchor)).toMatchObject({ state: 'orphaned' })
    }
    const doc = fresh()
    const anchor = makeAnchor(doc, ID, 0, 6)
    const removed = editPipeline(doc, 'remove', d => removeStep(d, ID))
    expect(resolveAnchor(removed, anchor).state).toBe('orphaned')
    expect(
      read(
        editPipeline(removed, 'restore', d => restoreStep(d, ID)),
        anchor,
      ),
    ).toBe('select')
    expect(resolveAnchor(fresh(), anchor).state).toBe('orphaned')
  })

  it('[CMT9] whatever is typed outside the range, its text stays the quote', () => {
    fc.assert(
      fc.property(anyText, anyText, anyText, anyText, (head, body, tail, typed) => {
        const doc = fresh(head.toWellFormed() + body.toWellFormed() + tail.toWellFormed())
        const from = head.length
        const anchor = makeAnchor(doc, ID, from, from + body.length)
        const next = editPipeline(doc, 'edit', d => {
          spliceStepSql(d, ID, from + body.length, tail.length, typed)
          spliceStepSql(d, ID, 0, head.length, typed)
        })
        expect(sqlOf(next)).toBe(typed + body + typed)
        const found = resolveAnchor(next, anchor)
        if (body.length > 0) expect(read(next, anchor)).toBe(body)
        else expect(found.state).toBe('at')
      }),
      { numRuns: 30 },
    )
  })

  it('[CMT9] anchors live through an import that rewrites the text', () => {
    const doc = fresh('select 1;\nselect 2;\nselect 3;\n')
    const anchor = makeAnchor(doc, ID, 10, 19)
    const next = editPipeline(doc, 'import', d => updateStepSql(d, ID, '-- x\nselect 1;\nselect 2;\n'))
    expect(read(next, anchor)).toBe('select 2;')
  })
})
