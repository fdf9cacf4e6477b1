import { promises as fs } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { type PipelineDefinition, pipelineDefinition, type Scalar } from '@pluto-duck/crdt-model'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { compile, RunnerChild } from '../../src/compile/index.ts'
import { type FingerprintParts, makePlan, type PlanResult } from '../../src/plan/index.ts'
import { RunnerPool } from '../../src/runner/index.ts'
import { resolveSources } from '../../src/sources/resolve-sources.ts'
import { SourceHashes } from '../../src/sources/source-state.ts'

/** A warehouse's memory: what a run that went well leaves, and nothing from one that failed. */
class Results {
  readonly #current = new Map<string, { fingerprint: string; parts: FingerprintParts }>()
  readonly #kept = new Set<string>()
  current(id: string) {
    return this.#current.get(id) ?? null
  }
  async has(fingerprint: string) {
    return this.#kept.has(fingerprint)
  }
  /** As after a run of which the steps named failed, and so everything behind them did not run. */
  ran(result: PlanResult, failed: readonly string[] = []) {
    for (const step of result.steps) {
      if (step.action === 'skip' || failed.includes(step.name)) continue
      this.#current.set(step.step_id, { fingerprint: step.fingerprint.result, parts: step.fingerprint.parts })
      this.#kept.add(step.fingerprint.result)
    }
  }
}

const BASE = {
  schema_version: 1,
  name: 'shop',
  tags: ['weekly'],
  params: { region: { type: 'text', default: 'north' }, top: { type: 'integer', default: 3 } },
  sources: { orders: { kind: 'csv', path: 'orders.csv' }, rates: { kind: 'csv', path: 'rates' } },
  steps: [
    { id: 's1', name: 'clean', sql: 'select id, region, amount from source.orders' },
    { id: 's2', name: 'north', sql: 'select * from clean where region = $region' },
    { id: 's3', name: 'total', sql: 'select sum(amount) as total from north' },
    { id: 's4', name: 'prices', sql: 'from source.rates', materialize: 'view' },
    { id: 's5', name: 'ranked', sql: 'from prices limit $top' },
  ],
}

let runner: RunnerChild
let pool: RunnerPool
let filesDir: string
let hashes: SourceHashes
let results: Results
let runs = 0

beforeAll(() => {
  pool = new RunnerPool()
  runner = new RunnerChild(pool)
})
beforeEach(async () => {
  filesDir = await fs.mkdtemp(path.join(os.tmpdir(), 'pluto-plan-'))
  await fs.writeFile(path.join(filesDir, 'orders.csv'), 'id,region,amount\n1,north,10\n2,south,4\n')
  await fs.mkdir(path.join(filesDir, 'rates'))
  await fs.writeFile(path.join(filesDir, 'rates', 'a.csv'), 'currency,rate\neur,1\n')
  hashes = new SourceHashes(null)
  results = new Results()
})
afterEach(() => fs.rm(filesDir, { recursive: true, force: true }))
afterAll(() => pool.close())

type Change = (definition: PipelineDefinition) => void
interface Ask {
  readonly change?: Change
  readonly params?: Record<string, Scalar>
  readonly selection?: string
  readonly full?: boolean
}

async function planned({ change, params, selection, full }: Ask = {}): Promise<PlanResult> {
  const definition = pipelineDefinition.parse(structuredClone(BASE))
  change?.(definition)
  const sources = await resolveSources(definition, { filesDir })
  const compiled = await compile(definition, { runner, ...(params ? { params } : {}) })
  const states: Record<string, Awaited<ReturnType<SourceHashes['stateOf']>>> = {}
  for (const source of Object.values(sources)) {
    if (source.state === 'ready') states[source.name] = await hashes.stateOf(source)
  }
  return makePlan({
    run_id: `run-${++runs}`,
    workspace_id: 'w',
    pipeline_id: 'p',
    definition,
    compiled,
    sources,
    source_states: states,
    catalog: results,
    selection: selection ?? null,
    full_refresh: full ?? false,
  })
}
const edit =
  (name: string, fields: Partial<PipelineDefinition['steps'][number]>): Change =>
  definition => {
    Object.assign(definition.steps.find(step => step.name === name)!, fields)
  }
const told = (result: PlanResult) =>
  Object.fromEntries(result.steps.map(step => [step.name, `${step.action} ${step.reason.code}`]))

const NEVER = 'run never_ran'
const SAME = 'reuse unchanged'

describe('what runs and why', () => {
  it('[PLAN1] everything runs once, then nothing does while nothing changes', async () => {
    const first = await planned()
    expect(told(first)).toEqual({ clean: NEVER, north: NEVER, total: NEVER, prices: NEVER, ranked: NEVER })
    results.ran(first)
    const second = await planned()
    expect(told(second)).toEqual({ clean: SAME, north: SAME, total: SAME, prices: SAME, ranked: SAME })
    expect(second.plan.steps.every(step => step.reuse)).toBe(true)
  })

  it('[PLAN2] an edited step and all downstream rebuild, the rest is reused', async () => {
    results.ran(await planned())
    const result = await planned({
      change: edit('clean', { sql: 'select id, region, amount * 2 as amount from source.orders' }),
    })
    expect(told(result)).toEqual({
      clean: 'run edited',
      north: 'run upstream_changed',
      total: 'run upstream_changed',
      prices: SAME,
      ranked: SAME,
    })
    expect(result.steps.find(step => step.name === 'north')?.reason.words).toBe(
      'It reads clean, which changed.',
    )
  })

  it('[PLAN3] formatting, comments, descriptions and time stamps do not count', async () => {
    results.ran(await planned())
    await fs.utimes(path.join(filesDir, 'orders.csv'), new Date(), new Date(Date.now() + 60_000))
    const result = await planned({
      change: edit('clean', {
        sql: 'SELECT id, region,\n  amount -- money\nFROM source.orders;',
        description: 'new words',
      }),
    })
    expect(new Set(Object.values(told(result)))).toEqual(new Set([SAME]))
  })

  it('[PLAN4] a failed run counts for nothing', async () => {
    const first = await planned()
    results.ran(first, ['north', 'total'])
    expect(told(await planned())).toMatchObject({ clean: SAME, north: NEVER, total: NEVER })
    results.ran(await planned())
    const edited = {
      change: edit('clean', { sql: 'select id, region, amount + 1 as amount from source.orders' }),
    }
    results.ran(await planned(edited), ['clean', 'north', 'total'])
    expect(told(await planned(edited))).toMatchObject({ clean: 'run edited', north: 'run upstream_changed' })
  })

  it('[PLAN5] new data in a file, or a new file in a folder, rebuilds what reads it', async () => {
    results.ran(await planned())
    await fs.appendFile(path.join(filesDir, 'orders.csv'), '3,north,7\n')
    const result = await planned()
    expect(told(result)).toMatchObject({
      clean: 'run source_changed',
      total: 'run upstream_changed',
      prices: SAME,
    })
    expect(result.steps[0]?.reason.words).toBe('The data of source.orders changed.')
    results.ran(result)
    await fs.writeFile(path.join(filesDir, 'rates', 'b.csv'), 'currency,rate\nusd,1.1\n')
    expect(told(await planned())).toMatchObject({
      clean: SAME,
      prices: 'run source_changed',
      ranked: 'run upstream_changed',
    })
  })

  it('[PLAN6] a changed param rebuilds the steps that use it and what is behind them', async () => {
    results.ran(await planned())
    const result = await planned({ params: { region: 'south' } })
    expect(told(result)).toMatchObject({
      clean: SAME,
      north: 'run params_changed',
      total: 'run upstream_changed',
      ranked: SAME,
    })
    expect(result.plan.params.region).toEqual({ type: 'text', value: 'south' })
    results.ran(result)
    expect(told(await planned())).toMatchObject({ north: 'reuse made_before', total: 'reuse made_before' })
  })

  it('[PLAN7] an edited test rebuilds its own step alone', async () => {
    results.ran(await planned())
    const tests = [
      { id: 't', type: 'not_null' as const, column: 'id', severity: 'error' as const, description: '' },
    ]
    const result = await planned({ change: edit('clean', { tests }) })
    expect(told(result)).toMatchObject({ clean: 'run edited', north: SAME, total: SAME })
    expect(result.plan.steps[0]?.tests).toEqual([
      { test_id: 't', type: 'not_null', severity: 'error', sql: 'SELECT * FROM "clean" WHERE "id" IS NULL' },
    ])
  })

  it('[PLAN8] what differs at each run is always rebuilt, with all downstream', async () => {
    const change = edit('north', { sql: 'select *, random() as r from clean where region = $region' })
    results.ran(await planned({ change }))
    const result = await planned({ change })
    expect(told(result)).toMatchObject({ clean: SAME, north: 'run volatile', total: 'run upstream_changed' })
    expect(result.steps.find(step => step.name === 'north')?.reason.words).toContain('random()')
  })

  it('[PLAN9] a full refresh rebuilds what is up to date under the same names', async () => {
    const first = await planned()
    results.ran(first)
    const result = await planned({ full: true })
    expect(new Set(Object.values(told(result)))).toEqual(new Set(['run forced']))
    expect(result.plan.steps.map(step => step.fingerprint)).toEqual(
      first.plan.steps.map(step => step.fingerprint),
    )
  })
})

describe('selection', () => {
  const names = (result: PlanResult) => result.plan.steps.map(step => step.name)

  it('[PLAN10] name, +name, name+, levels, tag:, source:, wildcards, union and intersection', async () => {
    results.ran(await planned())
    const ran = async (selection: string) =>
      (await planned({ selection, full: true })).steps
        .filter(step => step.action === 'run')
        .map(step => step.name)
    expect(await ran('north')).toEqual(['north'])
    expect(await ran('+north')).toEqual(['clean', 'north'])
    expect(await ran('north+')).toEqual(['north', 'total'])
    expect(await ran('1+total')).toEqual(['north', 'total'])
    expect(await ran('clean+1 ranked')).toEqual(['clean', 'north', 'ranked'])
    expect(await ran('clean+,+north')).toEqual(['clean', 'north'])
    expect(await ran('tag:weekly')).toHaveLength(5)
    expect(await ran('source:rates+')).toEqual(['prices', 'ranked'])
    expect(await ran('r*')).toEqual(['ranked'])
  })

  it('[PLAN11] a selection that names nothing is refused with a hint', async () => {
    await expect(planned({ selection: 'nroth+' })).rejects.toMatchObject({
      code: 'step.not_found',
      hint: 'Did you mean "north"?',
    })
    await expect(planned({ selection: 'tag:daily' })).rejects.toMatchObject({ code: 'step.not_found' })
  })

  it('[PLAN12] a selected step brings what it needs, and is never built on something stale', async () => {
    const result = await planned({ selection: 'total' })
    expect(names(result)).toEqual(['clean', 'north', 'total'])
    expect(told(result)).toMatchObject({ prices: 'skip not_selected', clean: NEVER })
    expect(result.plan.complete).toBe(false)
    expect(result.plan.sources.map(source => source.name)).toEqual(['orders'])
  })
})

it('[PLAN13] the plan says what is read and what would be published', async () => {
  const result = await planned({
    change: definition => {
      definition.publish.snapshots.push({ step: 'total', columns: ['total'], max_rows: 10 })
    },
  })
  expect(result.reads).toMatchObject([
    { source: 'orders', path: 'orders.csv', files: 1 },
    { source: 'rates', path: 'rates', files: 1 },
  ])
  expect(result.publishes).toEqual([
    { what: 'report', columns: [], max_rows: null },
    { what: 'redacted log', columns: [], max_rows: null },
    { what: 'snapshot of total', columns: ['total'], max_rows: 10 },
  ])
})

it('[PLAN14] a param without a value stops only a plan that uses it', async () => {
  const change: Change = definition => {
    definition.params.region!.default = null
  }
  await expect(planned({ change })).rejects.toMatchObject({
    code: 'request.invalid',
    message: expect.stringContaining('$region'),
  })
  expect((await planned({ change, selection: 'ranked' })).plan.steps).toHaveLength(2)
})
