import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { Preview } from '../../src/run/index.ts'
import { type Runner, RunnerPool } from '../../src/runner/index.ts'
import { dataFolder, planOf } from './plans.ts'

let data: ReturnType<typeof dataFolder>
beforeEach(() => {
  data = dataFolder()
})
afterEach(() => data.close())

/** Knows which runners were handed out, so that a test can kill them. */
class TargetPool extends RunnerPool {
  readonly given: Runner[] = []
  override take(): Runner {
    const runner = super.take()
    this.given.push(runner)
    return runner
  }
}

const ROWS = 200_000
const steps = (rows: number) => ({
  one: { sql: `select i, hash(i) as h, 'text ' || i as t from range(${rows}) t(i)` },
  two: { sql: 'select h % 1000 as k, count(*) as n, sum(i) as s from one group by k', needs: ['one'] },
  three: { sql: 'select o.i, t.n, t.s from one o join two t on t.k = o.h % 1000', needs: ['one', 'two'] },
})

it('[RUN10] kill -9 of the runner at random moments leaves no half result, and the run still ends', async () => {
  const pool = new TargetPool({ tempRoot: join(data.folder, 'tmp') })
  let successes = 0
  for (let round = 0; round < 4; round++) {
    const killer = setInterval(() => {
      const target = pool.given.at(-1)
      // At most one kill in a run: a second would use up the attempt that a crash is forgiven.
      if (target?.pid && target.alive && Math.random() < 0.3) {
        process.kill(target.pid, 'SIGKILL')
        clearInterval(killer)
      }
    }, 60)
    const outcome = await data.run(planOf(data, `k${round}`, steps(ROWS)), { pool })
    clearInterval(killer)
    expect(['success', 'failed']).toContain(outcome.state)
    if (outcome.state === 'success') successes += 1
    else expect(['internal', 'resource']).toContain(outcome.error?.class)
    for (const name of readdirSync(join(data.folder, 'results/w1'))) {
      expect(name).not.toMatch(/^\.making|\.tmp$/)
      const fingerprint = name.replace(/\.(parquet|json)$/, '')
      const record = await data.warehouse.result('w1', fingerprint)
      expect(record?.rows).toBe(fingerprint.startsWith('two') ? 1000 : ROWS)
    }
  }
  expect(successes).toBeGreaterThan(0)
  await pool.close()
  expect(readdirSync(join(data.folder, 'tmp'))).toEqual(['code-cache'])
})

it('[RUN10] a runner ends with its host, and the next host clears what it left', async () => {
  const tempRoot = join(data.folder, 'orphans')
  const runnerModule = new URL('../../src/runner/index.ts', import.meta.url).href
  const code = `
    const { Runner } = await import(${JSON.stringify(runnerModule)})
    const runner = new Runner({ tempRoot: ${JSON.stringify(tempRoot)} })
    await runner.configure({ limits: { memory_bytes: 2 ** 28, threads: 1, temp_bytes: 0 }, allowed_paths: [], connections: 1 })
    runner.query({ sql: 'select count(*) from range(1000000) a(x), range(1000000) b(y) where a.x + b.y = 3', params: {}, offset: 0, limit: 1 })
    console.log(runner.pid)`
  const host = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const pid = Number(await new Promise(resolve => host.stdout.once('data', resolve)))
  await new Promise(resolve => setTimeout(resolve, 200))
  // So that the first thing that it does afterwards is to tell its progress, to nobody.
  process.kill(pid, 'SIGSTOP')
  const gone = new Promise(resolve => host.once('exit', resolve))
  host.kill('SIGKILL')
  await gone
  await new Promise(resolve => setTimeout(resolve, 500))
  process.kill(pid, 'SIGCONT')
  const isAlive = () => {
    try {
      process.kill(pid, 0)
      return true
    } catch {
      return false
    }
  }
  await expect.poll(isAlive, { timeout: 15_000 }).toBe(false)
  expect(readdirSync(tempRoot).filter(name => name.startsWith('runner-')).length).toBe(1)
  const next = new RunnerPool({ tempRoot })
  expect(readdirSync(tempRoot).filter(name => name.startsWith('runner-'))).toEqual([])
  await next.close()
})

it('[RUN10] what a dead host was making is collected, never taken for a result', async () => {
  const staged = await data.warehouse.stagePath('w1', 'half-00000000')
  const connection = await (await DuckDBInstance.create(':memory:')).connect()
  await connection.run(`copy (select 1 as a) to '${staged}' (format parquet)`)
  expect(await data.warehouse.result('w1', 'half-00000000')).toBeNull()
  const gone = await data.warehouse.collect('w1', { keep: new Set(), olderThanMs: 0, now: Date.now() + 1000 })
  expect(gone).toEqual([])
  expect(existsSync(staged)).toBe(false)
})

it('[WH5] a preview and a foreign reader stay as they were opened while current results are swapped', async () => {
  await data.run(planOf(data, 'a', { one: { sql: 'select i, 1::hugeint as v from range(1000) t(i)' } }))
  const parts = { pool: data.pool, warehouse: data.warehouse, limits: data.parts.settings.limits }
  const preview = await Preview.openCurrent(parts, 'w1', 'p1')
  const script = () => readFileSync(join(data.folder, 'catalog/w1/p1.sql'), 'utf8')
  const other = await DuckDBInstance.create(':memory:')
  const foreign = await other.connect()
  await foreign.run(script())
  const seen = async () => [
    (await preview!.query('select sum(v), min(typeof(v)) from one', { offset: 0, limit: 1 })).rows,
    (await foreign.runAndReadAll('select sum(v), min(typeof(v)) from one')).getRowsJson(),
  ]
  const before = await seen()
  expect(before).toEqual([[['1000', 'HUGEINT']], [['1000', 'HUGEINT']]])
  const stream = await (await other.connect()).stream('from one')

  await data.run(planOf(data, 'b', { one: { sql: 'select i, 2::hugeint as v from range(1000) t(i)' } }))
  expect(await seen()).toEqual(before)
  expect((await stream.getRows()).length).toBe(1000)
  const options = { keep: new Set<string>(), olderThanMs: 0, now: Date.now() + 1000 }
  expect(await data.warehouse.collect('w1', options)).toEqual([])
  await preview!.close()
  expect(await data.warehouse.collect('w1', options)).toEqual(['one-a-0000'])

  await foreign.run(script())
  expect((await foreign.runAndReadAll('select sum(v) from one')).getRowsJson()).toEqual([['2000']])
})

it('[WH5] a reader of the catalog sees all of one run or all of another', async () => {
  const names = ['a', 'b', 'c']
  const run = (tag: string) =>
    data.run(
      planOf(data, tag, Object.fromEntries(names.map(name => [name, { sql: `select '${tag}' as v` }]))),
    )
  await run('r0')
  let reading = true
  const reader = (async () => {
    while (reading) {
      const catalog = await data.warehouse.catalog('w1', 'p1')
      const runs = new Set(catalog?.steps.map(step => step.pointer.fingerprint.split('-')[1]))
      expect(runs.size).toBe(1)
      expect(catalog?.steps.length).toBe(3)
      await new Promise(resolve => setTimeout(resolve, 5))
    }
  })()
  for (const tag of ['r1', 'r2', 'r3']) await run(tag)
  reading = false
  await reader
})

it('[RUN2] pages through a preview, exactly', async () => {
  await data.run(planOf(data, 'a', { one: { sql: 'select i from range(5000) t(i)' } }))
  const parts = { pool: data.pool, warehouse: data.warehouse, limits: data.parts.settings.limits }
  const preview = (await Preview.openCurrent(parts, 'w1', 'p1'))!
  const last = await preview.query('from one', { offset: 4990, limit: 20 })
  expect(last.rows.map(row => row[0])).toEqual(Array.from({ length: 10 }, (_, i) => String(4990 + i)))
  expect(last.more).toBe(false)
  expect((await preview.query('from one', { offset: 0, limit: 20 })).more).toBe(true)
  await preview.close()
})
