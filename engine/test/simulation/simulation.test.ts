import { readFileSync } from 'node:fs'
import { leaveOut, testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Cluster } from './cluster.ts'
import type { Plan } from './plan.ts'
import { simulate } from './simulate.ts'

// Rules SIM1 to SIM8 of engine/test/simulation/SPEC.md. The same seeds each time; `npm run test:sim` runs others for as long as one likes.

const FROM = Number(process.env.PLUTO_SIM_FROM ?? 1)
const SEEDS = Number(process.env.PLUTO_SIM_SEEDS ?? 300)
/** A machine on which they do not fit into this time runs fewer, and that is said. Here they take two minutes. */
const SECONDS = Number(process.env.PLUTO_SIM_SECONDS ?? 240)
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

  it(
    `[SIM1-8] the seeds ${FROM} to ${FROM + SEEDS - 1} pass`,
    async () => {
      const end = performance.now() + SECONDS * 1_000
      let seeds = 0
      let changes = 0
      const lane = async (cluster: Cluster): Promise<void> => {
        while (seeds < SEEDS && performance.now() < end) {
          const made = await passes(cluster, FROM + seeds++)
          changes += made
        }
      }
      await Promise.all(clusters.map(lane))
      console.log(`${seeds} seeds, ${changes} changes`)
      expect(seeds).toBeGreaterThan(0)
      if (seeds < SEEDS)
        leaveOut(
          'simulations',
          `only ${seeds} of ${SEEDS} seeds fitted into ${SECONDS} s (PLUTO_SIM_SECONDS)`,
        )
    },
    (SECONDS + 60) * 1_000,
  )
})
