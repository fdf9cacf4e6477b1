import * as Automerge from '@automerge/automerge'
import { expect, it } from 'vitest'
import {
  blameLines,
  ChangeFinder,
  createPipeline,
  editPipeline,
  type PipelineDoc,
  spliceStepSql,
  updateReport,
  updateStepSql,
} from '../../src/index.ts'

const last = (doc: Automerge.Doc<PipelineDoc>) => Automerge.getHeads(doc)[0]

it('[BLAME1] each line is the change that wrote its newest character; lines that stayed stay whose they were', () => {
  let doc = createPipeline({
    name: 'p',
    steps: [{ id: 'a', name: 'a', sql: 'select 1\nfrom x\n\nlimit 5\n' }],
  })
  const first = last(doc)
  const versions = [{ number: 1, heads: Automerge.getHeads(doc) }]
  const other = Automerge.clone(doc)
  doc = editPipeline(doc, 'import', d => updateStepSql(d, 'a', 'select 1\nfrom x\nwhere y\n\nlimit 5\n'))
  const second = last(doc)
  versions.push({ number: 2, heads: Automerge.getHeads(doc) })
  const theirs = editPipeline(other, 'type', d => spliceStepSql(d, 'a', 7, 1, '2'))
  const third = last(theirs)
  doc = Automerge.merge(doc, theirs)
  const finder = new ChangeFinder(doc, versions)
  expect(blameLines(doc, 'a', finder)).toEqual([
    { text: 'select 2', length: 9, change: third },
    { text: 'from x', length: 7, change: first },
    { text: 'where y', length: 8, change: second },
    { text: '', length: 1, change: expect.any(String) },
    { text: 'limit 5', length: 8, change: first },
  ])
  expect([first, second, third].map(change => finder.versionOf(change as string))).toEqual([1, 2, null])
})

it('[BLAME1] the report, an empty text and what is not there', () => {
  let doc = createPipeline({ name: 'p', steps: [{ id: 'a', name: 'a', sql: '' }], report: 'one\r\ntwo' })
  const first = last(doc)
  doc = editPipeline(doc, 'edit', d => updateReport(d, 'one\r\ntwo\r\n😀 three'))
  const finder = new ChangeFinder(doc)
  expect(blameLines(doc, 'report', finder)).toMatchObject([
    { text: 'one', length: 5, change: first },
    { text: 'two', length: 5, change: last(doc) },
    { text: '😀 three', length: 8, change: last(doc) },
  ])
  expect(blameLines(doc, 'a', finder)).toEqual([{ text: '', length: 0, change: null }])
  expect(blameLines(doc, 'nothing', finder)).toEqual([])
})
