import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { afterEach, beforeEach, expect, it } from 'vitest'
import type { RunEvent } from '../../src/run/index.ts'
import { dataFolder, planOf } from './plans.ts'

let data: ReturnType<typeof dataFolder>
beforeEach(() => {
  data = dataFolder()
})
afterEach(() => data.close())

const STEPS = {
  clean: { sql: 'select * from source.orders where region is not null' },
  named: { sql: 'from clean select *, upper(region) as name', needs: ['clean'], materialize: 'view' },
  totals: {
    sql: 'select name, sum(amount) as total from named where amount >= $least group by name order by name',
    needs: ['named'],
  },
}
const least = (value: number) => ({ params: { least: { type: 'integer' as const, value } } })

async function readCurrent(step: string): Promise<unknown> {
  const connection = await (await DuckDBInstance.create(':memory:')).connect()
  const { readFileSync } = await import('node:fs')
  await connection.run(readFileSync(join(data.folder, 'catalog/w1/p1.sql'), 'utf8'))
  return (await connection.runAndReadAll(`from ${step}`)).getRowsJson()
}

it('[RUN3] runs steps in the order of the DAG, through views, with params, and makes them current', async () => {
  const outcome = await data.run(planOf(data, 'a', STEPS, least(5)))
  expect(outcome).toMatchObject({ state: 'success', swapped: true })
  expect(outcome.steps.map(s => [s.name, s.state, s.rows])).toEqual([
    ['clean', 'done', 3],
    ['named', 'done', null],
    ['totals', 'done', 2],
  ])
  expect(await readCurrent('totals')).toEqual([
    ['NORTH', '40'],
    ['SOUTH', '20'],
  ])
  expect(data.events.at(0)).toMatchObject({ type: 'run', state: 'running' })
  expect(data.events.at(-1)).toMatchObject({ type: 'run', state: 'success' })
})

it('[RUN4] takes a result that is there as it is, and says so', async () => {
  await data.run(planOf(data, 'a', STEPS, least(5)))
  const again = planOf(data, 'a', { ...STEPS, clean: { ...STEPS.clean, reuse: true } }, least(25))
  again.steps[2]!.fingerprint = 'totals-b-0000'
  const outcome = await data.run(again)
  expect(outcome.steps.map(s => s.state)).toEqual(['reused', 'done', 'done'])
  expect(await readCurrent('totals')).toEqual([['NORTH', '30']])
})

it('[RUN5] a failing test of severity error keeps the old results current, skips downstream and keeps the rows', async () => {
  await data.run(planOf(data, 'a', STEPS, least(5)))
  const before = await data.warehouse.catalog('w1', 'p1')
  const bad = planOf(
    data,
    'b',
    {
      ...STEPS,
      clean: {
        sql: 'select * from source.orders',
        tests: [
          { test_id: 't1', type: 'not_null', severity: 'error', sql: 'from clean where region is null' },
          { test_id: 't2', type: 'custom', severity: 'warn', sql: 'from clean where id > 2' },
        ],
      },
    },
    least(5),
  )
  const outcome = await data.run(bad)
  expect(outcome).toMatchObject({ state: 'failed', swapped: false, error: { class: 'data_test' } })
  expect(outcome.steps.map(s => s.state)).toEqual(['failed', 'skipped', 'skipped'])
  expect(outcome.steps[0]!.tests.map(t => [t.state, t.failing_rows])).toEqual([
    ['failed', 1],
    ['failed', 2],
  ])
  expect(await data.warehouse.catalog('w1', 'p1')).toEqual(before)
  expect(readdirSync(join(data.folder, 'private', 'run-b')).sort()).toEqual([
    'clean.t1.parquet',
    'clean.t2.parquet',
  ])
  expect(await data.warehouse.result('w1', 'clean-b-0000')).toBeNull()
})

it('[RUN5] a failing test of severity warn reports, and reports again when the result is reused', async () => {
  const warn = {
    clean: {
      sql: 'select * from source.orders',
      tests: [{ test_id: 't', type: 'not_null', severity: 'warn', sql: 'from clean where region is null' }],
    },
  }
  expect(await data.run(planOf(data, 'a', warn))).toMatchObject({ state: 'success', swapped: true })
  data.events.length = 0
  await data.run(planOf(data, 'a', { clean: { ...warn.clean, reuse: true } }))
  expect(data.events.find(e => e.type === 'test')).toMatchObject({ state: 'failed', failing_rows: 1 })
})

it('[RUN6] a step that fails stops only what reads it; what was finished is taken by the next run', async () => {
  const steps = {
    good: { sql: 'select 1 as a' },
    broken: { sql: "select cast(region as integer) as planted from source.orders where region = 'north'" },
    after: { sql: 'from broken', needs: ['broken'] },
    also: { sql: 'from good', needs: ['good'] },
  }
  const outcome = await data.run(planOf(data, 'a', steps))
  expect(outcome.steps.map(s => s.state)).toEqual(['done', 'failed', 'skipped', 'done'])
  expect(await data.warehouse.result('w1', 'also-a-0000')).toMatchObject({ rows: 1 })
  expect(await data.warehouse.catalog('w1', 'p1')).toBeNull()

  const open = data.events.map(event => ({ ...event, private: undefined }))
  expect(JSON.stringify(open)).not.toContain('north')
  expect(JSON.stringify(data.events)).toContain('north')
})

it('[RUN7] is cancelled in under a second and leaves no file behind', async () => {
  const abort = new AbortController()
  const slow = planOf(data, 'a', {
    slow: { sql: 'select a.x * b.y as z from range(1000000) a(x), range(100000) b(y)' },
    next: { sql: 'from slow', needs: ['slow'] },
  })
  const running = data.run(slow, {
    signal: abort.signal,
    onEvent: event => {
      data.events.push(event)
      if (event.type === 'progress') abort.abort()
    },
  })
  await new Promise<void>(resolve => abort.signal.addEventListener('abort', () => resolve()))
  const cancelledAt = Date.now()
  const outcome = await running
  // Some 50 ms on a machine at rest. The bound leaves room for one that is busy with other tests.
  expect(Date.now() - cancelledAt).toBeLessThan(3000)
  expect(outcome.state).toBe('cancelled')
  expect(outcome.steps.map(s => s.state)).toEqual(['cancelled', 'cancelled'])
  expect(readdirSync(join(data.folder, 'results/w1'))).toEqual([])
})

it('[RUN8] a step over its time limit fails with its class, and is tried again as often as it says', async () => {
  const outcome = await data.run(
    planOf(data, 'a', {
      slow: {
        sql: 'select count(*) from range(1000000) a(x), range(1000000) b(y) where a.x + b.y = 3',
        timeout_s: 0.3,
        retry: { attempts: 2, backoff_s: 0 },
      },
    }),
  )
  expect(outcome.steps[0]).toMatchObject({ state: 'failed', attempts: 2, error: { class: 'timeout' } })
})

it('[RUN8] a step that needs more memory than it may use fails as a lack of resources', async () => {
  const settings = {
    ...data.parts.settings,
    limits: { memory_bytes: 60 * 2 ** 20, threads: 2, temp_bytes: 2 ** 20 },
  }
  const outcome = await data.run(
    planOf(data, 'a', { big: { sql: 'select list(x) as l from range(100000000) t(x)' } }),
    { settings },
  )
  expect(outcome.error).toMatchObject({ class: 'resource' })
})

it('[RUN9] a source that is gone fails as a source, before any step', async () => {
  const outcome = await data.run(
    planOf(
      data,
      'a',
      { one: { sql: 'from source.orders' } },
      { sources: [{ name: 'orders', kind: 'csv', paths: [join(data.folder, 'none.csv')], options: {} }] },
    ),
  )
  expect(outcome).toMatchObject({ state: 'failed', error: { class: 'source' } })
})

it('[WH3] a partial run changes the pointers of its steps alone', async () => {
  await data.run(planOf(data, 'a', { one: { sql: 'select 1 as a' }, two: { sql: 'select 2 as a' } }))
  await data.run(planOf(data, 'b', { two: { sql: 'select 3 as a' } }, { complete: false }))
  expect(await readCurrent('one')).toEqual([[1]])
  expect(await readCurrent('two')).toEqual([[3]])
})

it('[WH4] collects what nothing points at, and nothing that is in use, kept or young', async () => {
  for (const tag of ['a', 'b', 'c', 'd'])
    await data.run(planOf(data, tag, { one: { sql: `select '${tag}' as a` } }))
  const later = Date.now() + 1000
  const release = data.warehouse.lease('w1', ['one-a-0000'])
  const options = { keep: new Set(['one-b-0000']), olderThanMs: 500, now: later }
  expect(await data.warehouse.collect('w1', { ...options, olderThanMs: 10_000 })).toEqual([])
  expect(await data.warehouse.collect('w1', options)).toEqual(['one-c-0000'])
  release()
  expect(await data.warehouse.collect('w1', options)).toEqual(['one-a-0000'])
  expect(existsSync(data.warehouse.resultPath('w1', 'one-d-0000'))).toBe(true)
  expect(existsSync(data.warehouse.resultPath('w1', 'one-b-0000'))).toBe(true)
})

const FULL = new Error('no space left on device')
const untold = (state: string) => ({
  onEvent: (event: RunEvent) => {
    if (event.type !== 'progress' && event.state === state) throw FULL
  },
})

it('[RUN18] a run of which a step that is passed over cannot be told ends with that error, and nothing else does', async () => {
  const steps = {
    broken: { sql: "select cast('x' as integer) as a" },
    after: { sql: 'select a from broken', needs: ['broken'] },
  }
  await expect(data.run(planOf(data, 'a', steps), untold('skipped'))).rejects.toBe(FULL)
})

it('[RUN18] a run that cannot be told of gives back what it leased', async () => {
  const one = { one: { sql: 'select 1 as a' } }
  for (const tag of ['a', 'b']) await data.run(planOf(data, tag, one))
  await expect(data.run(planOf(data, 'a', one), untold('running'))).rejects.toBe(FULL)
  const options = { keep: new Set<string>(), olderThanMs: 500, now: Date.now() + 1000 }
  expect(await data.warehouse.collect('w1', options)).toEqual(['one-a-0000'])
})
