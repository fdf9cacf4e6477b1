import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, existsSync, openSync } from 'node:fs'
import { chmod, chown, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { AppError } from '@pluto-duck/crdt-model/errors'
import pg from 'pg'
import { keepSecret } from '../config/index.ts'
import { account, type Binaries, binaries, type PostgresAccount, withAccount } from './binaries.ts'

export interface EmbeddedPostgres {
  readonly url: string
  /** Fast shutdown: sessions end, a checkpoint is written, nothing committed is lost. */
  stop(): Promise<void>
}

const run = promisify(execFile)
const USER = 'pluto'
/** Any number: it is held by the server process that owns the data folder. */
const OWNER_LOCK = 4_870_001
const START_TIMEOUT_MS = 60_000
const RESTART_ATTEMPTS = 20
const LOG_LIMIT_BYTES = 5 * 1024 * 1024

/** Where the embedded Postgres answers. */
export const embeddedUrl = (port: number, password: string): string =>
  `postgres://${USER}:${password}@127.0.0.1:${port}/postgres`

/**
 * A real Postgres in `<dataDir>/postgres`, on a free loopback port with a password of its own.
 *
 * It survives every kill: a cluster whose making was cut is made again, a stale `postmaster.pid` is put aside, a Postgres
 * that outlived a killed server is stopped and started anew, and one that dies under us is restarted on the same port.
 * One server owns the folder at a time (`config.invalid` for the second).
 */
export const startEmbeddedPostgres = async (
  dataDir: string,
  onError: (error: Error) => void,
): Promise<EmbeddedPostgres> => {
  const home = join(dataDir, 'postgres')
  const data = join(home, 'data')
  const password = await keepSecret(dataDir, 'postgres-password')
  const programs = await binaries()
  const as = await account(programs, dataDir)
  await mkdir(home, { recursive: true })
  await chmod(home, 0o755)
  if (!existsSync(data)) await initialise(programs, as, home, data, password)
  await endOrphan(data, password)

  const state: { child: ChildProcess | null; lock: pg.Client | null; stopping: boolean; port: number } = {
    child: null,
    lock: null,
    stopping: false,
    port: await freePort(),
  }
  const urlOf = (port: number): string => embeddedUrl(port, password)

  const launch = async (): Promise<void> => {
    const log = join(home, 'postgres.log')
    const size = await stat(log).then(
      found => found.size,
      () => 0,
    )
    // A file, not a pipe: a Postgres that outlives us must not fail at its next line.
    const out = openSync(log, size > LOG_LIMIT_BYTES ? 'w' : 'a')
    const [command, args] = withAccount(as, programs.postgres, [
      '-D',
      data,
      '-p',
      String(state.port),
      ...SETTINGS,
    ])
    const child = spawn(command, args, {
      ...as.ids,
      stdio: ['ignore', out, out],
      env: environment(),
      // A Ctrl-C in the terminal is for the server: it ends Postgres itself, after the requests that use it.
      detached: process.platform !== 'win32',
    })
    closeSync(out)
    state.child = child
    let ended = false
    child.once('error', () => {
      ended = true
    })
    child.once('exit', () => {
      ended = true
      if (state.child === child) state.child = null
    })
    state.lock = await whenReady(urlOf(state.port), () => ended, log)
    child.once('exit', () => {
      if (!state.stopping) void revive()
    })
  }

  const revive = async (): Promise<void> => {
    onError(new Error('The embedded Postgres ended by itself; starting it again.'))
    for (let attempt = 1; attempt <= RESTART_ATTEMPTS && !state.stopping; attempt++) {
      await endLock(state.lock)
      try {
        await launch()
        return
      } catch (error) {
        // Its children hold the shared memory for a moment after a kill -9.
        onError(error instanceof Error ? error : new Error(String(error)))
        state.child?.kill('SIGINT')
        await delay(250)
      }
    }
  }

  const endWithUs = (): void => {
    state.child?.kill('SIGINT')
  }
  process.once('exit', endWithUs)

  const stop = async (): Promise<void> => {
    state.stopping = true
    process.off('exit', endWithUs)
    await endLock(state.lock)
    const { child } = state
    if (child === null) return
    const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
    child.kill('SIGINT')
    await ended
  }

  try {
    await launch()
  } catch (error) {
    await stop()
    throw error
  }
  return { url: urlOf(state.port), stop }
}

const SETTINGS = Object.entries({
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  max_connections: '100',
  shared_buffers: '64MB',
  jit: 'off',
  log_min_messages: 'warning',
  log_statement: 'none',
  // A statement's text and values stay out of the log file.
  log_min_error_statement: 'panic',
  log_parameter_max_length_on_error: '0',
  timezone: 'UTC',
}).flatMap(([name, value]) => ['-c', `${name}=${value}`])

/** PG* variables of the person who starts us must not steer our Postgres. */
const environment = (): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PG'))),
  LC_ALL: 'C',
  LC_MESSAGES: 'C',
})

const initialise = async (
  programs: Binaries,
  as: PostgresAccount,
  home: string,
  data: string,
  password: string,
): Promise<void> => {
  // Made aside and renamed, so that a cluster is there whole or not at all.
  const making = join(home, `making-${randomBytes(4).toString('hex')}`)
  const passwordFile = join(home, `${randomBytes(4).toString('hex')}.password`)
  try {
    await mkdir(making, { mode: 0o700 })
    await writeFile(passwordFile, password, { mode: 0o600 })
    if (as.owner !== null) {
      await chown(making, as.owner.uid, as.owner.gid)
      await chown(passwordFile, as.owner.uid, as.owner.gid)
    }
    const [command, args] = withAccount(as, programs.initdb, [
      `--pgdata=${making}`,
      '--auth=scram-sha-256',
      `--username=${USER}`,
      `--pwfile=${passwordFile}`,
      '--encoding=UTF8',
      '--locale-provider=builtin',
      '--builtin-locale=C.UTF-8',
      '--data-checksums',
    ])
    await run(command, args, { ...as.ids, env: environment() })
    await rename(making, data)
  } catch (cause) {
    throw new AppError('config.invalid', `The embedded Postgres could not make its data folder ${data}.`, {
      hint: 'Set DATA_DIR to a folder that this user may write to, or DATABASE_URL to a Postgres of yours.',
      details: { setting: 'DATA_DIR' },
      cause,
    })
  } finally {
    await rm(passwordFile, { force: true })
    await rm(making, { recursive: true, force: true })
  }
}

/** Ends a Postgres on our data whose server was killed, and removes a pid file that no Postgres of ours stands behind. */
const endOrphan = async (data: string, password: string): Promise<void> => {
  const file = join(data, 'postmaster.pid')
  const lines = await readFile(file, 'utf8').then(
    text => text.split('\n'),
    () => null,
  )
  if (lines === null) return
  const pid = Number(lines[0])
  const port = Number(lines[3])
  if (!(await isPostgresOf(pid, data))) {
    await rm(file, { force: true })
    return
  }
  const owner = await takeLock(`postgres://${USER}:${password}@127.0.0.1:${port}/postgres`, 5_000)
  if (owner === 'taken') {
    throw new AppError('config.invalid', `DATA_DIR ${dirname(dirname(data))} is in use by another server.`, {
      hint: 'Stop the other server, or set DATA_DIR to a folder of its own.',
      details: { setting: 'DATA_DIR' },
    })
  }
  if (owner !== 'unreachable') await endLock(owner)
  process.kill(pid, 'SIGINT')
  for (let waited = 0; await isPostgresOf(pid, data); waited += 50) {
    if (waited > 30_000) process.kill(pid, 'SIGQUIT')
    await delay(50)
  }
}

/** Pids are reused after a restart of the machine or container: only the command line proves that it is our Postgres. */
const isPostgresOf = async (pid: number, data: string): Promise<boolean> => {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false
  }
  if (process.platform === 'win32') return true
  try {
    if (process.platform === 'linux') {
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8')
      return command.includes(data)
    }
    return (await run('ps', ['-ww', '-o', 'command=', '-p', String(pid)])).stdout.includes(data)
  } catch {
    // Gone between the two looks.
    return false
  }
}

const takeLock = async (url: string, patience: number): Promise<pg.Client | 'taken' | 'unreachable'> => {
  const until = performance.now() + patience
  do {
    const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2_000 })
    // The connection may break later; who holds it sees that at the process's exit.
    client.on('error', () => {})
    try {
      await client.connect()
      const { rows } = await client.query(`select pg_try_advisory_lock(${OWNER_LOCK}) as taken`)
      if (rows[0]?.taken === true) return client
      await client.end()
      return 'taken'
    } catch (error) {
      await endLock(client)
      if (performance.now() >= until) return 'unreachable'
      if (isRefusal(error)) throw error
      await delay(40)
    }
  } while (performance.now() < until)
  return 'unreachable'
}

/** A wrong password cannot become right by waiting. */
const isRefusal = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && 'code' in error && error.code === '28P01'

const endLock = async (client: pg.Client | null): Promise<void> => {
  try {
    await client?.end()
  } catch {
    // It was broken already, and with it the lock is gone.
  }
}

const whenReady = async (url: string, ended: () => boolean, log: string): Promise<pg.Client> => {
  const until = performance.now() + START_TIMEOUT_MS
  while (!ended() && performance.now() < until) {
    const client = await takeLock(url, 100)
    if (typeof client === 'object') return client
    if (client === 'taken') await delay(100)
  }
  throw new AppError('database.unavailable', 'The embedded Postgres did not start.', {
    hint: `Its log ${log} says why.`,
  })
}

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      probe.close(() => resolve(port))
    })
  })
