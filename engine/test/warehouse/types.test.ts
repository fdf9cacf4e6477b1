import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Runner } from '../../src/runner/index.ts'
import { selectFromFile } from '../../src/warehouse/storage-types.ts'

const folder = mkdtempSync(join(tmpdir(), 'types-'))
const runner = new Runner()
const LIMITS = { memory_bytes: 2 ** 30, threads: 2, temp_bytes: 2 ** 30 }

/** Values that DuckDB's own test_all_types lacks; each is one column of one row, and its type also in a list, struct and map. */
const EXTRA = [
  "'infinity'::DATE",
  "'-infinity'::TIMESTAMP",
  "'infinity'::TIMESTAMPTZ",
  "'infinity'::TIMESTAMP_S",
  "'-infinity'::TIMESTAMP_MS",
  "'2020-01-01 01:02:03.004'::TIMESTAMP_MS",
  "'infinity'::TIMESTAMP_NS",
  "'nan'::DOUBLE",
  "'-0.0'::FLOAT",
  "INTERVAL '-3 months 5 days 1 microsecond'",
  "'24:00:00'::TIME",
  "'01:02:03.000004+15:59'::TIMETZ",
  '\'{"a": [1]}\'::JSON',
  '(-170141183460469231731687303715884105727)::HUGEINT',
  '340282366920938463463374607431768211455::UHUGEINT',
  "'0101'::BIT",
  "'it''s'::ENUM('it''s', 'b\"c', '')",
  'union_value("a b" := 1)::UNION("a b" HUGEINT, tag VARCHAR, m0 INT[2])',
  'union_value(tag := \'x\')::UNION("a b" HUGEINT, tag VARCHAR, m0 INT[2])',
  'union_value(m0 := [1, 2]::INT[2])::UNION("a b" HUGEINT, tag VARCHAR, m0 INT[2])',
  '[1, 2]::HUGEINT[2]',
  "{'a b': 1::HUGEINT, 'c\"d': 'x'::ENUM('x'), n: NULL::INT[3]}",
  "MAP {1::HUGEINT: 'y'::ENUM('y')}",
  'NULL::STRUCT(a HUGEINT)',
  'NULL::MAP(HUGEINT, BIT)',
  'NULL::UNION(a INT)',
  "'\\x00\\xFF'::BLOB",
  "''",
  'NULL',
  'gen_random_uuid() IS NOT NULL',
  '1::VARIANT',
]

const wide = `SELECT ${EXTRA.map((value, i) => {
  const nested = value.endsWith('VARIANT') ? '' : `, [${value}, NULL] AS l${i}, {'f': ${value}} AS s${i}`
  return `${value} AS v${i}${nested}`
}).join(', ')}`
const files = { all: join(folder, 'all.parquet'), wide: join(folder, 'wide.parquet') }
const sql = { all: 'SELECT * FROM test_all_types()', wide }

beforeAll(async () => {
  await runner.configure({ limits: LIMITS, allowed_paths: Object.values(files), connections: 1 })
})
afterAll(async () => {
  await runner.kill()
  rmSync(folder, { recursive: true })
})

it.each(['all', 'wide'] as const)('[WH1] every type and value of %s survives the file', async name => {
  const made = await runner.materialize({ sql: sql[name], params: {}, path: files[name] })
  await runner.defineView({ name: `made_${name}`, sql: sql[name], params: {} })
  await runner.defineResult({ schema: null, name: `kept_${name}`, path: files[name], columns: made.columns })
  // A bare NULL has a type of its own only until it is stored: CREATE TABLE AS makes it an INTEGER too.
  const stored = (text: string) => text.replace('"NULL"', 'INTEGER')
  const seen = async (relation: string) => {
    const list = made.columns.map(c => `typeof("${c.name}"), "${c.name}"::VARCHAR`)
    const page = await runner.query({
      sql: `SELECT ${list} FROM ${relation}_${name}`,
      params: {},
      offset: 0,
      limit: 9,
    })
    return page.rows.map(row =>
      Object.fromEntries(
        made.columns.map((c, i) => [c.name, `${stored(String(row[2 * i]))} ${row[2 * i + 1]}`]),
      ),
    )
  }
  const before = await seen('made')
  expect(await seen('kept')).toEqual(before)
  expect(before.length).toBe(made.rows)
})

it('[WH1] any other DuckDB reads the same with the view alone', async () => {
  const path = files.all
  const described = await runner.describe({ sql: sql.all, params: {} })
  const connection = await (await DuckDBInstance.create(':memory:')).connect()
  await connection.run(`CREATE VIEW kept AS ${selectFromFile(path, described.columns)}`)
  const types = async (from: string) =>
    (
      await connection.runAndReadAll(`SELECT column_name, column_type FROM (DESCRIBE FROM ${from})`)
    ).getRowsJson()
  expect(await types('kept')).toEqual(await types('test_all_types()'))
})

it('[WH2] columns that share a name are told apart, and names of any kind are kept', async () => {
  const described = await runner.describe({ sql: 'SELECT 1 AS a, 2 AS "A", 3 AS "x ""y", 4', params: {} })
  expect(described.columns.map(c => c.name)).toEqual(['a', 'A_1', 'x "y', '4'])
})
