import { readFileSync } from 'node:fs'
import { testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Cluster } from './cluster.ts'
import type { Plan } from './plan.ts'
import { simulate } from './simulate.ts'

// Rules SIM1 to SIM8 of engine/test/simulation/SPEC.md. As many seeds as fit; `npm run test:sim` runs them for as long as one likes.

const SECONDS = Number(process.env.PLUTO_SIM_SECONDS ?? 50)
const FROM = Number(process.env.PLUTO_SIM_FROM ?? 1)
const regressions: { readonly seed: number; readonly plan: Plan; readonly found: string }[] = JSON.parse(
  readFileSync(new URL('../../../test-fixtures/regressions/simulation.json', import.meta.url), 'utf8'),
)

/** Simulations that run at once, each with servers and a database of its own: much of one is waiting. */
const LANES = 2

let clusters: Cluster[] = []
const drops: (() => Promise<void>)[] = []
beforeAll(async () => {
  const databases = await Promise.all(Array.from({ length: LANES }, () => testDatabase()))
  drops.push(...databases.map(database => database.drop))
  clusters = await Promise.all(databases.map(database => Cluster.start(database.url)))
})
afterAll(async () => {
  await Promise.all(clusters.map(cluster => cluster.stop()))
  await Promise.all(drops.map(drop => drop()))
})

const passes = async (cluster: Cluster, seed: number, plan?: Plan): Promise<number> => {
  const { failure, trace, changes } = await simulate(cluster, seed, plan)
  if (failure !== null) throw new Error(`seed ${seed}: ${failure}\n${trace}`)
  return changes
}

describe('devices and servers under faults', () => {
  it('[SIM1-8] seeds that once failed pass', async () => {
    for (const { seed, plan } of regressions) await passes(clusters[0]!, seed, plan)
  })

  it(`[SIM1-8] seeds from ${FROM} on pass, for ${SECONDS} s`, async () => {
    const end = performance.now() + SECONDS * 1_000
    let seeds = 0
    let changes = 0
    const lane = async (cluster: Cluster): Promise<void> => {
      while (performance.now() < end) {
        const made = await passes(cluster, FROM + seeds++)
        changes += made
      }
    }
    await Promise.all(clusters.map(lane))
    console.log(`${seeds} seeds, ${changes} changes`)
    expect(seeds).toBeGreaterThan(0)
  })
})
