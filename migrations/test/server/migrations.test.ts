import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import { Kysely, PostgresDialect, sql } from 'kysely'
import { Migrator } from 'kysely/migration'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { serverMigrations } from '../../src/server/index.ts'

let database: TestDatabase
let db: Kysely<unknown>

beforeAll(async () => {
  database = await testDatabase()
  db = new Kysely({
    dialect: new PostgresDialect({ pool: new pg.Pool({ connectionString: database.url }) }),
  })
})
afterAll(async () => {
  await db?.destroy()
  await database?.drop()
})

const migrate = async () =>
  await new Migrator({ db, provider: { getMigrations: async () => serverMigrations } }).migrateToLatest()

describe('server migrations', () => {
  it('[MIG1] two that start together on an empty database both come up', async () => {
    const results = await Promise.all([migrate(), migrate()])
    for (const { error } of results) expect(error).toBeUndefined()
    const applied = results.map(({ results: ran }) => ran?.length ?? 0)
    expect(Math.max(...applied)).toBe(Object.keys(serverMigrations).length)
    expect(Math.min(...applied)).toBe(0)
  })

  it('[MIG2] the audit refuses UPDATE, DELETE and TRUNCATE', async () => {
    await sql`insert into users (id, name, email) values ('u', 'U', 'u@example.org')`.execute(db)
    const id = '01890a5d-ac96-774b-bcce-b302099a8057'
    await sql`insert into workspaces (id, name, created_by) values (${id}, 'W', 'u')`.execute(db)
    await sql`
      insert into audit (workspace_id, seq, at, action, object_kind, details, previous_hash, hash)
      values (${id}, 1, now(), 'x', 'y', '{}', '', '')`.execute(db)
    await expect(sql`update audit set action = 'z'`.execute(db)).rejects.toThrow(/append-only/)
    await expect(sql`delete from audit`.execute(db)).rejects.toThrow(/append-only/)
    await expect(sql`truncate audit`.execute(db)).rejects.toThrow(/append-only/)
  })
})
