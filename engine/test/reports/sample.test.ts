import { promises as fs } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { pipelineFromFiles, pipelineToFiles } from '@pluto-duck/crdt-model'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { compile, RunnerChild } from '../../src/compile/index.ts'
import { catalogForPlan, makePlan } from '../../src/plan/index.ts'
import { openReportReader, renderReport, reportSteps, type WrittenReport } from '../../src/reports/index.ts'
import { DEFAULT_SETTINGS, executePlan, type RunOutcome } from '../../src/run/index.ts'
import { RunnerPool } from '../../src/runner/index.ts'
import { installSample } from '../../src/samples.ts'
import { resolveSources } from '../../src/sources/resolve-sources.ts'
import { SourceHashes } from '../../src/sources/source-state.ts'
import { Warehouse } from '../../src/warehouse/index.ts'

const clock = { now: () => Date.now() }
let pool: RunnerPool
let dataDir: string
let warehouse: Warehouse

beforeAll(async () => {
  pool = new RunnerPool()
  dataDir = await fs.mkdtemp(path.join(os.tmpdir(), 'pluto-sample-'))
  warehouse = new Warehouse(dataDir)
})
afterAll(async () => {
  await pool.close()
  if (process.env.PLUTO_KEEP_REPORT) console.log(`kept: ${dataDir}`)
  else await fs.rm(dataDir, { recursive: true, force: true })
})

async function sample() {
  const filesDir = path.join(dataDir, 'files')
  const { files } = await installSample({ filesDir })
  const imported = pipelineFromFiles(files)
  if (!imported.ok) throw new Error(JSON.stringify(imported.problems, null, 2))
  const { definition } = imported
  const sources = await resolveSources(definition, { filesDir })
  const yaml = files['pipeline.yaml']!
  const compiled = await compile(definition, { runner: new RunnerChild(pool), sources, yaml })
  return { files, definition, sources, compiled }
}

async function run(runId: string) {
  const { definition, sources, compiled } = await sample()
  const hashes = new SourceHashes(path.join(dataDir, 'cache', 'sources.json'))
  const weather = sources.weather!
  if (weather.state !== 'ready') throw new Error(weather.message)
  const { plan, steps } = await makePlan({
    run_id: runId,
    workspace_id: 'w1',
    pipeline_id: 'p1',
    definition,
    compiled,
    sources,
    source_states: { weather: await hashes.stateOf(weather) },
    catalog: await catalogForPlan(warehouse, 'w1', 'p1'),
  })
  const settings = { ...DEFAULT_SETTINGS, limits: { ...DEFAULT_SETTINGS.limits, memory_bytes: 2 ** 30 } }
  const privateDir = path.join(dataDir, 'private')
  const outcome = await executePlan(plan, { warehouse, pool, privateDir, settings, clock, onEvent: () => {} })
  return { definition, plan, steps, outcome, settings }
}

describe('the sample pipeline', () => {
  it('[SMP1] imports, is what export writes, and compiles without a problem', async () => {
    const { files, definition, compiled } = await sample()
    expect(pipelineToFiles(definition)).toEqual(files)
    expect(compiled.problems).toEqual([])
    expect(compiled.steps.map(step => step.name)).toEqual([
      'daily',
      'monthly',
      'skies',
      'yearly',
      'wet_spells',
      'records',
    ])
    expect(compiled.steps.every(step => step.columns !== null)).toBe(true)
  })

  let first: { outcome: RunOutcome; report: WrittenReport } | null = null

  it('[SMP2] runs: every step is built, every test passes or only warns', async () => {
    const { definition, plan, outcome, settings } = await run('run-1')
    expect(outcome.error).toBeUndefined()
    expect(outcome.state).toBe('success')
    expect(outcome.steps.map(step => [step.name, step.rows])).toMatchObject([
      ['daily', 2922],
      ['monthly', 24],
      ['skies', null],
      ['yearly', 8],
      ['wet_spells', expect.any(Number)],
      ['records', 8],
    ])
    const tests = outcome.steps.flatMap(step => step.tests)
    expect(new Set(tests.map(test => test.type))).toEqual(
      new Set(['not_null', 'unique', 'accepted_values', 'custom']),
    )
    expect(tests.filter(test => test.severity === 'error').every(test => test.state === 'passed')).toBe(true)

    const reader = await openReportReader({ plan, outcome, warehouse, pool, limits: settings.limits })
    const report = await renderReport({
      definition,
      params: plan.params,
      reader,
      dataDir,
      clock,
      run: {
        run_id: 'run-1',
        pipeline_id: 'p1',
        version: 3,
        author: 'Ada',
        started_at: '2026-01-31T13:00:00.000Z',
        finished_at: '2026-01-31T13:00:02.000Z',
        steps: reportSteps(definition, outcome),
      },
    })
    await reader.close()
    expect(report.failures).toEqual([])
    first = { outcome, report }
  })

  it('[REP1] its report has its charts as SVG, its tables, and what it is pinned to', async () => {
    const { folder } = first!.report
    const html = await fs.readFile(path.join(folder, 'report.html'), 'utf8')
    expect(html.match(/<svg /g)).toHaveLength(2)
    expect(html).toContain('version 3')
    expect(html).toContain('31 Jan 2026, 13:00 UTC')
    expect(html).toContain('wet_mm = 1')
    expect(html).toContain('run-1')
    expect(html).toContain('unique(city, day)')
    const metadata = JSON.parse(await fs.readFile(path.join(folder, 'metadata.json'), 'utf8'))
    expect(metadata).toMatchObject({
      format: 'pluto-report/1',
      run_id: 'run-1',
      version: 3,
      draft: false,
      params: { wet_mm: 1 },
    })
    const markdown = await fs.readFile(path.join(folder, 'report.md'), 'utf8')
    expect(markdown).toContain('| Seattle | 2012 |')
  })

  it('[REP2] the report loads nothing, runs nothing and refers to nothing outside', async () => {
    const html = await fs.readFile(path.join(first!.report.folder, 'report.html'), 'utf8')
    expect(html).toContain('Content-Security-Policy')
    expect(html).not.toMatch(
      /<script|<iframe|<img|<image|<link|<object|javascript:|\son\w+=|@import|url\((?!#)/i,
    )
    expect(html.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(/(src|href)="(?!#)/)
  })

  it('[PLAN1] a second run reuses every result', async () => {
    const { steps, outcome } = await run('run-2')
    expect(steps.map(step => `${step.name} ${step.action}`)).toEqual(
      ['daily', 'monthly', 'skies', 'yearly', 'wet_spells', 'records'].map(name => `${name} reuse`),
    )
    expect(outcome.state).toBe('success')
  })
})
