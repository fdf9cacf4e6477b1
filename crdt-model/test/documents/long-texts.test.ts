import * as Automerge from '@automerge/automerge'
import { describe, expect, it } from 'vitest'
import {
  addStep,
  createPipeline,
  editPipeline,
  makeEqualTo,
  type PipelineDoc,
  pipelineFromDoc,
  spliceReport,
  spliceStepSql,
  updateReport,
} from '../../src/index.ts'
import { LIMITS } from '../../src/protocol/index.ts'

type Doc = Automerge.Doc<PipelineDoc>

/** Of several lines, with characters of one, two and three bytes and of two units. */
const LINE = 'select sum(amount) as 합계, «🦆» from orders where day > 1 -- note\n'
const text = (units: number, from = 0): string =>
  Array.from({ length: Math.ceil(units / 60) }, (_, i) => `${from + i} ${LINE}`)
    .join('')
    .slice(0, units)
    .toWellFormed()

/** Each change is one that a server takes. */
function sizes(changes: readonly Uint8Array[]): number {
  for (const bytes of changes) {
    expect(Automerge.decodeChange(bytes).ops.length).toBeLessThanOrEqual(LIMITS.changeOps)
    expect(bytes.length).toBeLessThanOrEqual(LIMITS.changeBytes)
  }
  return changes.length
}
const since = (before: Doc, after: Doc): number =>
  sizes(Automerge.getChangesSince(after, Automerge.getHeads(before)))

describe('texts longer than a change', () => {
  const steps = Array.from({ length: 12 }, (_, i) => ({
    id: `0190a000-0000-7000-8000-0000000000${10 + i}`,
    name: `step_${i}`,
    sql: text(9_000, i * 1_000),
  }))

  it('[DOC11] a new pipeline whose texts together are long is whole, in changes that a server takes', () => {
    const doc = createPipeline({ name: 'long', report: text(130_000), steps })
    const read = pipelineFromDoc(doc)
    expect(read.report === text(130_000)).toBe(true)
    expect(read.steps.map(step => step.sql)).toEqual(steps.map(step => step.sql))
    expect(sizes(Automerge.getAllChanges(doc))).toBeGreaterThan(5)
    expect(sizes(Automerge.getAllChanges(createPipeline({ name: 'short', report: text(900) })))).toBe(1)
  })

  it('[DOC2][DOC11] made equal to other long texts it is equal, in changes that a server takes', () => {
    const doc = createPipeline({ name: 'long', report: text(90_000), steps })
    const wanted = {
      ...pipelineFromDoc(doc),
      report: `${text(50_000, 70_000)}${text(30_000)}`,
      steps: pipelineFromDoc(doc).steps.map(step => ({ ...step, sql: text(9_000, 500_000) })),
    }
    const next = makeEqualTo(Automerge.clone(doc), wanted, 'import')
    expect(pipelineFromDoc(next)).toEqual(wanted)
    expect(since(doc, next)).toBeGreaterThan(2)
  })

  it('[DOC11] an editor’s splices of any length come out as they were made', () => {
    const id = steps[0]!.id
    const doc = createPipeline({ name: 'long', report: text(100), steps: [steps[0]!] })
    const pasted = text(120_000, 9_000)
    const sql = steps[0]!.sql
    const after = editPipeline(Automerge.clone(doc), 'paste', d => {
      spliceStepSql(d, id, 10, 5, pasted)
      spliceStepSql(d, id, 3, 2, 'abc🦆')
      spliceReport(d, 0, 0, '# ')
      spliceStepSql(d, id, 0, 1, '')
    })
    const first = sql.slice(0, 10) + pasted + sql.slice(15)
    const second = `${first.slice(0, 3)}abc🦆${first.slice(5)}`
    expect(after.steps[id]!.sql === second.slice(1)).toBe(true)
    expect(after.report).toBe(`# ${text(100)}`)
    expect(since(doc, after)).toBe(4)

    const gone = editPipeline(Automerge.clone(after), 'delete', d => spliceStepSql(d, id, 4, 125_000))
    expect(
      gone.steps[id]!.sql === after.steps[id]!.sql.slice(0, 4) + after.steps[id]!.sql.slice(125_004),
    ).toBe(true)
    expect(since(after, gone)).toBe(4)
    const one = editPipeline(Automerge.clone(gone), 'type', d => spliceStepSql(d, id, 0, 0, 'x'))
    expect(since(gone, one)).toBe(1)
  })

  it('[DOC11] a step that is added and a report that is written anew may be long as well', () => {
    const doc = createPipeline({ name: 'long' })
    let id = ''
    const after = editPipeline(Automerge.clone(doc), 'add', d => {
      updateReport(d, text(45_000))
      id = addStep(d, { name: 'big', sql: text(60_000) })
      updateReport(d, text(44_000, 9))
    })
    expect(after.report === text(44_000, 9)).toBe(true)
    expect(after.steps[id]!.sql === text(60_000)).toBe(true)
    since(doc, after)
  })

  it('[DOC11] half a character is never cut off', () => {
    const ducks = '🦆'.repeat(50_001)
    const doc = createPipeline({ name: 'ducks', report: `a${ducks}` })
    expect(doc.report === `a${ducks}`).toBe(true)
    const none = editPipeline(doc, 'none', d => updateReport(d, 'b'))
    expect(none.report).toBe('b')
  })
})
