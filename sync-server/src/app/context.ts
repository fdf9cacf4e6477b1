import type { Kysely } from 'kysely'
import type pg from 'pg'
import type { Logger } from 'pino'
import type { Audit, Refusals } from '../audit/index.ts'
import type { Trials } from '../changes/index.ts'
import type { Config } from '../config/index.ts'
import type { Database } from '../database/index.ts'
import type { EventBus } from './event-bus.ts'

export interface Clock {
  now(): Date
}
export const systemClock: Clock = { now: () => new Date() }

/** What every feature gets: the same objects for the life of the server. */
export interface ServerContext {
  readonly config: Config
  /** The address that people and devices use, without a slash at the end. */
  readonly publicUrl: string
  /** The signing secret, for storage addresses and the like; derive a key of your own from it with HKDF. */
  readonly secret: string
  readonly db: Kysely<Database>
  readonly pool: pg.Pool
  /** Where a connection of one's own (LISTEN) connects to. */
  readonly databaseUrl: string
  readonly log: Logger
  readonly clock: Clock
  readonly bus: EventBus
  readonly audit: Audit
  readonly refusals: Refusals
  /** Workers that somebody else started and ends; null: the server has its own. */
  readonly trials: Trials | null
  /** Aborted when the server begins to close: long answers end. */
  readonly closing: AbortSignal
}
