import * as Automerge from '@automerge/automerge'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  addTest,
  type ChangeRecord,
  conflictMarks,
  createPipeline,
  editPipeline,
  moveStep,
  type PipelineDoc,
  pipelineFromDoc,
  removeParam,
  removeStep,
  removeTest,
  renameStep,
  restoreStep,
  setName,
  setParam,
  setPublish,
  setStepSetting,
  setTags,
  spliceReport,
  spliceStepSql,
  takeSide,
  updateStepSql,
  updateTest,
} from '../../src/index.ts'
import { anActor, anyDeeds, aPipeline, offlineRecords, playDeeds } from '../../src/testing/index.ts'

type Doc = Automerge.Doc<PipelineDoc>
const ORDERS = 'step-orders'
const fork = (doc: Doc): Doc => Automerge.clone(doc, { actor: anActor() })
const edit = (doc: Doc, change: (d: PipelineDoc) => void): Doc => editPipeline(doc, 'edit', change)

function setUp() {
  const base = createPipeline(aPipeline())
  return { base, since: Automerge.getHeads(base), a: fork(base), b: fork(base) }
}

function summary(doc: Doc, since: readonly string[], records = offlineRecords(doc)) {
  return conflictMarks({ doc, since, records }).map(({ kind, field, step_id, values }) => ({
    kind,
    field,
    step_id,
    values: [...values].sort((x, y) => (JSON.stringify(x) < JSON.stringify(y) ? -1 : 1)),
  }))
}

describe('marks', () => {
  it('[MARK1] two offline edits of one text mark it, with both sides', () => {
    const { since, a, b } = setUp()
    const left = edit(a, d => spliceStepSql(d, ORDERS, 7, 1, '2'))
    const right = edit(b, d => spliceStepSql(d, ORDERS, 7, 1, '3'))
    const merged = Automerge.merge(fork(left), right)
    expect(summary(merged, since)).toEqual([
      { kind: 'text', field: 'sql', step_id: ORDERS, values: ['select 2 as amount', 'select 3 as amount'] },
    ])
    const [mark] = conflictMarks({
      doc: merged,
      since,
      records: offlineRecords(merged, actor => `u-${actor}`),
    })
    expect(mark!.sides.map(side => side.author_ids).sort()).toEqual(
      [left, right].map(doc => [`u-${Automerge.getActorId(doc)}`]).sort(),
    )
  })

  it('[MARK2] edits of different things, in sequence, of the order, or equal ones mark nothing', () => {
    const { since, a, b } = setUp()
    const left = edit(a, d => spliceStepSql(d, ORDERS, 0, 0, '-- a\n'))
    const right = edit(b, d => {
      updateStepSql(d, 'step-revenue', 'select 1')
      moveStep(d, ORDERS, 1)
      setStepSetting(d, ORDERS, 'timeout_s', 3)
      spliceReport(d, 0, 0, 'x')
    })
    const merged = Automerge.merge(fork(left), right)
    const later = edit(merged, d => {
      spliceStepSql(d, ORDERS, 0, 0, '-- c\n')
      setStepSetting(d, ORDERS, 'timeout_s', 4)
      moveStep(d, ORDERS, 0)
    })
    expect(summary(later, since)).toEqual([])
    const same = Automerge.merge(
      edit(fork(a), d => setStepSetting(d, ORDERS, 'materialize', 'view')),
      edit(fork(b), d => setStepSetting(d, ORDERS, 'materialize', 'view')),
    )
    expect(summary(same, since)).toEqual([])
  })

  it('[MARK3] settings, names, params and tests are marked with both values', () => {
    const { base } = setUp()
    const first = edit(fork(base), d => {
      setParam(d, 'region', { type: 'text', default: 'EU' })
      addTest(d, ORDERS, { id: 't', type: 'not_null', column: 'x' })
    })
    const since = Automerge.getHeads(first)
    const left = edit(fork(first), d => {
      setStepSetting(d, ORDERS, 'materialize', 'view')
      renameStep(d, ORDERS, 'left')
      setParam(d, 'region', { default: 'US' })
      d.steps[ORDERS]!.tests.t!.deleted = true
    })
    const right = edit(fork(first), d => {
      setStepSetting(d, ORDERS, 'materialize', 'incremental')
      renameStep(d, ORDERS, 'right')
      d.params.region!.deleted = true
      d.steps[ORDERS]!.tests.t!.settings.column = new Automerge.ImmutableString('"y"')
    })
    const found = summary(Automerge.merge(left, right), since)
    expect(found.map(mark => `${mark.kind} ${mark.field}`).sort()).toEqual([
      'deletion params/region',
      'deletion tests/t',
      'setting materialize',
      'setting name',
    ])
    expect(found.find(mark => mark.field === 'materialize')?.values).toEqual(['incremental', 'view'])
    expect(found.find(mark => mark.field === 'params/region')?.values).toContain(null)
  })

  it('[MARK9] a mark is settled by one side, whatever it marks', () => {
    const { base } = setUp()
    const first = edit(fork(base), d => {
      setParam(d, 'region', { type: 'text', default: 'EU' })
      addTest(d, ORDERS, { id: 't', type: 'not_null', column: 'x' })
      setTags(d, ['a'])
    })
    const since = Automerge.getHeads(first)
    const left = edit(fork(first), d => {
      setStepSetting(d, ORDERS, 'timeout_s', 3)
      renameStep(d, ORDERS, 'left')
      setParam(d, 'region', { default: 'US', allowed: ['US'] })
      updateTest(d, ORDERS, 't', { type: 'unique', columns: ['x', 'y'] })
      spliceReport(d, 0, 0, 'left')
      setName(d, 'left')
      setTags(d, ['b'])
      setPublish(d, { report: false })
      removeStep(d, 'step-revenue')
      spliceStepSql(d, ORDERS, 0, 6, 'SELECT')
    })
    const right = edit(fork(first), d => {
      setStepSetting(d, ORDERS, 'timeout_s', 4)
      renameStep(d, ORDERS, 'right')
      removeParam(d, 'region')
      removeTest(d, ORDERS, 't')
      spliceReport(d, 0, 0, 'right')
      setName(d, 'right')
      setTags(d, [])
      setPublish(d, { report: true, snapshots: [{ step: 'orders', columns: [], max_rows: 5 }] })
      spliceStepSql(d, 'step-revenue', 0, 6, 'SELECT')
      spliceStepSql(d, ORDERS, 0, 6, 'Select')
    })
    const merged = Automerge.merge(fork(left), right)
    const marks = conflictMarks({ doc: merged, since, records: offlineRecords(merged) })
    expect(marks.map(mark => mark.field).sort()).toEqual([
      'deleted',
      'name',
      'name',
      'params/region',
      'report',
      'sql',
      'tags',
      'tests/t',
      'timeout_s',
    ])
    for (const wanted of [left, right]) {
      const settled = edit(fork(merged), d => {
        for (const mark of marks)
          takeSide(
            d,
            mark,
            mark.sides.findIndex(side => side.hashes[0] === Automerge.getHeads(wanted)[0]),
          )
      })
      const { publish: _, ...got } = pipelineFromDoc(settled)
      const { publish: __, ...expected } = pipelineFromDoc(wanted)
      expect(got).toEqual(expected)
    }
    expect(() => edit(fork(merged), d => takeSide(d, marks[0]!, 2))).toThrow(
      expect.objectContaining({ code: 'document.invalid' }),
    )
  })

  it('[MARK4] a deletion that met an edit is marked and loses nothing; two deletions are not', () => {
    const { since, a, b } = setUp()
    const removed = edit(fork(a), d => removeStep(d, ORDERS))
    const edited = edit(fork(b), d => spliceStepSql(d, ORDERS, 7, 1, '42'))
    const merged = Automerge.merge(fork(removed), edited)
    expect(summary(merged, since)).toEqual([
      {
        kind: 'deletion',
        field: 'deleted',
        step_id: ORDERS,
        values: [
          { deleted: false, sql: 'select 42 as amount' },
          { deleted: true, sql: 'select 1 as amount' },
        ],
      },
    ])
    const both = Automerge.merge(
      fork(removed),
      edit(fork(b), d => removeStep(d, ORDERS)),
    )
    expect(summary(both, since)).toEqual([])
    const restored = edit(merged, d => restoreStep(d, ORDERS))
    expect(summary(restored, since)).toHaveLength(1)
  })

  it('[MARK5] people who type beside each other live mark nothing, unless 5 s lie between', () => {
    const { since, a, b } = setUp()
    const left = edit(a, d => spliceStepSql(d, ORDERS, 0, 0, 'a'))
    const right = edit(b, d => spliceStepSql(d, ORDERS, 0, 0, 'b'))
    const doc = Automerge.merge(fork(left), right)
    const records = (liveRight: boolean, at: string): Map<string, ChangeRecord> =>
      new Map([
        [
          Automerge.getHeads(left)[0]!,
          { seq: 1, received_at: '2026-01-01T00:00:00.000Z', live: true, author_id: 'l' },
        ],
        [Automerge.getHeads(right)[0]!, { seq: 2, received_at: at, live: liveRight, author_id: 'r' }],
      ])
    expect(summary(doc, since, records(true, '2026-01-01T00:00:05.000Z'))).toHaveLength(0)
    expect(summary(doc, since, records(true, '2026-01-01T00:00:05.001Z'))).toHaveLength(1)
    expect(summary(doc, since, records(false, '2026-01-01T00:00:00.000Z'))).toHaveLength(1)
    expect(summary(doc, since, new Map())).toHaveLength(1)
  })

  it('[MARK6] later edits on top keep the mark; a further concurrent one makes another', () => {
    const { since, a, b, base } = setUp()
    const left = edit(a, d => spliceStepSql(d, ORDERS, 0, 0, 'a'))
    const right = edit(b, d => spliceStepSql(d, ORDERS, 0, 0, 'b'))
    const merged = Automerge.merge(fork(left), right)
    const idsOf = (doc: Doc, from = since) =>
      conflictMarks({ doc, since: from, records: offlineRecords(doc) }).map(mark => mark.id)
    const before = idsOf(merged)
    const later = edit(fork(merged), d => spliceStepSql(d, ORDERS, 0, 0, 'c'))
    expect(idsOf(later)).toEqual(before)
    const third = edit(fork(base), d => spliceStepSql(d, ORDERS, 0, 0, 'z'))
    const more = Automerge.merge(fork(later), third)
    expect(idsOf(more)).toHaveLength(1)
    expect(idsOf(more)).not.toEqual(before)
    expect(idsOf(merged, Automerge.getHeads(merged))).toEqual([])
  })

  it('[MARK7] an edit that had not seen the last version meets what that version changed', () => {
    const { base, a, b } = setUp()
    const published = edit(a, d => spliceStepSql(d, ORDERS, 7, 1, '2'))
    const since = Automerge.getHeads(published)
    const late = edit(
      edit(b, d => spliceReport(d, 0, 0, 'x')),
      d => spliceStepSql(d, ORDERS, 7, 1, '3'),
    )
    const merged = Automerge.merge(fork(published), late)
    expect(summary(merged, since)).toMatchObject([{ kind: 'text', field: 'sql' }])
    const knowing = edit(fork(published), d => spliceStepSql(d, ORDERS, 7, 1, '3'))
    expect(summary(knowing, since)).toEqual([])
    const early = Automerge.merge(
      edit(fork(base), d => spliceStepSql(d, ORDERS, 7, 1, '9')),
      published,
    )
    const both = Automerge.getHeads(early)
    expect(
      summary(
        edit(fork(early), d => spliceReport(d, 0, 0, 'y')),
        both,
      ),
    ).toEqual([])
  })

  it('[MARK8] the marks are the same on every device, whatever order the changes came in, and equal the definition', () => {
    fc.assert(
      fc.property(anyDeeds, fc.array(fc.boolean(), { minLength: 60, maxLength: 60 }), (deeds, lives) => {
        const base = createPipeline(aPipeline())
        const since = Automerge.getHeads(base)
        const replicas = playDeeds(base, deeds)
        const [a, b, c] = replicas
        const left = Automerge.merge(Automerge.merge(fork(a!), b!), c!)
        const right = Automerge.merge(Automerge.merge(fork(c!), a!), b!)
        const hashes = Automerge.getChangesMetaSince(left, [])
          .map(meta => meta.hash)
          .sort()
        const records = new Map(
          hashes.map((hash, at) => [
            hash,
            {
              seq: at,
              received_at: new Date(Date.UTC(2026, 0, 1, 0, 0, at * 2)).toISOString(),
              live: lives[at % lives.length]!,
              author_id: `u${at % 3}`,
            },
          ]),
        )
        const found = conflictMarks({ doc: left, since, records })
        expect(conflictMarks({ doc: right, since, records })).toEqual(found)
        const texts = textPairs(left, since, records)
        expect(found.filter(mark => mark.kind === 'text' && mark.field === 'sql').length).toBeLessThanOrEqual(
          texts.size,
        )
        for (const mark of found) expect(mark.sides.length).toBeGreaterThanOrEqual(2)
        for (const mark of found)
          if (mark.kind === 'text' && mark.step_id) expect(texts).toContain(mark.step_id)
      }),
      { numRuns: 25 },
    )
  })
})

/** The definition of a mark taken literally: every pair of changes, by their full ancestry. */
function textPairs(
  doc: Doc,
  since: readonly string[],
  records: ReadonlyMap<string, ChangeRecord>,
): Set<string> {
  const changes = Automerge.getAllChanges(doc).map(bytes => Automerge.decodeChange(bytes))
  const past = new Map<string, Set<string>>()
  for (const change of changes)
    past.set(change.hash, new Set([...change.deps, ...change.deps.flatMap(dep => [...past.get(dep)!])]))
  const old = new Set([...since, ...since.flatMap(head => [...past.get(head)!])])
  const texts = new Map<string, string>()
  for (const stepId of Object.keys(doc.steps))
    for (const field of ['sql', 'description'] as const)
      texts.set(Automerge.getObjectId(doc.steps[stepId]!, field)!, stepId)
  const found = new Set<string>()
  const live = (x: ChangeRecord, y: ChangeRecord) =>
    x.live && y.live && Math.abs(Date.parse(x.received_at) - Date.parse(y.received_at)) <= 5000
  for (const x of changes)
    for (const y of changes) {
      if (x.hash === y.hash || past.get(x.hash)!.has(y.hash) || past.get(y.hash)!.has(x.hash)) continue
      if (old.has(x.hash) && old.has(y.hash)) continue
      if (live(records.get(x.hash)!, records.get(y.hash)!)) continue
      const touched = new Set(x.ops.map(op => texts.get(op.obj)))
      for (const op of y.ops) {
        const stepId = texts.get(op.obj)
        if (stepId !== undefined && touched.has(stepId)) found.add(stepId)
      }
    }
  // Two devices that made the same step: each wrote a text of its own under one key.
  for (const stepId of Object.keys(doc.steps))
    if (Automerge.getConflicts(doc.steps, stepId)) found.add(stepId)
  return found
}
