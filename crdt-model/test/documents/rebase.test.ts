import * as Automerge from '@automerge/automerge'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  createPipeline,
  editPipeline,
  type PipelineDoc,
  pipelineFromDoc,
  rebaseDefinition,
  spliceReport,
  updateStepSql,
  Without,
} from '../../src/index.ts'
import { anActor } from '../../src/testing/index.ts'

type Doc = Automerge.Doc<PipelineDoc>

const begun = (report = ''): Doc => createPipeline({ name: 'p', report })
const insert = (doc: Doc, at: number, text: string, remove = 0): Doc =>
  editPipeline(doc, 'type', d => spliceReport(d, at, remove, text))
const lastOf = (doc: Doc): string => Automerge.decodeChange(Automerge.getLastLocalChange(doc)!).hash
const without = (doc: Doc, hashes: readonly string[], heads = Automerge.getHeads(doc)): string => {
  const reader = new Without(doc, hashes)
  try {
    return reader.at(heads).report
  } finally {
    reader.free()
  }
}

describe('a pipeline without some of its changes', () => {
  it('[DOC13] has no letter that they wrote, though the word around it was edited since', () => {
    const guilty = insert(begun('pass=;'), 5, 'hunter2')
    const hash = lastOf(guilty)
    const edited = insert(insert(guilty, 8, '-'), 4, 'word')
    expect(pipelineFromDoc(edited).report).toBe('password=hun-ter2;')
    expect(without(edited, [hash])).toBe('password=-;')
    // At the heads of an older version as well, and where it was not written yet.
    expect(without(edited, [hash], [hash])).toBe('pass=;')
    expect(without(edited, [hash], startOf(edited))).toBe('pass=;')
  })

  it('[DOC13] what one of them took out of another does not come back with it', () => {
    const first = insert(begun('ab'), 1, 'hunter2')
    const wrote = lastOf(first)
    const second = insert(first, 1, 'X', 7)
    const took = lastOf(second)
    const third = insert(second, 3, '!')
    expect(pipelineFromDoc(third).report).toBe('aXb!')
    expect(without(third, [wrote, took])).toBe('ab!')
    expect(without(third, [took])).toBe('ahunter2b!')
  })

  it('[DOC13] what they took out is back once', () => {
    const first = insert(begun('a1b'), 1, 'X', 1)
    const one = lastOf(first)
    const second = insert(first, 2, 'Y')
    expect(without(second, [one, lastOf(second)])).toBe('a1b')
  })

  it('[DOC13] loses their letters and keeps all others, whoever wrote them where at the same time', () => {
    const letters = (count: number) =>
      Array.from({ length: count }, (_, i) => String.fromCharCode(0x4e00 + i))
    const deed = fc.record({ who: fc.nat(2), at: fc.nat(40), merges: fc.boolean(), guilty: fc.boolean() })
    fc.assert(
      fc.property(fc.array(deed, { minLength: 1, maxLength: 25 }), deeds => {
        const base = begun('one two')
        const docs = Array.from({ length: 3 }, () => Automerge.clone(base, { actor: anActor() }))
        const marks = letters(deeds.length)
        const hashes: string[] = []
        for (const [i, { who, at, merges }] of deeds.entries()) {
          const { length } = pipelineFromDoc(docs[who]!).report
          docs[who] = insert(docs[who]!, Math.min(at, length), `${marks[i]}${i % 2 ? 'a' : ''}`)
          hashes.push(lastOf(docs[who]!))
          if (merges) docs[who] = Automerge.merge(docs[who]!, docs[(who + 1) % 3]!)
        }
        const whole = docs.reduce((into, doc) => Automerge.merge(into, doc), Automerge.clone(base))
        const text = without(
          whole,
          hashes.filter((_, i) => deeds[i]!.guilty),
        )
        for (const [i, { guilty }] of deeds.entries()) expect(text.includes(marks[i]!)).toBe(!guilty)
      }),
      { numRuns: 100 },
    )
  })
})

describe('edits that are made on another content', () => {
  it('[DOC13] bring no letter of their base along with the word that they edited', () => {
    const base = insert(begun('丄七丂一'), 0, '丅a')
    const mine = insert(insert(base, 0, '丆'), 6, '丁')
    expect(pipelineFromDoc(mine).report).toBe('丆丅a丄七丂丁一')
    const theirs = { ...pipelineFromDoc(base), report: '丄七丂一' }
    expect(rebaseDefinition({ base, mine }, theirs).report).toBe('丆丄七丂丁一')
  })

  it('[DOC13] are found by comparing when there is no common history', () => {
    const sql = (text: string): Doc =>
      createPipeline({ name: 'p', steps: [{ id: 'a', name: 'a', sql: text }] })
    const base = sql('select 1 from x')
    const theirs = editPipeline(sql('select 1 from x'), 'edit', d => updateStepSql(d, 'a', 'select 1 from y'))
    const rebased = rebaseDefinition({ base, mine: sql('select 2 from x') }, pipelineFromDoc(theirs))
    expect(rebased.steps[0]!.sql).toBe('select 2 from y')
  })
})

const startOf = (doc: Doc): string[] =>
  Automerge.getChangesMetaSince(doc, [])
    .filter(change => change.deps.length === 0)
    .map(change => change.hash)
