import * as Automerge from '@automerge/automerge'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  addStep,
  addTest,
  contentHash,
  createPipeline,
  displayName,
  editPipeline,
  kindOf,
  loadDocument,
  makeEqualTo,
  moveStep,
  pipelineFromDoc,
  problemsOf,
  removeParam,
  removeStep,
  removeTest,
  renameStep,
  restoreStep,
  setParam,
  setSource,
  setStepSetting,
  setTags,
  spliceStepSql,
  updateReport,
  updateStepSql,
  updateTest,
} from '../../src/index.ts'
import { anActor, anyDefinition, anyHeldJson, aPipeline } from '../../src/testing/index.ts'

const names = (doc: Parameters<typeof pipelineFromDoc>[0]) =>
  pipelineFromDoc(doc).steps.map(step => step.name)
const fork = <T>(doc: Automerge.Doc<T>) => Automerge.clone(doc, { actor: anActor() })

describe('pipeline documents', () => {
  it('[DOC1] a document made from a definition reads as that definition', () => {
    fc.assert(
      fc.property(anyDefinition, definition => {
        const doc = createPipeline(definition)
        expect(pipelineFromDoc(doc)).toEqual(definition)
        expect(pipelineFromDoc(loadDocument(Automerge.save(doc)))).toEqual(definition)
      }),
      { numRuns: 20 },
    )
  })

  it('[DOC2] makeEqualTo gives the definition and its content hash from any document, tombstones included', () => {
    fc.assert(
      fc.property(anyDefinition, anyDefinition, (from, to) => {
        const first = createPipeline(from)
        const second = makeEqualTo(first, to, 'import')
        expect(pipelineFromDoc(second)).toEqual(to)
        const third = makeEqualTo(second, from, 'restore')
        expect(contentHash(pipelineFromDoc(third))).toBe(contentHash(from))
        expect(makeEqualTo(third, from, 'again')).toBe(third)
        expect(Automerge.getAllChanges(third).length).toBeLessThanOrEqual(3)
      }),
      { numRuns: 20 },
    )
  })

  it('[DOC3] a removed step keeps what others write meanwhile and comes back with it', () => {
    const a = createPipeline(aPipeline())
    const b = fork(a)
    const removed = editPipeline(a, 'remove', d => removeStep(d, 'step-orders'))
    const edited = editPipeline(b, 'edit', d => spliceStepSql(d, 'step-orders', 0, 0, '-- hi\n'))
    const merged = Automerge.merge(fork(removed), edited)
    expect(names(merged)).toEqual(['revenue'])
    const back = editPipeline(merged, 'restore', d => restoreStep(d, 'step-orders'))
    expect(pipelineFromDoc(back).steps[0]).toMatchObject({ name: 'orders', sql: '-- hi\nselect 1 as amount' })
  })

  it('[DOC4] every edit shows in the definition', () => {
    let id = ''
    let test = ''
    const doc = editPipeline(createPipeline({ name: 'p' }), 'edit', d => {
      id = addStep(d, { name: 'a', sql: 'select 1', materialize: 'view' })
      addStep(d, { name: 'b', at: 0, tests: [{ type: 'unique', columns: ['x'] }] })
      spliceStepSql(d, id, 8, 0, ' as x')
      updateStepSql(d, id, 'select 2 as x')
      setStepSetting(d, id, 'timeout_s', 5)
      test = addTest(d, id, { type: 'not_null', column: 'x' })
      updateTest(d, id, test, { column: 'y', severity: 'warn' })
      setParam(d, 'region', { type: 'text', default: 'EU' })
      setSource(d, 'orders', { kind: 'csv', path: 'orders.csv' })
      setTags(d, ['weekly'])
      updateReport(d, '# Hello')
    })
    expect(pipelineFromDoc(doc)).toMatchObject({
      tags: ['weekly'],
      report: '# Hello',
      params: { region: { type: 'text', default: 'EU', allowed: [] } },
      sources: { orders: { kind: 'csv', path: 'orders.csv' } },
      steps: [
        { name: 'b', tests: [{ type: 'unique', columns: ['x'], severity: 'error' }] },
        {
          name: 'a',
          sql: 'select 2 as x',
          materialize: 'view',
          timeout_s: 5,
          tests: [{ id: test, type: 'not_null', column: 'y', severity: 'warn' }],
        },
      ],
    })
    const next = editPipeline(doc, 'more', d => {
      moveStep(d, id, 0)
      renameStep(d, id, 'c')
      removeTest(d, id, test)
      removeParam(d, 'region')
    })
    expect(names(next)).toEqual(['c', 'b'])
    expect(pipelineFromDoc(next)).toMatchObject({ params: {}, steps: [{ tests: [] }, {}] })
    const again = editPipeline(next, 'param', d => setParam(d, 'region', { allowed: ['EU', 'US'] }))
    expect(pipelineFromDoc(again).params.region).toMatchObject({
      type: 'text',
      default: 'EU',
      allowed: ['EU', 'US'],
    })
  })

  it('[DOC5] an invalid edit throws and leaves the document as it was', () => {
    const doc = createPipeline(aPipeline())
    const heads = Automerge.getHeads(doc)
    expect(() =>
      editPipeline(doc, 'bad', d => {
        updateReport(d, 'half')
        renameStep(d, 'step-orders', 'not a name')
      }),
    ).toThrow(expect.objectContaining({ code: 'document.invalid' }))
    expect(() => editPipeline(doc, 'bad', d => renameStep(d, 'nowhere', 'a'))).toThrow(
      expect.objectContaining({ code: 'step.not_found' }),
    )
    expect(Automerge.getHeads(doc)).toEqual(heads)
    expect(pipelineFromDoc(doc).report).toBe('')
  })

  it('[DOC6] steps inserted at one place on two devices have one order, and can be moved between', () => {
    const base = createPipeline(aPipeline())
    const a = editPipeline(fork(base), 'a', d => void addStep(d, { name: 'x', id: 'x', at: 1 }))
    const b = editPipeline(fork(base), 'b', d => void addStep(d, { name: 'y', id: 'y', at: 1 }))
    const left = Automerge.merge(fork(a), b)
    expect(names(left)).toEqual(names(Automerge.merge(fork(b), a)))
    expect(names(left)).toEqual(['orders', 'x', 'y', 'revenue'])
    expect(names(editPipeline(left, 'between', d => moveStep(d, 'step-revenue', 2)))).toEqual([
      'orders',
      'x',
      'revenue',
      'y',
    ])
  })

  it('[DOC7] a document that another program spoiled still reads, and says what is wrong', () => {
    const doc = Automerge.change(createPipeline(aPipeline()), d => {
      const raw = d as unknown as Record<string, Record<string, Record<string, unknown>>>
      raw.steps!['step-orders']!.settings = { materialize: new Automerge.ImmutableString('{') }
      raw.steps!.junk = 5 as never
      raw.params = [] as never
      raw.name = 7 as never
    })
    expect(pipelineFromDoc(doc).steps[0]!.materialize).toBe('table')
    expect(problemsOf(doc).map(problem => problem.code)).toEqual(['value.unreadable', 'name.invalid'])
    expect(displayName(doc)).toBe('unnamed')
    expect(pipelineFromDoc(makeEqualTo(doc, aPipeline(), 'mend'))).toEqual(aPipeline())
  })

  it('[DOC7] whatever another program wrote, reading never throws and an import mends it', () => {
    const junk = fc.oneof(
      anyHeldJson,
      fc.string().map(text => new Automerge.ImmutableString(text)),
      fc.constant({
        deleted: true,
        name: 'x',
        sql: 3,
        settings: [],
        tests: { t: { settings: { type: 1 } } },
      }),
    )
    const path = fc.constantFrom(
      ...['name', 'description', 'settings', 'params', 'sources', 'steps', 'report', 'publish'],
      ...['steps/step-orders', 'steps/other', 'params/p', 'sources/s', 'settings/tags', 'publish/snapshots'],
      ...['name', 'order', 'deleted', 'sql', 'settings', 'tests', 'tests/t'].map(
        key => `steps/step-orders/${key}`,
      ),
    )
    fc.assert(
      fc.property(fc.array(fc.tuple(path, junk), { maxLength: 4 }), writes => {
        const doc = Automerge.change(createPipeline(aPipeline()), d => {
          for (const [place, value] of writes) {
            const keys = place.split('/')
            let held: unknown = d
            for (const key of keys.slice(0, -1)) held = (held as Record<string, unknown> | undefined)?.[key]
            if (
              typeof held === 'object' &&
              held !== null &&
              !Array.isArray(held) &&
              !Automerge.isImmutableString(held)
            )
              (held as Record<string, unknown>)[keys.at(-1)!] = value
          }
        })
        pipelineFromDoc(doc)
        problemsOf(doc)
        displayName(doc)
        expect(pipelineFromDoc(makeEqualTo(doc, aPipeline(), 'mend'))).toEqual(aPipeline())
      }),
      { numRuns: 80, examples: [[[['name', [{}]]]], [[['steps', []]]]] },
    )
  })

  it('[DOC8] two steps of one name stay two, in one order, and are a problem', () => {
    const base = createPipeline({ name: 'p' })
    const a = editPipeline(fork(base), 'a', d => void addStep(d, { name: 'x', id: '1', sql: 'select 1' }))
    const b = editPipeline(fork(base), 'b', d => void addStep(d, { name: 'x', id: '2', sql: 'select 2' }))
    const merged = Automerge.merge(a, b)
    expect(pipelineFromDoc(merged).steps.map(step => step.id)).toEqual(['1', '2'])
    expect(problemsOf(merged).map(problem => problem.code)).toEqual(['step.duplicate_name'])
  })

  it('[DOC9] what is wrong with a definition is told all at once', () => {
    const definition = aPipeline({
      params: { n: { type: 'integer', default: 'x', allowed: [1] } },
      sources: { s: { kind: 'csv', path: 'a.csv', options: { columns: { a: 'int' } } } },
      steps: [{ name: 'a', sql: ' ', materialize: 'incremental' }],
      publish: { snapshots: [{ step: 'nope' }] },
      report: '\ud800',
    })
    expect(problemsOf(definition).map(problem => `${problem.code} ${problem.file}`)).toEqual([
      'value.not_text report.md',
      'step.missing_sql a.sql',
      'step.incremental_key pipeline.yaml',
      'param.wrong_type pipeline.yaml',
      'param.default_not_allowed pipeline.yaml',
      'source.columns_unordered pipeline.yaml',
      'publish.unknown_step pipeline.yaml',
    ])
  })

  it('[DOC10] a document of a newer schema or of broken bytes is refused by its code', () => {
    const doc = createPipeline(aPipeline())
    const newer = Automerge.change(doc, d => {
      d.schema_version = 99
    })
    expect(kindOf(doc)).toBe('pipeline')
    expect(() => loadDocument(Automerge.save(newer))).toThrow(
      expect.objectContaining({ code: 'document.too_new' }),
    )
    expect(() => loadDocument(new Uint8Array([1, 2, 3]))).toThrow(
      expect.objectContaining({ code: 'document.corrupt' }),
    )
  })
})
