import { setTimeout as delay } from 'node:timers/promises'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { sql } from 'kysely'
import pg from 'pg'
import type { Config } from '../config/index.ts'
import { assertSchema, createDatabase, runningEmbedded, type ServerDatabase } from '../database/index.ts'
import { type Check, clockCheck, ok, reasonOf, warning, wrong } from './check.ts'

const OLDEST = 15
const NOTIFIED_MS = 2_000
const CONNECT_MS = 10_000

/** Changes nothing: an embedded database that does not run is not started. */
export async function* databaseChecks(config: Config): AsyncGenerator<Check> {
  const databaseUrl = config.databaseUrl ?? (await runningEmbedded(config.dataDir))
  if (databaseUrl === null) {
    yield warning(
      'database',
      'The embedded database runs while the server does, and it does not now.',
      'Start the server, then ask again beside it.',
    )
    return
  }
  let database: ServerDatabase
  try {
    database = await createDatabase({ databaseUrl, dataDir: config.dataDir })
  } catch (error) {
    const { message, hint, cause } = error as AppError
    yield wrong('database', `${message} (${reasonOf(cause)})`, hint)
    return
  }
  try {
    yield* settingsChecks(database, config.databaseUrl === null)
    yield await notificationCheck(database)
  } finally {
    await database.close()
  }
}

async function* settingsChecks({ db }: ServerDatabase, embedded: boolean): AsyncGenerator<Check> {
  const asked = Date.now()
  const { rows } = await sql<{ version: number; name: string; commit: string; fsync: string; now: number }>`
    select current_setting('server_version_num')::int as version, current_setting('server_version') as name,
      current_setting('synchronous_commit') as commit, current_setting('fsync') as fsync,
      (extract(epoch from clock_timestamp()) * 1000)::float8 as now`.execute(db)
  const found = rows[0]!
  const answered = Date.now()
  const whose = embedded ? 'The embedded Postgres' : 'Postgres'
  yield Math.floor(found.version / 10_000) >= OLDEST
    ? ok('database', `${whose} ${found.name} answers.`)
    : wrong(
        'database',
        `${whose} is ${found.name}; ${OLDEST} is the oldest that works.`,
        'Move the database to a newer Postgres.',
      )
  yield found.commit !== 'off' && found.fsync === 'on'
    ? ok('database.durability', 'A commit is on the disk before it is acknowledged.')
    : wrong(
        'database.durability',
        `fsync is ${found.fsync}, synchronous_commit is ${found.commit}: a power cut takes what was acknowledged.`,
        'Set both to on.',
      )
  yield clockCheck('database.clock', 'The database’s', found.now, (asked + answered) / 2)
  yield await schemaCheck(db)
}

const schemaCheck = async (db: ServerDatabase['db']): Promise<Check> => {
  try {
    await assertSchema(db)
    return ok('database.schema', 'The schema is up to date.')
  } catch (error) {
    if (!(error instanceof AppError) || error.code !== 'database.schema') throw error
    return warning('database.schema', error.message, 'Run `pluto-server migrate`; `start` does it too.')
  }
}

/** Server processes wake each other by NOTIFY, which a pooler that shares sessions loses. */
const notificationCheck = async ({ pool, url }: ServerDatabase): Promise<Check> => {
  const name = 'database.notifications'
  const channel = `pluto_doctor_${newId().replaceAll('-', '')}`
  const listener = new pg.Client({ connectionString: url, connectionTimeoutMillis: CONNECT_MS })
  listener.on('error', () => {})
  try {
    await listener.connect()
    const heard = new Promise<true>(resolve => listener.once('notification', () => resolve(true)))
    await listener.query(`listen ${channel}`)
    await pool.query('select pg_notify($1, $2)', [channel, ''])
    const late = new AbortController()
    const arrived = await Promise.race([heard, delay(NOTIFIED_MS, false, { signal: late.signal })])
    late.abort()
    return arrived
      ? ok(name, 'Notifications arrive.')
      : wrong(
          name,
          'Notifications are lost: colleagues would see edits seconds late.',
          'Put a pooler in front of Postgres into session mode, or go round it.',
        )
  } finally {
    await listener.end()
  }
}
