import { spawnSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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

  it('[FIX7] a process that used it ends with its own exit code, and Postgres ends with it', async () => {
    const services = new URL('../../src/services/index.ts', import.meta.url).href
    const script = `
      const { startPostgres } = await import(${JSON.stringify(services)})
      const server = await startPostgres({ durable: false, dir: process.argv[2] })
      console.log(server.url)
      if (process.argv[1] === 'stop') await server.stop()
      process.exitCode = 3
      if (process.argv[1] === 'leave') process.exit()
    `
    const dir = mkdtempSync(join(tmpdir(), 'pluto-postgres-'))
    for (const ending of ['stop', 'leave']) {
      const child = spawnSync(process.execPath, ['--input-type=module', '-e', script, ending, dir], {
        encoding: 'utf8',
      })
      expect(child.status).toBe(3)
      await expect
        .poll(() => query(child.stdout.trim(), 'select 1').catch(error => String(error)), { timeout: 10_000 })
        .toContain('ECONNREFUSED')
    }
    await rm(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
  })
})
