import { promises as fs } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { pipelineFromFiles } from '@pluto-duck/crdt-model'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { ColumnLineage, type Compiled, compile, RunnerChild } from '../../src/compile/index.ts'
import { RunnerPool } from '../../src/runner/index.ts'
import { installSample } from '../../src/samples.ts'
import { resolveSources } from '../../src/sources/resolve-sources.ts'

const lineage = new ColumnLineage()
let filesDir: string
beforeAll(async () => {
  filesDir = await fs.mkdtemp(path.join(os.tmpdir(), 'pluto-lineage-'))
})
afterAll(async () => {
  await lineage.close()
  await fs.rm(filesDir, { recursive: true, force: true })
})

async function sample() {
  const imported = pipelineFromFiles((await installSample({ filesDir })).files)
  if (!imported.ok) throw new Error('the sample does not import')
  const { definition } = imported
  const pool = new RunnerPool()
  const sources = await resolveSources(definition, { filesDir })
  const compiled: Compiled = await compile(definition, { runner: new RunnerChild(pool), sources })
  await pool.close()
  return async (step: string, column: string) => {
    const { edges, untraced } = await lineage.trace(definition, compiled, `city-weather-${step}`, column)
    expect(untraced).toEqual([])
    return edges.map(edge => `${edge.from}.${edge.from_column} -> ${edge.to}.${edge.to_column}`).sort()
  }
}

it('[CMP13] a column is traced through renames, CTEs, windows and unions up to the sources', async () => {
  const trace = await sample()
  expect(await trace('monthly', 'mean_c')).toEqual([
    'daily.high_c -> monthly.mean_c',
    'daily.low_c -> monthly.mean_c',
    'source.weather.temp_max -> daily.high_c',
    'source.weather.temp_min -> daily.low_c',
  ])
  expect(await trace('monthly', 'precipitation_mm')).toEqual([
    'daily.precipitation_mm -> monthly.precipitation_mm',
    'source.weather.precipitation -> daily.precipitation_mm',
  ])
  expect(await trace('records', 'value')).toContain('daily.wind_ms -> records.value')
  expect(await trace('skies', 'days')).toEqual([])
  expect(await trace('skies', 'nope')).toEqual([])
})

it('[CMP13] SQL that cannot be traced is named, and costs nothing else', async () => {
  const short = new ColumnLineage(1, 0)
  const imported = pipelineFromFiles((await installSample({ filesDir })).files)
  if (!imported.ok) throw new Error('the sample does not import')
  const step = {
    step_id: 'city-weather-daily',
    name: 'daily',
    depends_on: [],
    sources: ['weather'],
    columns: [{ name: 'city', type: 'VARCHAR' }],
  }
  const compiled = { steps: [step], sources: [] } as unknown as Compiled
  expect(await short.trace(imported.definition, compiled, step.step_id, 'city')).toEqual({
    edges: [],
    untraced: ['daily'],
  })
  await short.close()
})
