import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { available, testDatabase } from '@pluto-duck/test-fixtures/services'
import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { asDatabaseError, createDatabase, migrate } from '../../src/database/index.ts'
import { startProgram } from '../program.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pluto-embedded-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

const open = () => createDatabase({ databaseUrl: null, dataDir: dir })
const postmaster = async () =>
  Number((await readFile(join(dir, 'postgres/data/postmaster.pid'), 'utf8')).split('\n')[0])

describe.skipIf(!available('postgres'))('the embedded Postgres', () => {
  it('[DB1] keeps what was committed over restarts, and ends with the server', async () => {
    const first = await open()
    await migrate(first.db)
    await first.pool.query('create table kept (n int)')
    await first.pool.query('insert into kept values (1)')
    const pid = await postmaster()
    await first.close()
    expect(() => process.kill(pid, 0)).toThrow()
    const second = await open()
    expect((await second.pool.query('select n from kept')).rows).toEqual([{ n: 1 }])
    await second.close()
  })

  it('[DB2] a second server on the same folder is refused by name, and the first goes on', async () => {
    const first = await open()
    await expect(open()).rejects.toMatchObject({ code: 'config.invalid', details: { setting: 'DATA_DIR' } })
    await first.ping()
    await first.close()
  })

  it('[DB3] a Postgres that is killed comes back by itself on the same address', async () => {
    const database = await open()
    await database.pool.query('insert into kept values (2)')
    process.kill(await postmaster(), 'SIGKILL')
    let rows: unknown[] = []
    for (let tries = 0; rows.length === 0 && tries < 100; tries++) {
      await delay(100)
      rows = await database.pool.query('select n from kept order by n').then(
        result => result.rows,
        () => [],
      )
    }
    expect(rows).toEqual([{ n: 1 }, { n: 2 }])
    await database.close()
  })

  it('[DB4] a pid file that a crash left, or that names another process, stops nothing', async () => {
    for (const pid of [process.pid, 2 ** 22 - 1]) {
      const path = join(dir, 'postgres/data/postmaster.pid')
      await writeFile(
        path,
        `${pid}\n${join(dir, 'postgres/data')}\n1700000000\n5432\n\n127.0.0.1\n0 0\nready\n`,
      )
      const database = await open()
      await database.ping()
      await database.close()
    }
  })

  it('[DB5] after kill -9 of the server the next one takes over its Postgres; nothing committed is lost', async () => {
    const program = await startProgram(['start'], { DATA_DIR: dir, PORT: '0', LOG_LEVEL: 'error' })
    const orphan = await postmaster()
    program.child.kill('SIGKILL')
    await program.ended
    expect(() => process.kill(orphan, 0)).not.toThrow()
    const database = await open()
    expect(await postmaster()).not.toBe(orphan)
    expect((await database.pool.query('select count(*)::int as n from kept')).rows).toEqual([{ n: 2 }])
    await database.close()
  })
})

describe('a database of one’s own', () => {
  it('[DB7] a connection that breaks between two statements fails its transaction, and the server goes on', async () => {
    const own = await testDatabase()
    const database = await createDatabase({ databaseUrl: own.url, dataDir: dir })
    const work = database.db.transaction().execute(async tx => {
      const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(tx)
      await database.pool.query('select pg_terminate_backend($1)', [rows[0]!.pid])
      // Idle inside its transaction while the connection goes: an event that nobody hears would end the process.
      await new Promise(resolve => setTimeout(resolve, 200))
      await sql`select 1`.execute(tx)
    })
    const error = await work.then(
      () => null,
      (thrown: unknown) => thrown,
    )
    expect(asDatabaseError(error)?.code).toBe('database.unavailable')
    await database.ping()
    await database.close()
    await own.drop()
  })

  it('[DB8] one that takes only reads is unavailable to who writes, also when a library wraps what it says', async () => {
    const own = await testDatabase()
    const database = await createDatabase({ databaseUrl: own.url, dataDir: dir })
    const error = await database.pool
      .query('begin transaction read only; create table t (x int)')
      .catch((thrown: unknown) => thrown)
    expect(asDatabaseError(error)?.code).toBe('database.unavailable')
    expect(asDatabaseError(new Error('Failed to get session', { cause: error }))?.code).toBe(
      'database.unavailable',
    )
    expect(asDatabaseError(new Error('something else'))).toBeNull()
    await database.close()
    await own.drop()
  })

  it('[DB6] one that does not answer is a typed error', async () => {
    const url = 'postgres://nobody:x@127.0.0.1:1/none'
    await expect(createDatabase({ databaseUrl: url, dataDir: dir })).rejects.toMatchObject({
      code: 'database.unavailable',
    })
  })
})
