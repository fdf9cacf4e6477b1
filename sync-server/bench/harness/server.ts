import { readFileSync } from 'node:fs'
import { createDatabase, startPostgres } from '@pluto-duck/test-fixtures/services'
import pg from 'pg'
import { familyCpuSeconds, parentOf } from './process.ts'
import { type Role, startRole } from './roles.ts'
import type { Started } from './server-process.ts'

export interface BenchServer extends Role, Started {}

export interface Bench {
  readonly databaseUrl: string
  /** For looking into the database beside the server. */
  readonly sql: pg.Pool
  /** Seconds of CPU of Postgres with all its processes. */
  postgresCpuSeconds(): number
  /** Starts the whole server in a process of its own, with an owner. Sessions of earlier ones stay good. */
  startServer(): Promise<BenchServer>
  /** Ends Postgres. Servers are killed by whoever started them. */
  stop(): Promise<void>
}

/** What the first line of `pluto-server` gives to node (CFG7). */
function programFlags(): string[] {
  const [first = ''] = readFileSync(new URL('../../bin/pluto-server.ts', import.meta.url), 'utf8').split('\n')
  return first.split(' ').filter(word => word.startsWith('--'))
}

/**
 * A Postgres with fsync, as in production, and servers on one database of it. With `PLUTO_BENCH_PROFILE` set to a folder each
 * server writes a CPU profile there, provided it ends by `say('end')`.
 * With `PLUTO_BENCH_COLD=1` servers do not warm up (ADM17).
 */
export async function openBench(): Promise<Bench> {
  const postgres = await startPostgres()
  const database = await createDatabase(postgres.url)
  const sql = new pg.Pool({ connectionString: database.url, max: 2 })
  // Postgres may end before the last connection has closed.
  sql.on('error', () => {})
  const { rows } = await sql.query<{ pid: number }>('select pg_backend_pid() as pid')
  const postmaster = parentOf(rows[0]!.pid)
  const profile = process.env.PLUTO_BENCH_PROFILE
  return {
    databaseUrl: database.url,
    sql,
    postgresCpuSeconds: () => familyCpuSeconds(postmaster),
    startServer: async () => {
      const role = startRole(
        new URL('./server-process.ts', import.meta.url).pathname,
        'server',
        { databaseUrl: database.url },
        { execArgv: [...programFlags(), ...(profile ? ['--cpu-prof', `--cpu-prof-dir=${profile}`] : [])] },
      )
      return { ...role, ...((await role.heard()) as Started) }
    },
    stop: async () => {
      await sql.end()
      await postgres.stop()
    },
  }
}

/** Kills the server; one that is profiled ends by itself first, and writes its profile. */
export async function endServer(server: BenchServer): Promise<void> {
  if (process.env.PLUTO_BENCH_PROFILE) {
    server.say('end')
    await server.heard()
    await server.exited()
  } else await server.kill()
}
