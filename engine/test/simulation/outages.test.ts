import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as A from '@automerge/automerge'
import { createPipeline, editPipeline, type PipelineDoc, updateReport } from '@pluto-duck/crdt-model'
import { identityRoutes, newId } from '@pluto-duck/crdt-model/protocol'
import {
  available,
  createDatabase,
  type PostgresServer,
  startPostgres,
} from '@pluto-duck/test-fixtures/services'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WireClient } from '../../src/sync/index.ts'
import { type Person, SimDevice } from './device.ts'
import { Network, pause } from './network.ts'
import { Rng } from './random.ts'
import { ServerProcess } from './server-process.ts'
import { Trace } from './trace.ts'

// B4: Postgres is restarted, its connections are cut, its disk is full, and one of two server processes is killed during each,
// while devices type. They see typed errors, wait and go on; nothing is lost or doubled.

const DISK_MB = 220

let home: string
let dataDir: string
let limited = false
let postgres: PostgresServer
let port: number
let databaseUrl: string
let servers: ServerProcess[] = []
let person: Person
const folders: string[] = []

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), 'pluto-outages-'))
  dataDir = mkdtempSync(join(tmpdir(), 'pluto-outages-server-'))
  folders.push(home, dataDir)
  limited = mountSmall(home)
  port = await freePort()
  postgres = await startPostgres({ dir: home, port })
  databaseUrl = (await createDatabase(postgres.url)).url
  servers = []
  for (let i = 0; i < 2; i++) {
    const server = new ServerProcess(await freePort(), databaseUrl, join(dataDir, String(i)))
    servers.push(server)
    await server.start()
  }
  person = await signUp(servers[0]!.server.url)
})
afterAll(async () => {
  await Promise.all(servers.map(server => server.kill()))
  await postgres?.stop()
  if (limited) execFileSync('umount', ['--lazy', home])
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

describe.skipIf(!available('postgres'))('while people type', () => {
  it('[SIM10] Postgres is restarted and a server is killed: nothing is lost or doubled', async () => {
    await outage(async seen => {
      await postgres.stop()
      await servers[0]!.kill()
      await pause(700)
      await noticed(seen)
      postgres = await startPostgres({ dir: home, port })
    })
  })

  it('[SIM10] the connections to Postgres are cut, again and again, and a server is killed: nothing is lost or doubled', async () => {
    await outage(async seen => {
      let cut = 0
      const end = performance.now() + 20_000
      for (let i = 0; i < 12 || (!seen.has('database.unavailable') && performance.now() < end); i++) {
        cut += (await asAdmin(sql => sql.query(CUT))).rowCount ?? 0
        if (i === 5) await servers[1]!.kill()
        await pause(60)
      }
      expect(cut).toBeGreaterThan(0)
      expect([...seen]).toContain('database.unavailable')
    })
  })

  it('[SIM10] the disk of Postgres is full and a server is killed: nothing is lost or doubled', async () => {
    await outage(async seen => {
      const refill = limited ? fillDisk() : await takeOnlyReads()
      await servers[0]!.kill()
      await noticed(seen)
      await pause(300)
      await refill()
    })
    console.log(
      limited ? `a full disk: a tmpfs of ${DISK_MB} MB` : 'a full disk: Postgres set to take only reads',
    )
  })
})

const CUT = `select pg_terminate_backend(pid) from pg_stat_activity
  where pid <> pg_backend_pid() and application_name like 'pluto-server%'`

/** Devices were told of it, so it befell them: else the test would say nothing. */
async function noticed(seen: ReadonlySet<string>): Promise<void> {
  const end = performance.now() + 20_000
  while (!seen.has('database.unavailable') && performance.now() < end) await pause(50)
  expect([...seen]).toContain('database.unavailable')
}

/** Three devices type during the outage; afterwards what they acknowledged is looked for. */
async function outage(befalls: (seen: ReadonlySet<string>) => Promise<void>): Promise<void> {
  for (const server of servers) if (server.dead) await server.start()
  const trace = new Trace()
  const network = new Network(trace, () => servers)
  const [workspaceId, documentId] = [newId(), newId()]
  await clientOf(servers[0]!).call(identityRoutes.createWorkspace, {
    body: { workspace_id: workspaceId, name: 'W' },
  })
  const devices = ['one', 'two', 'three'].map(
    name => new SimDevice({ name, person, workspaceId, network, trace, rng: new Rng(1), store: 'duckdb' }),
  )
  const seen = new Set<string>()
  try {
    for (const device of devices) {
      await device.open()
      device.running.sync.on(news => {
        if (news.kind === 'status' && news.status.error) seen.add(news.status.error.code)
      })
    }
    const [first] = devices as [SimDevice]
    const doc = createPipeline({ name: 'weekly', steps: [{ id: 'one', name: 'one', sql: 'select 1' }] })
    await first.running.documents.create({ documentId, workspaceId, kind: 'pipeline', doc })
    await until(devices, () => devices.every(device => device.running.documents.has(documentId)))

    let over = false
    const typing = devices.map(async (device, i) => {
      for (let n = 0; !over; n++) {
        let hash = ''
        await device.running.documents.edit<PipelineDoc>(documentId, before => {
          // Much text: it fills pages.
          const next = editPipeline(before, 'type', d => updateReport(d, `${i} ${n} ${noise(n)}`))
          hash = A.getHeads(next)[0]!
          return next
        })
        device.acknowledge(documentId, [hash])
        await pause(25)
      }
    })
    await until(devices, () => network.said.stored.size > 10)
    seen.clear()
    const written = () => devices.map(device => device.acknowledged.length)
    const before = written()
    try {
      await befalls(seen)
      // Nobody's typing waited for a server.
      written().forEach((count, i) => {
        expect(count).toBeGreaterThan(before[i]!)
      })
    } finally {
      over = true
      await Promise.all(typing)
    }
    for (const server of servers) if (server.dead) await server.start()
    await until(devices, () =>
      devices.every(({ running: { sync } }) => {
        const { state, waiting } = sync.status()
        if (state !== 'in_sync') void sync.now()
        return state === 'in_sync' && waiting === 0
      }),
    )
    expect(trace.problems).toEqual([])
    expect(
      [...seen].filter(
        code => !['server.unreachable', 'database.unavailable', 'service.unavailable'].includes(code),
      ),
    ).toEqual([])
    const log = await asAdmin(
      sql =>
        sql.query<{ seq: string; hash: string }>(
          `select seq, encode(hash, 'hex') as hash from changes where workspace_id = $1 order by seq`,
          [workspaceId],
        ),
      databaseUrl,
    )
    expect(log.rows.map(row => Number(row.seq))).toEqual(log.rows.map((_, i) => i + 1))
    const acknowledged = devices.flatMap(device => device.acknowledged.map(one => one.hash))
    expect(log.rows.map(row => row.hash).toSorted()).toEqual([...acknowledged, A.getHeads(doc)[0]].toSorted())
    const heads = await Promise.all(
      devices.map(device =>
        device.running.documents.read(documentId, held => A.getHeads(held).sort().join()),
      ),
    )
    expect(new Set(heads).size).toBe(1)
    for (const device of devices) expect(await device.running.documents.drafts(workspaceId)).toEqual([])
  } finally {
    for (const device of devices) await device.remove()
  }
}

async function until(devices: readonly SimDevice[], holds: () => boolean): Promise<void> {
  const end = performance.now() + 60_000
  while (!holds()) {
    if (performance.now() > end)
      throw new Error(
        `in vain: ${devices.map(device => JSON.stringify(device.running.sync.status())).join('\n')}\n${servers.map(server => server.output.slice(-3_000)).join('\n')}`,
      )
    await pause(20)
  }
}

const noise = (n: number): string =>
  Array.from({ length: 120 }, (_, i) => ((i + 1) * (n + 7919)).toString(36)).join('')

const clientOf = (server: ServerProcess): WireClient =>
  new WireClient({ server: server.server.url, deviceId: newId(), token: async () => person.token })

async function signUp(server: string): Promise<Person> {
  const [name, email] = ['ada', 'ada@example.org']
  const response = await fetch(`${server}/v1/auth/sign-up/email`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', origin: server.replace('127.0.0.1', 'localhost') },
    body: JSON.stringify({ name, email, password: 'a long password of ada' }),
  })
  const body = (await response.json()) as { token: string; user: { id: string } }
  if (!response.ok) throw new Error(`sign-up: ${JSON.stringify(body)}\n${servers[0]?.output}`)
  return { name, email, userId: body.user.id, token: body.token }
}

async function asAdmin<T>(work: (sql: pg.Client) => Promise<T>, url = postgres.url): Promise<T> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

/** A file system that a test can fill. False where it cannot be mounted. */
function mountSmall(folder: string): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MB}m`, 'tmpfs', folder], { stdio: 'pipe' })
    return true
  } catch {
    // Not allowed in this container.
    return false
  }
}

/** Nothing more fits. Answers what makes room again; a Postgres that ended for it is started again, as its keeper would. */
function fillDisk(): () => Promise<void> {
  const { bavail, bsize } = statfsSync(home)
  const file = join(home, 'ballast')
  try {
    writeFileSync(file, Buffer.alloc(bavail * bsize - 4_096, 1))
  } catch (error) {
    // Postgres took some of it meanwhile: full is full.
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  }
  return async () => {
    rmSync(file)
    try {
      await asAdmin(sql => sql.query('select 1'))
    } catch {
      await postgres.stop()
      postgres = await startPostgres({ dir: home, port })
    }
  }
}

async function takeOnlyReads(): Promise<() => Promise<void>> {
  const set = (value: 'on' | 'off') =>
    asAdmin(async sql => {
      await sql.query(`alter system set default_transaction_read_only = ${value}`)
      await sql.query('select pg_reload_conf()')
    })
  await set('on')
  return () => set('off')
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      probe.close(() =>
        address && typeof address === 'object' ? resolve(address.port) : reject(new Error('no port')),
      )
    })
  })
}
