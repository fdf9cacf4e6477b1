import { afterAll, describe, expect, it } from 'vitest'
import { checkStatement, Runner, RunnerError } from '../../src/runner/index.ts'

const runner = new Runner()
afterAll(() => runner.kill())

const LIMITS = { memory_bytes: 512 * 2 ** 20, threads: 2, temp_bytes: 2 ** 30 }

describe('parsing', () => {
  it('[RUN1] parses one SELECT and names its params, binding nothing', async () => {
    const parsed = await runner.parse('select a, $x from source.o where é = $y -- end\n;')
    expect(parsed).toMatchObject({ ok: true, params: ['x', 'y'] })
  })

  it.each([
    ['', 'empty'],
    ['select 1; select 2', 'several'],
    ['insert into t values (1)', 'not_select'],
    ['call enable_logging()', 'not_select'],
    ['select * fro m', 'syntax'],
  ])('[RUN1] %j is no step: %s', async (sql, kind) => {
    expect(await runner.parse(sql)).toMatchObject({ ok: false, kind })
  })

  it('[RUN1] says line and column in characters', async () => {
    const parsed = await runner.parse("select 'é',\n  * fro m")
    expect(parsed).toMatchObject({ ok: false, position: { line: 2, column: 9 } })
  })

  it('[RUN1] parses casts to parameterised types', async () => {
    for (const type of ['struct(a int, b decimal(10,2))', "enum('x')", 'int[3]', 'union(a int)'])
      expect(await runner.parse(`select a::${type} from t`)).toMatchObject({ ok: true })
  })
})

describe('a configured runner', () => {
  it('[RUN2] answers a query and dies when it is told to, with typed errors', async () => {
    const own = new Runner()
    await own.configure({ limits: LIMITS, allowed_paths: [], connections: 2 })
    const page = await own.query({
      sql: "select 170141183460469231731687303715884105727 as big, $d as d, 'x' as t, date 'infinity' as i;",
      params: { d: { type: 'date', value: '2026-01-31' } },
      offset: 0,
      limit: 10,
    })
    expect(page.rows).toEqual([['170141183460469231731687303715884105727', '2026-01-31', 'x', 'infinity']])
    expect(page.columns.map(c => c.sql_type)).toEqual(['HUGEINT', 'DATE', 'VARCHAR', 'DATE'])
    const slow = own.query({ sql: SLOW, params: {}, offset: 0, limit: 1 })
    const lost = expect(slow).rejects.toMatchObject({ code: 'run.resource' })
    await own.kill()
    await lost
    await expect(own.parse('select 1')).rejects.toBeInstanceOf(RunnerError)
  })

  it('[RUN2] places a binder error in the text that was sent', async () => {
    const own = new Runner()
    await own.configure({ limits: LIMITS, allowed_paths: [], connections: 1 })
    const asked = own.describe({ sql: "select 'é' as e,\n  nothing_here", params: {} })
    await expect(asked).rejects.toMatchObject({ failure: { class: 'sql', position: { line: 2, column: 3 } } })
    await own.kill()
  })

  it('[BOX5] forgets what was named, unless it may open files', async () => {
    const own = new Runner()
    await own.configure({ limits: LIMITS, allowed_paths: [], connections: 1 })
    const name = { schema: 'source', name: 'a "quoted" name' } as const
    await own.defineShape({ ...name, columns: [{ name: 'x', type: "ENUM('a', 'b')" }] })
    const sql = 'select * from source."a ""quoted"" name"'
    expect((await own.describe({ sql, params: {} })).columns[0]?.sql_type).toBe("ENUM('a', 'b')")
    const smuggled = { ...name, columns: [{ name: 'x', type: "INTEGER) AS a, getenv('HOME') AS b, (1" }] }
    await expect(own.defineShape(smuggled)).rejects.toMatchObject({ failure: { class: 'permission' } })
    await own.forget()
    await expect(own.describe({ sql, params: {} })).rejects.toMatchObject({ failure: { class: 'sql' } })
    await own.kill()
    const reader = new Runner()
    await reader.configure({ limits: LIMITS, allowed_paths: ['/nowhere.csv'], connections: 1 })
    await expect(reader.forget()).rejects.toMatchObject({ failure: { class: 'internal' } })
    await reader.kill()
  })

  it('[RUN2] is interrupted within a second, and goes on working', async () => {
    const own = new Runner()
    await own.configure({ limits: LIMITS, allowed_paths: [], connections: 2 })
    const abort = new AbortController()
    const slow = own.query({ sql: SLOW, params: {}, offset: 0, limit: 1 }, { signal: abort.signal })
    setTimeout(() => abort.abort(), 200)
    await expect(slow).rejects.toMatchObject({ code: 'run.cancelled' })
    const late = own.query({ sql: SLOW, params: {}, offset: 0, limit: 1 }, { timeoutMs: 200 })
    await expect(late).rejects.toMatchObject({ code: 'run.timeout' })
    expect(own.alive).toBe(true)
    const page = await own.query({ sql: 'select 1 as a', params: {}, offset: 0, limit: 1 })
    expect(page.rows).toEqual([[1]])
    await own.kill()
  })
})

const SLOW = 'select count(*) from range(100000) a(x), range(100000) b(y) where (a.x * b.y) % 7 = 3'

describe('the guard', () => {
  it('[BOX1] lets compile check a tree without a session', async () => {
    const parsed = await runner.parse("select getenv('HOME') from read_csv('x')")
    if (!parsed.ok) throw new Error(parsed.message)
    expect(checkStatement(parsed.statements[0], null).map(v => v.name)).toEqual(['getenv', 'read_csv'])
  })
})
