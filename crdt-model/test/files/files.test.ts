import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { contentHash, pipelineFromFiles, pipelineToFiles } from '../../src/index.ts'
import { anyDefinition, aPipeline } from '../../src/testing/index.ts'

const codesOf = (files: Record<string, string>) => {
  const result = pipelineFromFiles(files)
  return result.ok ? [] : result.problems.map(({ code, file, line }) => `${code} ${file}:${line}`)
}

describe('files', () => {
  it('[FILE1] export then import is the identity, and so is import then export', () => {
    fc.assert(
      fc.property(anyDefinition, definition => {
        const files = pipelineToFiles(definition)
        const back = pipelineFromFiles(files)
        expect(back).toEqual({ ok: true, definition })
        if (!back.ok) return
        expect(contentHash(back.definition)).toBe(contentHash(definition))
        expect(pipelineToFiles(back.definition)).toEqual(files)
      }),
      { numRuns: 60 },
    )
  })

  it('[FILE2] texts keep every byte: CRLF, trailing newlines, nothing, Korean, emoji', () => {
    for (const text of [
      '',
      '\n',
      ' \n',
      '\n  a\n',
      'a \n\tb',
      'a\r\nb\r\n',
      '주간 매출 🦆\n\n',
      'select 1',
    ]) {
      const definition = aPipeline({ report: text, description: text, steps: [{ name: 'a', sql: text }] })
      const files = pipelineToFiles(definition)
      expect(files['a.sql']).toBe(text)
      expect(pipelineFromFiles(files)).toEqual({ ok: true, definition })
    }
  })

  it('[FILE3] a folder as a person writes it needs no ids and no defaults', () => {
    const result = pipelineFromFiles(
      {
        'pipeline.yaml':
          'name: weekly\nparams:\nsteps:\n  - name: a\n    tests:\n      - type: not_null\n        column: x\n',
        'a.sql': 'select 1 as x\n',
        'README.md': 'hello',
      },
      {
        newId: (
          n => () =>
            `id${n++}`
        )(1),
      },
    )
    expect(result).toMatchObject({
      ok: true,
      definition: {
        name: 'weekly',
        steps: [
          {
            id: 'id1',
            name: 'a',
            sql: 'select 1 as x\n',
            materialize: 'table',
            tests: [{ id: 'id2', severity: 'error' }],
          },
        ],
      },
    })
  })

  it('[FILE4] what has no id takes the id of its namesake in the base', () => {
    const base = aPipeline({
      steps: [{ name: 'a', id: 'kept', tests: [{ id: 't9', type: 'not_null', column: 'x' }] }],
    })
    const result = pipelineFromFiles(
      {
        'pipeline.yaml':
          'name: weekly\nsteps: [{name: a, tests: [{type: not_null, column: x}]}, {name: b}]\n',
        'a.sql': '',
        'b.sql': '',
      },
      { base, newId: () => 'new' },
    )
    expect(
      result.ok && result.definition.steps.map(step => [step.id, step.tests.map(test => test.id)]),
    ).toEqual([
      ['kept', ['t9']],
      ['new', []],
    ])
  })

  it('[FILE5] every problem is told at once, with file, line and what to do', () => {
    const result = pipelineFromFiles({
      'pipeline.yaml': [
        'name: Weekly Revenue',
        'colour: red',
        'steps:',
        '  - name: a',
        '    materialise: table',
        '    sql: select 1',
        '  - name: b',
        '    materialize: tabel',
        '  - name: a',
        'report: hi',
      ].join('\n'),
      'a.sql': 'select 1',
      'stray.sql': 'select 2',
      'A.sql': '',
    })
    expect(result.ok).toBe(false)
    if (result.ok) return
    const found = result.problems.map(({ code, file, line, column }) => `${code} ${file}:${line}:${column}`)
    expect(found).toEqual(
      expect.arrayContaining([
        'file.duplicate a.sql:1:1',
        'name.invalid pipeline.yaml:1:7',
        'value.unknown_key pipeline.yaml:2:1',
        'value.unknown_key pipeline.yaml:5:5',
        'value.unknown_key pipeline.yaml:6:5',
        'value.invalid pipeline.yaml:8:18',
        'value.unknown_key pipeline.yaml:10:1',
        'file.missing pipeline.yaml:7:5',
        'file.unlisted stray.sql:1:1',
        'step.duplicate_name pipeline.yaml:9:11',
      ]),
    )
    for (const problem of result.problems) expect(problem.hint.length).toBeGreaterThan(5)
  })

  it('[FILE6] bad YAML, doubled keys and a missing pipeline.yaml are problems, never exceptions', () => {
    expect(codesOf({})).toEqual(['file.missing pipeline.yaml:1'])
    expect(codesOf({ 'pipeline.yml': 'name: a' })).toEqual(['file.missing pipeline.yaml:1'])
    expect(codesOf({ 'pipeline.yaml': '' })).toEqual(['file.bad_yaml pipeline.yaml:1'])
    expect(codesOf({ 'pipeline.yaml': '- a' })).toEqual(['file.bad_yaml pipeline.yaml:1'])
    expect(codesOf({ 'pipeline.yaml': 'name: a\nname: b\n' })).toEqual(['file.bad_yaml pipeline.yaml:2'])
    expect(codesOf({ 'pipeline.yaml': 'name: a\nsteps: [\n' })[0]).toMatch(/^file.bad_yaml pipeline.yaml:/)
    expect(codesOf({ 'pipeline.yaml': 'name: a\nsteps: {a: b}\n' })).toEqual([
      'value.invalid pipeline.yaml:2',
    ])
    expect(codesOf({ 'pipeline.yaml': 'name: a\nsteps: [1, null]\n' })).toHaveLength(2)
  })

  it('[FILE6] import never throws, whatever the file holds', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), fc.json(), (text, json) => {
        pipelineFromFiles({ 'pipeline.yaml': text })
        pipelineFromFiles({ 'pipeline.yaml': json })
        pipelineFromFiles({ 'pipeline.yaml': `name: a\nsteps: ${json}` })
        pipelineFromFiles({ 'pipeline.yaml': `name: a\nsteps: [${json}]` })
      }),
      { numRuns: 60 },
    )
  })

  it('[FILE5] a problem speaks of the pipeline, not of the schema', () => {
    const result = pipelineFromFiles({
      'pipeline.yaml':
        'name: a\ntags: x\nsteps:\n  - name: b\n    tests: [{type: not_nul}]\nparams: {n: {}}\nschema_version: 2\n',
      'b.sql': '',
    })
    expect(
      result.ok ? [] : result.problems.map(problem => `${problem.line} ${problem.message} ${problem.hint}`),
    ).toEqual([
      '2 «tags» is not a list. Write it as a list: tags: [ … ].',
      '5 «type» of step «b», test 1 is none of: not_null, unique, accepted_values, custom. Give one of: not_null, unique, accepted_values, custom.',
      '6 «type» of param «n» is missing. Add «type».',
      '7 A newer program wrote this pipeline. Update this program, then try again.',
    ])
  })

  it('[FILE7] two steps of one name have two files', () => {
    const files = pipelineToFiles(
      aPipeline({
        steps: [
          { name: 'a', id: '1', sql: 'x' },
          { name: 'a', id: '2', sql: 'y' },
        ],
      }),
    )
    expect(files).toMatchObject({ 'a.sql': 'x', 'step-2.sql': 'y' })
    expect(codesOf(files)).toEqual(['step.duplicate_name pipeline.yaml:7'])
  })
})
