// The floor: the same SQL as CREATE TABLE AS in a bare DuckDB connection on a file, in a process of its own.
// node floor.ts DATABASE SOURCE -> {"ms", "bytes"}; node floor.ts --make SOURCE ROWS writes the source.
import { DuckDBInstance } from '@duckdb/node-api'
import { MEMORY_BYTES, STEPS, THREADS } from './steps.ts'

const [database = '', source = '', rows = ''] = process.argv.slice(2)
if (database === '--make') {
  const connection = await (await DuckDBInstance.create(':memory:')).connect()
  await connection.run(`
    copy (
      select i as id, hash(i) % 200000 as customer, 'product ' || (hash(i, 1) % 500) as product,
        ['north', 'south', 'east', 'west'][1 + (hash(i, 2) % 4)::int] as region,
        date '2024-01-01' + (hash(i, 3) % 730)::int as day, (hash(i, 4) % 9)::int as quantity,
        ((hash(i, 5) % 100000) / 100)::decimal(12, 2) as price, (hash(i, 6) % 20) / 100 as discount
      from range(${Number(rows)}) t(i)
    ) to '${source}' (format parquet)`)
} else {
  const instance = await DuckDBInstance.create(database, {
    threads: String(THREADS),
    memory_limit: `${MEMORY_BYTES / 2 ** 20}MiB`,
  })
  const connection = await instance.connect()
  const started = performance.now()
  await connection.run('create schema source')
  await connection.run(`create view source.orders as from read_parquet(['${source}'])`)
  for (const step of STEPS) await connection.run(`create table ${step.name} as ${step.sql}`)
  await connection.run('checkpoint')
  const ms = performance.now() - started
  console.log(JSON.stringify({ ms, bytes: process.resourceUsage().maxRSS * 1024 }))
  connection.closeSync()
  instance.closeSync()
}
