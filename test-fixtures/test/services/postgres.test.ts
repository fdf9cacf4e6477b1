import pg from 'pg'
import { describe, expect, it } from 'vitest'
import { available, startPostgres, testDatabase } from '../../src/services/index.ts'

async function query(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

describe.skipIf(!available('postgres'))('Postgres for tests', () => {
  it('[FIX1] every test database is empty and apart from the others', async () => {
    const [one, two] = await Promise.all([testDatabase(), testDatabase()])
    await query(one.url, 'create table t (x int)')
    expect(await query(two.url, `select to_regclass('t') as found`)).toEqual([{ found: null }])
    await one.drop()
    await expect(query(one.url, 'select 1')).rejects.toThrow(/does not exist/)
    await two.drop()
  })

  it('[FIX2] commits are durable as in production, unless a test asks otherwise', async () => {
    const database = await testDatabase()
    expect(await query(database.url, 'show fsync')).toEqual([{ fsync: 'on' }])
    await database.drop()
    const fast = await startPostgres({ durable: false })
    expect(await query(fast.url, 'show fsync')).toEqual([{ fsync: 'off' }])
    await fast.stop()
    await expect(query(fast.url, 'select 1')).rejects.toThrow(/ECONNREFUSED/)
  })
})
