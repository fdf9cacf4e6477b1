import { AppError } from '@pluto-duck/crdt-model/errors'
import { serverMigrations } from '@pluto-duck/migrations/server'
import type { Kysely } from 'kysely'
import { Migrator } from 'kysely/migration'
import { asDatabaseError } from './errors.ts'
import type { Database } from './tables.ts'

const migratorOf = (db: Kysely<Database>): Migrator =>
  new Migrator({
    db,
    provider: { getMigrations: async () => serverMigrations },
    // Features land their migrations in parallel: a lower number may come after a higher one.
    allowUnorderedMigrations: true,
  })

/** Throws `database.schema` unless the schema is the one that this program knows. Changes nothing. */
export const assertSchema = async (db: Kysely<Database>): Promise<void> => {
  const missing = (await migratorOf(db).getMigrations()).filter(
    migration => migration.executedAt === undefined,
  )
  if (missing.length === 0) return
  throw new AppError(
    'database.schema',
    `The database's schema lacks ${missing.map(one => one.name).join(', ')}.`,
    {
      hint: 'Run `pluto-server migrate` first, or use the version of this program that wrote the database.',
    },
  )
}

/** Brings the schema up to date under a lock, so that any number of servers may start together. Answers what ran. */
export const migrate = async (db: Kysely<Database>): Promise<string[]> => {
  const migrator = migratorOf(db)
  const { error, results } = await migrator.migrateToLatest()
  if (error !== undefined) {
    const failed = results?.find(result => result.status === 'Error')?.migrationName
    throw (
      asDatabaseError(error) ??
      new AppError(
        'database.schema',
        `The database's schema could not be brought up to date${failed ? ` (at ${failed})` : ''}.`,
        {
          cause: error,
        },
      )
    )
  }
  return (results ?? []).map(result => result.migrationName)
}
