import { readFileSync } from 'node:fs'
import { testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Cluster } from './cluster.ts'
import { simulate } from './simulate.ts'

// Rules SIM1 to SIM8 of engine/test/simulation/SPEC.md. As many seeds as fit; `npm run test:sim` runs them for as long as one likes.

const SECONDS = Number(process.env.PLUTO_SIM_SECONDS ?? 30)
const FROM = Number(process.env.PLUTO_SIM_FROM ?? 1)
const regressions: { readonly seed: number; readonly found: string }[] = JSON.parse(
  readFileSync(new URL('../../../test-fixtures/regressions/simulation.json', import.meta.url), 'utf8'),
)

let cluster: Cluster
let drop: () => Promise<void>
beforeAll(async () => {
  const database = await testDatabase()
  drop = database.drop
  cluster = await Cluster.start(database.url)
})
afterAll(async () => {
  await cluster?.stop()
  await drop?.()
})

const passes = async (seed: number): Promise<number> => {
  const { failure, trace, changes } = await simulate(cluster, seed)
  if (failure !== null) throw new Error(`seed ${seed}: ${failure}\n${trace}`)
  return changes
}

describe('devices and servers under faults', () => {
  it('[SIM1-8] seeds that once failed pass', async () => {
    for (const { seed } of regressions) await passes(seed)
  })

  it(`[SIM1-8] seeds from ${FROM} on pass, for ${SECONDS} s`, async () => {
    const end = performance.now() + SECONDS * 1_000
    let seeds = 0
    let changes = 0
    while (performance.now() < end) {
      changes += await passes(FROM + seeds)
      seeds++
    }
    console.log(`${seeds} seeds, ${changes} changes`)
    expect(seeds).toBeGreaterThan(0)
  })
})
