import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import pg from 'pg'
import { initialise, launch } from './postgres-program.ts'

/** A running Postgres that belongs to the caller. */
export interface PostgresServer {
  /** The superuser's address of the `postgres` database. */
  readonly url: string
  /** Shuts the server down (fast mode, so nothing committed is lost) and removes its data unless `dir` was given. */
  stop(): Promise<void>
}

export interface PostgresOptions {
  /** The data folder, kept after `stop`. Default: a throwaway one in the system's temporary folder. */
  readonly dir?: string
  /** Default: a free one. */
  readonly port?: number
  /** False turns fsync off: faster, and a power cut may lose commits. Default: true, as in production. */
  readonly durable?: boolean
}

/** One database of its own inside a running server. */
export interface TestDatabase {
  readonly url: string
  /** Closes what is still connected and removes the database. */
  drop(): Promise<void>
}

const password = 'test'
const startAttempts = 3

/**
 * Starts a real Postgres from npm's binaries on a free loopback port; ready in about a second.
 * As root it runs as the system user `postgres` (made if it is not there), because Postgres refuses to run as root;
 * where that user cannot reach the data folder or the programs, as below /root, it gets the one capability for that.
 */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const throwaway = options.dir === undefined
  const home = resolve(options.dir ?? (await mkdtemp(join(tmpdir(), 'pluto-postgres-'))))
  await mkdir(home, { recursive: true })
  await chmod(home, 0o755)
  const databaseDir = join(home, 'data')

  if (!existsSync(join(databaseDir, 'PG_VERSION'))) await initialise(databaseDir, password)
  for (let attempt = 1; ; attempt++) {
    const port = options.port ?? (await freePort())
    let server: ChildProcess
    try {
      server = await launch(databaseDir, port, settings(options.durable ?? true))
    } catch (cause) {
      // Another program may have taken the port between the probe and the start.
      if (
        options.port === undefined &&
        attempt < startAttempts &&
        String(cause).includes('Address already in use')
      )
        continue
      throw new Error('Postgres did not start.', { cause })
    }
    // The last resort of a process that ends without `stop`.
    const end = () => server.kill('SIGINT')
    process.once('exit', end)
    return {
      url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`,
      async stop() {
        process.off('exit', end)
        if (server.exitCode === null && server.signalCode === null) {
          const ended = once(server, 'exit')
          server.kill('SIGINT')
          await ended
        }
        if (throwaway) await rm(home, { recursive: true, force: true })
      },
    }
  }
}

/** Makes an empty database in about 30 ms, so that every test file can have its own. */
export async function createDatabase(adminUrl: string): Promise<TestDatabase> {
  const name = `test_${randomBytes(8).toString('hex')}`
  await administer(adminUrl, `create database ${name} template template0`)
  const url = new URL(adminUrl)
  url.pathname = `/${name}`
  return {
    url: url.href,
    drop: async () => {
      await administer(adminUrl, left(name))
      await administer(adminUrl, `drop database if exists ${name} with (force)`)
    },
  }
}

/** A pool says that it ended before its connections have: those would be broken off, which nobody expects any more. A second at most. */
const left = (name: string): string => `do $$ begin
  for _ in 1..100 loop
    exit when not exists (select from pg_stat_activity where datname = '${name}');
    perform pg_stat_clear_snapshot(), pg_sleep(0.01);
  end loop;
end $$`

async function administer(adminUrl: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: adminUrl })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}

function settings(durable: boolean): string[] {
  const values = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: '300',
    shared_buffers: '64MB',
    jit: 'off',
    ...(durable ? {} : { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }),
  }
  return Object.entries(values).flatMap(([key, value]) => ['-c', `${key}=${value}`])
}

function freePort(): Promise<number> {
  return new Promise((resolvePort, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() => {
        if (address !== null && typeof address === 'object') resolvePort(address.port)
        else reject(new Error('no free port'))
      })
    })
  })
}
