import { existsSync, linkSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Runner, RunnerError } from '../../src/runner/index.ts'

const folder = mkdtempSync(join(tmpdir(), 'attacks-'))
const secret = join(folder, 'secret.csv')
const input = join(folder, 'input.csv')
const result = join(folder, 'result.parquet')
const SECRET = 'planted-secret-value'
writeFileSync(secret, `s\n${SECRET}\n`)
writeFileSync(input, 'a,b\n1,2\n')
symlinkSync(secret, join(folder, 'link.csv'))
linkSync(secret, join(folder, 'hard.csv'))

let runner: Runner
beforeAll(async () => {
  runner = new Runner()
  await runner.configure({
    limits: { memory_bytes: 2 ** 29, threads: 2, temp_bytes: 2 ** 28 },
    allowed_paths: [input, result],
    connections: 1,
  })
  await runner.defineSource({ name: 'input', kind: 'csv', paths: [input], options: {} })
})
afterAll(async () => {
  await runner.kill()
  rmSync(folder, { recursive: true })
})

const path = (name: string) => `'${join(folder, name)}'`

/** SELECTs, and things that are none, each of which must be refused before it does anything. */
const ATTACKS = [
  // files
  `select * from read_csv(${path('secret.csv')})`,
  `select * from read_csv(${path('input.csv')})`,
  `from ${path('secret.csv')}`,
  `from ${path('input.csv')}`,
  `from "${join(folder, 'secret.csv')}"`,
  `with x as (from ${path('secret.csv')}) from x`,
  `select (select s from ${path('secret.csv')})`,
  `select * from source.input where exists (from ${path('secret.csv')})`,
  `select * from read_text(${path('secret.csv')})`,
  `select content from read_blob(${path('secret.csv')})`,
  `select * from parquet_scan(${path('result.parquet')})`,
  `select * from parquet_metadata(${path('result.parquet')})`,
  `select * from parquet_kv_metadata(${path('result.parquet')})`,
  `select * from read_json_auto(${path('secret.csv')})`,
  `select * from read_ndjson_objects(${path('secret.csv')})`,
  `select * from read_duckdb(${path('secret.csv')})`,
  `select * from sniff_csv(${path('secret.csv')})`,
  `select * from glob('/etc/*')`,
  `from "${join(folder, 'link.csv')}"`,
  `from "${join(folder, 'hard.csv')}"`,
  `from 'file://${secret}'`,
  `from 'https://example.com/x.parquet'`,
  `from 's3://bucket/x.parquet'`,
  `from (from ${path('secret.csv')}) union all from source.input`,
  `pivot (from ${path('secret.csv')}) on s in ('a') using count(*)`,
  `unpivot (from ${path('secret.csv')}) on s`,
  // SQL from text
  "select * from query('select 1')",
  `select * from query('from ''' || ${path('secret.csv')} || '''')`,
  "select * from query_table('input')",
  "select * from query_table(['input'])",
  "from json_execute_serialized_sql(json_serialize_sql('select 1'))",
  "select json_serialize_plan('select 1')",
  // environment, settings, catalogs, secrets
  "select getenv('HOME')",
  "select current_setting('temp_directory')",
  "select getvariable('x')",
  'from duckdb_settings()',
  'from duckdb_secrets()',
  'from duckdb_views()',
  'from duckdb_tables',
  'from information_schema.tables',
  'from pg_catalog.pg_class',
  'from sqlite_master',
  'from system.information_schema.schemata',
  'from memory.source.input',
  'from duckdb_logs()',
  'from duckdb_temporary_files()',
  "from which_secret('s3://x', 's3')",
  "from pragma_table_info('source.input')",
  "from pragma_storage_info('x')",
  'show tables',
  'show all tables',
  'describe (from duckdb_settings())',
  'summarize duckdb_settings',
  // the process
  `from enable_logging(storage_path = ${path('log')})`,
  "call enable_logging('QueryLog')",
  "from enable_profiling(save_location = '/tmp/p.json')",
  'from checkpoint()',
  'from force_checkpoint()',
  'from disable_logging()',
  'from truncate_duckdb_logs()',
  'select sleep_ms(100000)',
  "select write_log('x')",
  "select nextval('s')",
  "from sql_auto_complete('select')",
  "from seq_scan('x')",
  'from arrow_scan(1::ubigint::pointer, 1::ubigint::pointer, 1::ubigint::pointer)',
  // no SELECT
  `copy (select 1) to ${path('out.csv')}`,
  `copy source.input from ${path('input.csv')}`,
  `attach ${path('x.duckdb')}`,
  'install httpfs',
  "load 'httpfs'",
  "set memory_limit = '1TB'",
  'reset lock_configuration',
  'create table x as select 1',
  'create secret s (type s3)',
  "export database '/tmp/x'",
  "import database '/tmp/x'",
  'pragma database_list',
  'drop view source.input',
  'create or replace view source.input as select 1',
  'begin',
  'checkpoint',
  'vacuum',
  'prepare x as select 1',
  'execute x',
  'explain analyze select 1',
  'select 1; drop view source.input',
  `select 1) to ${path('out.csv')}; --`,
  `select 1) to ${path('out.csv')} (format csv) --`,
  'select 1) t; drop view source.input; select * from (select 1',
  'with x as (insert into y values (1) returning *) from x',
  // names that are not there, also by way of CTEs
  'from nothing',
  'with a as (from b), b as (select 1) from a',
  '',
  ';;',
  '/* nothing */',
]

it.each(ATTACKS)('[BOX2] refuses %s', async sql => {
  for (const ask of [
    () => runner.query({ sql, params: {}, offset: 0, limit: 10 }),
    () => runner.materialize({ sql, params: {}, path: result }),
    () => runner.defineView({ name: 'v', sql, params: {} }),
    () => runner.test({ sql, params: {}, path: null, keep: 0 }),
    () => runner.describe({ sql, params: {} }),
  ]) {
    const error = await ask().then(
      () => null,
      (thrown: unknown) => thrown,
    )
    expect(error).toBeInstanceOf(RunnerError)
    expect(['sql', 'permission']).toContain((error as RunnerError).failure.class)
    expect(JSON.stringify((error as RunnerError).failure)).not.toContain(SECRET)
  }
})

it('[BOX2] is as it was after all of them', async () => {
  expect(runner.alive).toBe(true)
  const page = await runner.query({ sql: 'from source.input', params: {}, offset: 0, limit: 10 })
  expect(page.rows).toEqual([['1', '2']])
  expect(readFileSync(input, 'utf8')).toBe('a,b\n1,2\n')
  for (const name of ['out.csv', 'log', 'x.duckdb', 'result.parquet'])
    expect(existsSync(join(folder, name))).toBe(false)
})

it('[BOX3] its own sandbox refuses what the engine itself might be tricked into', async () => {
  const ask = (paths: string[]) => runner.defineSource({ name: 'x', kind: 'csv', paths, options: {} })
  for (const wanted of [
    secret,
    join(folder, 'link.csv'),
    join(folder, 'hard.csv'),
    `${folder}/*.csv`,
    join(folder, 'a', '..', 'secret.csv'),
  ])
    await expect(ask([wanted])).rejects.toMatchObject({ code: 'run.source' })
  await expect(
    runner.materialize({ sql: 'select 1 as a', params: {}, path: join(folder, 'elsewhere.parquet') }),
  ).rejects.toMatchObject({ code: 'run.permission' })
  await expect(
    runner.configure({
      limits: { memory_bytes: 1e9, threads: 1, temp_bytes: 0 },
      allowed_paths: [secret],
      connections: 1,
    }),
  ).rejects.toMatchObject({ code: 'run.internal' })
})

it('[BOX3] an option of a source that is not listed is refused, and no option reaches out of its place', async () => {
  const source = (options: Record<string, string>) =>
    runner.defineSource({ name: 'x', kind: 'csv', paths: [input], options })
  await expect(source({ filename: 'true' })).rejects.toMatchObject({ code: 'run.source' })
  await expect(source({ "delim = ',') from x --": 'y' })).rejects.toMatchObject({ code: 'run.source' })
  await source({ delim: ',', nullstr: "'); drop view source.input; --" })
  const page = await runner.query({ sql: 'from source.input', params: {}, offset: 0, limit: 1 })
  expect(page.rows.length).toBe(1)
})

it('[BOX4] a runner has no environment of the host, and no value of a param is read as SQL', async () => {
  const page = await runner.query({
    sql: 'select $x as v',
    params: { x: { type: 'text', value: "'); drop view source.input; --" } },
    offset: 0,
    limit: 1,
  })
  expect(page.rows).toEqual([["'); drop view source.input; --"]])
  await runner.defineView({
    name: 'with_param',
    sql: "select $x as v, '$x' as w, 18446744073709551615 as big",
    params: { x: { type: 'text', value: 'it\'s "$x"' } },
  })
  const view = await runner.query({ sql: 'from with_param', params: {}, offset: 0, limit: 1 })
  expect(view.rows).toEqual([['it\'s "$x"', '$x', '18446744073709551615']])
  const environ = `/proc/${runner.pid}/environ`
  if (existsSync(environ)) expect(readFileSync(environ, 'utf8')).not.toMatch(/PATH=|USER=/)
})
