import { expect, it } from 'vitest'
import { showComparison } from '../../src/cli/commands/versions.ts'
import type { Comparison } from '../../src/contract/index.ts'

type Lines = Comparison['files'][number]['lines']

const comparison = (lines: Lines): Comparison => ({
  pipeline_id: '01890a5d-ac96-774b-bcce-b302099a8057',
  files: lines.length === 0 ? [] : [{ path: 'a.sql', status: 'changed', before: '', after: '', lines }],
  settings: [],
  steps: [],
})

/** What is shown of lines of which only the signs are given; each line's text is its place. */
const shown = (signs: string): string[] => {
  const ops = { '=': 'same', '+': 'added', '-': 'removed' } as const
  const lines = [...signs].map((sign, i) => ({
    op: ops[sign as keyof typeof ops],
    text: String(i),
    before: null,
    after: null,
  }))
  return showComparison(comparison(lines)).split('\n').slice(1)
}

it('[CLI1] a comparison leaves out equal lines far from what differs, and says how many', () => {
  expect(shown('==========-+=====')).toEqual([
    '  … 7 equal lines',
    '  7',
    '  8',
    '  9',
    '- 10',
    '+ 11',
    '  12',
    '  13',
    '  14',
    '  … 2 equal lines',
  ])
  // One line takes no more room than saying that it was left out.
  expect(shown('====+===')).toEqual(['  0', '  1', '  2', '  3', '+ 4', '  5', '  6', '  7'])
  expect(shown('+')).toEqual(['+ 0'])
  expect(showComparison(comparison([]))).toBe('No difference.')
})
