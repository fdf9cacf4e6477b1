import { spawn } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { DuckDBInstance } from '@duckdb/node-api'
import type { AppError } from '@pluto-duck/crdt-model/errors'
import { afterEach, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { dataFolder, JsonTable, readHostFile, Settings, State, Workspaces } from '../../src/state/index.ts'

const made: string[] = []
const folder = () => {
  const path = mkdtempSync(join(tmpdir(), 'pluto-state-'))
  made.push(path)
  return path
}
afterEach(() => {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true })
})

setFlagsFromString('--expose-gc')
const collectGarbage: () => void = runInNewContext('gc')

/** What this process has open in the folder, where the system tells. */
const heldFiles = (path: string): string[] =>
  existsSync('/proc/self/fd')
    ? readdirSync('/proc/self/fd').flatMap(fd => {
        try {
          return [readlinkSync(`/proc/self/fd/${fd}`)].filter(file => file.startsWith(path))
        } catch {
          // The one that listed them.
          return []
        }
      })
    : []

describe('state', () => {
  it('[STATE1] one host owns the folder; the second is told who', async () => {
    const path = folder()
    const state = await State.open(path)
    state.announce({ port: 4321, token: 'secret-token' })
    await expect(State.open(path)).rejects.toMatchObject({
      code: 'host.locked',
      details: { pid: process.pid, port: 4321 },
    })
    expect(statSync(join(path, 'host.json')).mode & 0o777).toBe(0o600)
    expect(statSync(path).mode & 0o777).toBe(0o700)
    await state.close()
    expect(readHostFile(path)).toBeNull()
    await (await State.open(path)).close()
  })

  it('[STATE1] a host file left by a dead process holds nobody up; another process is refused', async () => {
    const path = folder()
    writeFileSync(join(path, 'host.json'), JSON.stringify({ pid: 2 ** 22 - 1, port: 1, token: 't' }))
    const state = await State.open(path)
    const child = fileURLToPath(new URL('./open-child.ts', import.meta.url))
    const output = await new Promise<string>(resolve => {
      const process_ = spawn(process.execPath, [child, path], { stdio: ['ignore', 'pipe', 'inherit'] })
      let text = ''
      process_.stdout.on('data', chunk => {
        text += String(chunk)
      })
      process_.on('close', () => resolve(text))
    })
    expect(output).toContain('host.locked')
    await state.close()
  })

  it('[STATE2] writers of one moment share commits, in order, and one that fails fails alone', async () => {
    const state = await State.open(folder())
    const results = await Promise.allSettled(
      Array.from({ length: 60 }, (_, i) =>
        state.write(async tx => {
          await tx.run('insert into meta values ($1, $2)', i === 30 ? 'k-5' : `k-${i}`, String(i))
          return i
        }),
      ),
    )
    expect(results.filter(result => result.status === 'rejected')).toHaveLength(1)
    expect(results[30]?.status).toBe('rejected')
    expect(await state.read.first('select count(*) as n from meta')).toEqual({ n: 59 })
    await state.close()
  })

  it('[STATE3] what was written is there after opening again: values, bytes, nulls, many rows', async () => {
    const path = folder()
    let state = await State.open(path)
    const device = await new Settings(state).deviceId()
    const bytes = new Uint8Array([0, 1, 255])
    await state.write(tx =>
      tx.insert(
        'changes',
        Array.from({ length: 100 }, (_, i) => [i, 'd', `h${i}`, '[]', bytes] as const),
      ),
    )
    await new Workspaces(state).put({ workspace_id: 'w', name: 'W', role: 'owner', remote: false })
    await state.close()
    state = await State.open(path)
    expect(await new Settings(state).deviceId()).toBe(device)
    expect(await state.read.first('select ord, bytes from changes where hash = $1', 'h7')).toEqual({
      ord: 7,
      bytes,
    })
    expect(await new Workspaces(state).list()).toMatchObject([{ name: 'W', cursor: null, remote: false }])
    await state.close()
  })

  it('[STATE4] records of a feature are parsed, listed newest first and replaced by key', async () => {
    const state = await State.open(folder())
    const table = new JsonTable(state, 'runs', z.object({ id: z.string(), n: z.number() }))
    await table.put('a', { parent: 'p', at: '2026-01-01T00:00:00.000Z' }, { id: 'a', n: 1 })
    await table.put('b', { parent: 'p', at: '2026-01-02T00:00:00.000Z' }, { id: 'b', n: 1 })
    await table.put('a', { parent: 'p', at: '2026-01-03T00:00:00.000Z' }, { id: 'a', n: 2 })
    expect(await table.list({ parent: 'p' })).toEqual([
      { id: 'a', n: 2 },
      { id: 'b', n: 1 },
    ])
    expect(await table.list({ parent: 'q' })).toEqual([])
    await table.remove('a')
    expect(await table.get('a')).toBeNull()
    await state.close()
  })

  it('[STATE4] a record that this program cannot read is named', async () => {
    const state = await State.open(folder())
    const table = new JsonTable(state, 'runs', z.object({ n: z.number() }))
    await table.put('a', { parent: 'p', at: '2026-01-01T00:00:00.000Z' }, { n: 1 })
    for (const body of ['broken', '{"n":"one"}']) {
      await state.write(tx => tx.run('update runs set body = $1', body))
      const named = { code: 'state.corrupt', details: { table: 'runs', key: 'a' } }
      await expect(table.get('a')).rejects.toMatchObject(named)
      await expect(table.getAll(['a'])).rejects.toMatchObject(named)
      await expect(table.list()).rejects.toMatchObject(named)
      await expect(table.newest()).rejects.toMatchObject(named)
      await expect(table.parts('p', '$.n', z.number())).rejects.toMatchObject(named)
      await expect(table.entries()).rejects.toMatchObject(named)
    }
    // Whoever hears of it is given the others.
    await table.put('b', { parent: 'p', at: '2025-01-01T00:00:00.000Z' }, { n: 2 })
    await table.put('c', { parent: 'q', at: '2025-01-01T00:00:00.000Z' }, { n: 3 })
    const broken: unknown[] = []
    const hear = (error: AppError) => broken.push(error.details?.key)
    expect(await table.list({}, hear)).toEqual([{ n: 3 }, { n: 2 }])
    expect(await table.newest(hear)).toEqual(new Map([['q', { n: 3 }]]))
    expect(broken).toEqual(['a', 'a'])
    await state.close()
  })

  it('[STATE7] a rewrite that is not possible leaves everything as it is and is told; the next one makes it good', async () => {
    const path = folder()
    let full = ''
    const told: unknown[] = []
    const openFull = async (at: string) => {
      const database = await DuckDBInstance.create(join(at, 'state.duckdb'))
      // DuckDB gives a database up when a checkpoint finds no room.
      let givenUp = false
      const connect = async () => {
        const connection = await database.connect()
        const run = connection.run.bind(connection)
        connection.run = async (sql: string) => {
          givenUp ||= sql === full
          if (givenUp) throw new Error('FATAL Error: Could not write file: No space left on device')
          return await run(sql)
        }
        return connection
      }
      return { connect, closeSync: () => database.closeSync() }
    }
    const open = () => State.open(path, openFull, error => told.push(error))
    let state = await open()
    await state.write(tx => tx.run(`insert into meta values ('secret', 'hunter2-9f8e7d6c5b4a')`))
    await state.write(tx => tx.run(`delete from meta where key = 'secret'`))
    full = 'checkpoint fresh'
    await state.rewrite()
    full = 'force checkpoint state'
    await state.rewrite()
    await state.write(tx => tx.run(`insert into meta values ('a', 'b')`))
    await state.close()
    state = await open()
    const there = () => readdirSync(path).filter(name => name.startsWith('state.duckdb.new'))
    expect([told.length, there()]).toEqual([3, []])
    await state.close()
    full = ''
    state = await open()
    expect(await state.read.all('select key, value from meta')).toEqual([{ key: 'a', value: 'b' }])
    await state.close()
    expect(readFileSync(join(path, 'state.duckdb')).includes('hunter2')).toBe(false)
    expect(told).toHaveLength(3)
  })

  it('[STATE8] closing waits for the reads that run; a later one is refused', async () => {
    const state = await State.open(folder())
    let under = true
    const slow = state.read.all('select count(*) as n from range(30000000) t(x) where x % 7 = $1', 1)
    const answered = slow.then(rows => {
      under = false
      return rows
    })
    // On its way in DuckDB.
    await new Promise(resolve => setTimeout(resolve, 20))
    await state.close()
    expect(under).toBe(false)
    expect(await answered).toEqual([{ n: 4_285_715 }])
    await expect(state.read.all('select 1')).rejects.toMatchObject({ message: 'The local state is closed.' })
  })

  it('[STATE9] closing leaves nothing that holds the file, whatever the garbage collector has not come to yet', async () => {
    const path = folder()
    const deeds: Record<string, (state: State) => Promise<unknown>> = {
      read: state => state.read.all('select * from meta'),
      insert: state => state.write(tx => tx.run('insert into meta values ($1, $2)', crypto.randomUUID(), '')),
      'insert at once': state =>
        state.write(tx =>
          Promise.all(
            [1, 2, 3].map(() => tx.run('insert into meta values ($1, $2)', crypto.randomUUID(), '')),
          ),
        ),
      'add many': state =>
        state.write(tx =>
          tx.insert(
            'meta',
            Array.from({ length: 20 }, () => [crypto.randomUUID(), '']),
          ),
        ),
      'add the same': state =>
        state.write(tx =>
          tx.insert(
            'meta',
            Array.from({ length: 20 }, () => ['k', '']),
          ),
        ),
      misspell: state => state.read.all('selec'),
      fail: state => state.read.all("select error(key) from (values ('k')) as t(key)"),
      rewrite: state => state.rewrite(),
    }
    for (const [what, deed] of Object.entries(deeds)) {
      const state = await State.open(path)
      for (let i = 0; i < 3; i++) await deed(state).catch(() => undefined)
      // Collected, and what its memory held not freed yet: that is done in a later turn.
      await new Promise(resolve => setImmediate(resolve))
      collectGarbage()
      await state.close()
      expect({ what, held: heldFiles(path) }).toEqual({ what, held: [] })
    }
  })

  it('[STATE9] what is stored after opening again in the same process is there when the process dies', async () => {
    const path = folder()
    for (let n = 0; n < 20; n++) {
      const before = await State.open(path)
      await before.write(tx => tx.run('insert into meta values ($1, $2)', `before ${n}`, ''))
      for (let i = 0; i < 20; i++) await before.read.all('select * from meta')
      await new Promise(resolve => setImmediate(resolve))
      collectGarbage()
      await before.close()
      const state = await State.open(path)
      await state.write(tx => tx.run('insert into meta values ($1, $2)', `after ${n}`, ''))
      await new Promise(resolve => setImmediate(resolve))
      const left = folder()
      for (const name of readdirSync(path).filter(name => name.startsWith('state.duckdb')))
        copyFileSync(join(path, name), join(left, name))
      await state.close()
      const next = await State.open(left)
      expect(await next.read.first('select count(*) as n from meta')).toEqual({ n: 2 * (n + 1) })
      await next.close()
    }
  })

  it('[STATE5] the data folder is PLUTO_HOME, else the system’s place', () => {
    expect(dataFolder({ PLUTO_HOME: '/somewhere' }, 'linux')).toBe('/somewhere')
    expect(dataFolder({}, 'linux')).toMatch(/\.local\/share\/pluto-duck$/)
    expect(dataFolder({}, 'darwin')).toMatch(/Library\/Application Support\/pluto-duck$/)
  })
})
