import type { Socket } from 'node:net'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import type { Config } from '../config/index.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded.ts'
import { asDatabaseError } from './errors.ts'
import { keepPlans } from './hot.ts'
import type { Database } from './tables.ts'

export interface ServerDatabase {
  readonly db: Kysely<Database>
  /** The same connections without Kysely, for LISTEN and streams. A client taken from it is given back with `release`. */
  readonly pool: pg.Pool
  readonly url: string
  /** Resolves when the database answered a query; `database.unavailable` else. */
  ping(): Promise<void>
  /** Closes the connections, and ends the embedded Postgres after a checkpoint. */
  close(): Promise<void>
}

/** Makes a socket that is not connected yet, for one connection to Postgres. Default: Node's own. */
export type MakeSocket = () => Socket

/** `bigint` as a number: seqs and sizes stay far below 2^53. */
const types = new pg.TypeOverrides()
types.setTypeParser(pg.types.builtins.INT8, Number)

const CONNECTIONS = 20
const CONNECT_TIMEOUT_MS = 10_000

/**
 * The server's database: the Postgres of `DATABASE_URL`, else an embedded one in the data folder. Connections that a
 * restart of Postgres broke are replaced by new ones. Throws `database.unavailable` when it does not answer, and
 * `config.invalid` when it refuses the name or password.
 */
export const createDatabase = async (
  config: Pick<Config, 'databaseUrl' | 'dataDir'>,
  onError: (error: Error) => void = () => {},
  socket?: MakeSocket,
): Promise<ServerDatabase> => {
  const embedded: EmbeddedPostgres | null =
    config.databaseUrl === null ? await startEmbeddedPostgres(config.dataDir, onError) : null
  const url = config.databaseUrl ?? embedded?.url ?? ''
  const pool = new pg.Pool({
    connectionString: url,
    max: CONNECTIONS,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    application_name: 'pluto-server',
    types,
    ...(socket ? { stream: socket } : {}),
  })
  // A connection that breaks (Postgres restarted) is dropped; unhandled, either event would end the process. The pool tells only
  // of idle ones: one that breaks between two statements of a transaction says so itself (DB7).
  pool.on('connect', client => {
    client.on('error', onError)
    keepPlans(client)
  })
  pool.on('error', () => {})
  const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool }) })
  const ping = async (): Promise<void> => {
    try {
      await pool.query('select 1')
    } catch (error) {
      throw explain(error)
    }
  }
  const close = async (): Promise<void> => {
    await db.destroy()
    await embedded?.stop()
  }
  try {
    await ping()
  } catch (error) {
    await close()
    throw error
  }
  return { db, pool, url, ping, close }
}

const explain = (error: unknown): AppError => {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : ''
  // invalid_password, invalid_authorization, invalid_catalog_name
  if (code === '28P01' || code === '28000' || code === '3D000') {
    return new AppError(
      'config.invalid',
      `DATABASE_URL: Postgres refuses the connection (${(error as Error).message}).`,
      {
        hint: 'Check the user, password and database name in DATABASE_URL.',
        details: { setting: 'DATABASE_URL' },
        cause: error,
      },
    )
  }
  return (
    asDatabaseError(error) ??
    new AppError('database.unavailable', 'The database does not answer.', { cause: error })
  )
}
