import { describe, expect, it } from 'vitest'
import { type Case, casesOf, OURS, ourFigures, type PeerResult, tableOf } from '../bench/peers.ts'

const [w1] = casesOf(false) as [Case]
const row = (engine: string, figures: PeerResult['figures'], failed: string | null = null): PeerResult => ({
  engine,
  of: w1.name,
  at: '2026-01-31T12:00:00.000Z',
  load: 1,
  figures,
  failed,
})

describe('the table of the peers', () => {
  it('[BENCH3] shows ours first, and theirs with ratios to it', () => {
    const ours = ourFigures(
      w1,
      new Map([
        ['w1_1000_seconds', 0.5],
        ['w1_1000_bytes', 1.2],
      ]),
    )
    const theirs = { seconds: 10, bytes: 600_000, server_cpu: 3 }
    expect(tableOf(w1, [row('other', theirs), row(OURS, ours)]).split('\n')).toEqual([
      'W1: a new device takes 1,000 small documents',
      '                      s          KB  server CPU s',
      'pluto-duck         0.50       1,200             –',
      'other       10.00 (20x)  600 (0.5x)          3.00',
    ])
  })

  it('[BENCH4] names a peer that could not be measured, with its reason, beside the others', () => {
    const table = tableOf(w1, [
      row('other', null, 'not installed (E404)'),
      row(OURS, { seconds: 1, bytes: 1, server_cpu: 1 }),
    ])
    expect(table).toContain('pluto-duck  1.00')
    expect(table).toContain('other       failed: not installed (E404)')
  })

  it('[BENCH3] has no row of ours where nothing was measured', () => {
    expect(ourFigures(w1, new Map())).toBeNull()
  })

  it('[BENCH5] --full measures the sizes of the issue, as medians of five', () => {
    const full = casesOf(true)
    const sizes = (workload: string) => full.filter(one => one.workload === workload).map(one => one.sizes)
    expect(sizes('w1').map(one => one.documents)).toEqual([1_000, 5_000])
    expect(sizes('w3').map(one => one.readers)).toEqual([10, 50])
    expect(full.filter(one => one.workload !== 'w6').every(one => one.sizes.rounds === 5)).toBe(true)
    expect(new Set(full.map(one => one.name)).size).toBe(full.length)
  })
})
