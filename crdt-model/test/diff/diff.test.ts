import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { splicesBetween } from '../../src/diff/splices.ts'
import { canonicalJson, diffDefinitions, diffLines, diffText } from '../../src/index.ts'
import { anyDefinition, anyText, aPipeline } from '../../src/testing/index.ts'

describe('diff', () => {
  it('[DIFF1] a definition has no difference to itself, and a difference to anything else', () => {
    fc.assert(
      fc.property(anyDefinition, anyDefinition, (a, b) => {
        expect(diffDefinitions(a, a).equal).toBe(true)
        expect(diffDefinitions(a, b).equal).toBe(canonicalJson(a) === canonicalJson(b))
      }),
      { numRuns: 60 },
    )
  })

  it('[DIFF2] the lines of a diff give both texts back, to the byte', () => {
    const text = fc.array(fc.oneof(anyText, fc.constantFrom('a\n', 'b\n', 'c\n')), { maxLength: 8 })
    fc.assert(
      fc.property(text, text, (left, right) => {
        const before = left.join('')
        const after = right.join('')
        const lines = diffLines(before, after)
        const side = (without: string) => lines.filter(line => line.kind !== without).map(line => line.text)
        expect(side('added').join('')).toBe(before)
        expect(side('removed').join('')).toBe(after)
        const { hunks, added, removed } = diffText(before, after)
        expect(hunks.length === 0).toBe(before === after)
        const changed = hunks.flatMap(hunk => hunk.lines).filter(line => line.kind !== 'same')
        expect(changed).toHaveLength(added + removed)
      }),
      { numRuns: 100 },
    )
  })

  it('[DIFF5] splices give the other text and keep the lines and words that stayed', () => {
    const apply = (text: string, splices: ReturnType<typeof splicesBetween>) =>
      splices.reduce(
        (held, { at, remove, insert }) => held.slice(0, at) + insert + held.slice(at + remove),
        text,
      )
    const text = fc.array(fc.oneof(anyText, fc.constantFrom('a\n', 'b\n', '🦆', '🦅')), { maxLength: 8 })
    fc.assert(
      fc.property(text, text, (left, right) => {
        const before = left.join('').toWellFormed()
        const after = right.join('').toWellFormed()
        const splices = splicesBetween(before, after)
        expect(apply(before, splices)).toBe(after)
        for (const { at, remove, insert } of splices) {
          expect(insert.isWellFormed()).toBe(true)
          expect(before.slice(at, at + remove).isWellFormed()).toBe(true)
        }
      }),
      { numRuns: 150 },
    )
    expect(splicesBetween('select 1;\nselect 2;\nselect 3;\n', '-- x\nselect 1;\nselect 2;\n')).toEqual([
      { at: 20, remove: 10, insert: '' },
      { at: 0, remove: 0, insert: '-- x\n' },
    ])
    expect(splicesBetween('select amount from x', 'select total from x')).toEqual([
      { at: 7, remove: 6, insert: 'total' },
    ])
    expect(splicesBetween('x1', 'x2')).toEqual([{ at: 1, remove: 1, insert: '2' }])
    expect(splicesBetween('🦆', '🦅')).toEqual([{ at: 0, remove: 2, insert: '🦅' }])
  })

  it('[DIFF3] steps are followed by id: added, removed, renamed, moved, changed', () => {
    const before = aPipeline({
      steps: [{ name: 'a', sql: 'select 1\nfrom x' }, { name: 'b' }, { name: 'c' }, { name: 'd' }],
      params: { region: { type: 'text' } },
    })
    const [a, b, c] = before.steps
    const after = {
      ...before,
      steps: [
        c!,
        { ...a!, name: 'a2', sql: 'select 2\nfrom x', materialize: 'view' as const },
        b!,
        { ...b!, id: 'new', name: 'e' },
      ],
      params: {},
      report: '# Hi',
      tags: ['x'],
    }
    const diff = diffDefinitions(before, after)
    expect(diff.steps.map(step => `${step.change} ${step.name}${step.moved ? ' moved' : ''}`)).toEqual([
      'changed c moved',
      'changed a2',
      'added e',
      'removed d',
    ])
    expect(diff.steps[1]).toMatchObject({
      renamed: { before: 'a', after: 'a2' },
      settings: [{ field: 'materialize', before: 'table', after: 'view' }],
      sql: {
        added: 1,
        removed: 1,
        hunks: [
          {
            lines: [
              { kind: 'removed', text: 'select 1\n', before: 1 },
              { kind: 'added', text: 'select 2\n', after: 1 },
              { kind: 'same', text: 'from x', before: 2, after: 2 },
            ],
          },
        ],
      },
    })
    expect(diff).toMatchObject({
      equal: false,
      settings: [{ field: 'tags', before: [], after: ['x'] }],
      params: [{ name: 'region', change: 'removed' }],
      report: { added: 1 },
    })
  })

  it('[DIFF4] far lines make separate hunks with three lines around each', () => {
    const lines = Array.from({ length: 40 }, (_, at) => `${at}\n`)
    const after = lines.with(5, 'x\n').with(30, 'y\n')
    const { hunks } = diffText(lines.join(''), after.join(''))
    expect(hunks.map(hunk => hunk.lines.length)).toEqual([8, 8])
  })
})
