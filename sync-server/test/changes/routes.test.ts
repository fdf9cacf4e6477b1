import * as Automerge from '@automerge/automerge'
import {
  decodeSequence,
  digestOfHeads,
  encodeSequence,
  type LiveEvent,
  newId,
} from '@pluto-duck/crdt-model/protocol'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import pg from 'pg'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type RunningServer, readConfig, startServer } from '../../src/index.ts'
import { actor, note } from './log-fixture.ts'

let database: TestDatabase
let pool: pg.Pool
const servers: RunningServer[] = []
const tokens = new Map<string, string>()
const device = newId()

const start = async (): Promise<RunningServer> => {
  const config = readConfig({
    PORT: '0',
    DATABASE_URL: database.url,
    AUTH_SECRET: 'a secret of forty characters, for tests.',
  })
  return await startServer(config, { log: pino({ level: 'silent' }) })
}

beforeAll(async () => {
  database = await testDatabase()
  servers.push(await start(), await start())
  pool = new pg.Pool({ connectionString: database.url, max: 2 })
  for (const name of ['ann', 'vic', 'eve']) {
    const id = await servers[0]!.ensureLocalOwner({ name, email: `${name}@example.org` })
    tokens.set(name, await servers[0]!.issueSession(id))
  }
})
afterAll(async () => {
  await pool?.end()
  for (const server of servers) await server.close()
  await database?.drop()
})

interface Options {
  as?: string
  on?: number
  method?: string
  body?: Uint8Array | string
  headers?: Record<string, string>
}
const call = (path: string, { as = 'ann', on = 0, method = 'GET', body, headers = {} }: Options = {}) =>
  fetch(servers[on]!.url + path, {
    method,
    headers: {
      authorization: `Bearer ${tokens.get(as)}`,
      'x-pluto-device': as === 'ann' ? device : (devices.get(as) ?? newDevice(as)),
      ...(body === undefined
        ? {}
        : { 'content-type': typeof body === 'string' ? 'application/json' : 'application/cbor-seq' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: body as string }),
  })
const devices = new Map<string, string>()
const newDevice = (name: string): string => {
  devices.set(name, newId())
  return devices.get(name)!
}
const sequence = async (response: Response) => decodeSequence(new Uint8Array(await response.arrayBuffer()))

const json = async (response: Response) =>
  (await response.json()) as { code?: string; records?: { seq: number }[] }

async function workspace(): Promise<string> {
  const id = newId()
  const made = await call('/v1/workspaces', {
    method: 'POST',
    body: JSON.stringify({ workspace_id: id, name: 'W' }),
  })
  expect(made.status).toBe(201)
  const { rows } = await pool.query("select id from users where email = 'vic@example.org'")
  await pool.query("insert into members (workspace_id, user_id, role) values ($1, $2, 'viewer')", [
    id,
    rows[0].id,
  ])
  return id
}

const pushOf = (documentId: string, changes: readonly Uint8Array[], deviceId = device): Uint8Array =>
  encodeSequence([
    { v: 1, device_id: deviceId, live: true },
    ...changes.map(bytes => ({
      document_id: documentId,
      kind: 'pipeline',
      subject: null,
      base: null,
      bytes,
    })),
  ])
const push = (
  workspaceId: string,
  documentId: string,
  changes: readonly Uint8Array[],
  options: Options = {},
) =>
  call(`/v1/workspaces/${workspaceId}/changes`, {
    method: 'POST',
    body: pushOf(documentId, changes),
    ...options,
  })

/** Reads events until `count` with data have come. */
async function events(response: Response, count: number): Promise<{ id: number; event: LiveEvent }[]> {
  const found: { id: number; event: LiveEvent }[] = []
  let text = ''
  const decoder = new TextDecoder()
  for await (const chunk of response.body!) {
    text += decoder.decode(chunk, { stream: true })
    const blocks = text.split('\n\n')
    text = blocks.pop()!
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1]
      if (data) found.push({ id: Number(/^id: (\d+)$/m.exec(block)?.[1]), event: JSON.parse(data) })
    }
    if (found.length >= count) break
  }
  return found
}

describe('the log over HTTP', () => {
  it('[LOG1] [LOG9] [LOG12] what is pushed can be read, with the digest at the end', async () => {
    const id = await workspace()
    const documentId = newId()
    const doc = note(actor())
    const pushed = await push(id, documentId, [doc.first, doc.edit('a')])
    expect(pushed.status).toBe(200)
    expect(await sequence(pushed)).toMatchObject([
      { status: 'stored', index: 0, seq: 1 },
      { status: 'stored', index: 1, seq: 2 },
      { end: true, seq: 2, more: false },
    ])
    const read = await call(`/v1/workspaces/${id}/changes?after=0`, { on: 1 })
    const items = await sequence(read)
    expect(items).toHaveLength(3)
    const digest = digestOfHeads([{ document_id: documentId, heads: Automerge.getHeads(doc.doc()) }])
    expect(items[2]).toEqual({ end: true, seq: 2, more: false, digest })
    const again = await call(`/v1/workspaces/${id}/changes?after=0`, {
      headers: { 'if-none-match': read.headers.get('etag')! },
    })
    expect(again.status).toBe(304)

    const snapshot = await sequence(await call(`/v1/workspaces/${id}/snapshot`, { on: 1 }))
    expect(snapshot[1]).toEqual({ end: true, seq: 2, more: false, digest })
    const loaded = Automerge.load(snapshot[0]!.bytes as Uint8Array)
    expect(Automerge.getHeads(loaded)).toEqual(Automerge.getHeads(doc.doc()))

    const records = await json(await call(`/v1/workspaces/${id}/documents/${documentId}/records`))
    expect(records.records?.map(one => one.seq)).toEqual([1, 2])
  })

  it('[LOG7] a viewer is refused by verdict, a stranger does not see the workspace', async () => {
    const id = await workspace()
    const doc = note(actor())
    const devicesOf = (name: string) => devices.get(name) ?? newDevice(name)
    const viewer = await call(`/v1/workspaces/${id}/changes`, {
      method: 'POST',
      as: 'vic',
      body: pushOf(newId(), [doc.first], devicesOf('vic')),
    })
    expect(viewer.status).toBe(200)
    expect((await sequence(viewer))[0]).toMatchObject({ status: 'refused', code: 'permission' })
    const stranger = await call(`/v1/workspaces/${id}/changes`, { as: 'eve' })
    expect(stranger.status).toBe(404)
  })

  it('[LOG5] bad pushes get a typed answer', async () => {
    const id = await workspace()
    const path = `/v1/workspaces/${id}/changes`
    const cases: [Options, number, string][] = [
      [{ method: 'POST', body: new Uint8Array([255, 1, 2]) }, 400, 'request.invalid'],
      [{ method: 'POST', body: new Uint8Array(0) }, 400, 'request.invalid'],
      [{ method: 'POST', body: pushOf(newId(), []).slice(0, -4) }, 400, 'request.invalid'],
      [{ method: 'POST', body: pushOf(newId(), [], newId()) }, 403, 'auth.device_mismatch'],
      [{ method: 'POST', body: '{}' }, 415, 'request.unsupported_media_type'],
      [{ method: 'POST', body: new Uint8Array(9_000_000) }, 413, 'request.too_large'],
      [{ method: 'GET', headers: { authorization: 'Bearer nobody' } }, 401, 'auth.expired'],
    ]
    for (const [options, status, code] of cases) {
      const response = await call(path, options)
      expect([response.status, (await json(response)).code]).toEqual([status, code])
    }
    expect((await call(`${path}?after=-1`)).status).toBe(400)
    expect((await call(`/v1/workspaces/${newId()}/changes`)).status).toBe(404)
    expect((await call(`/v1/workspaces/${id}/documents/${newId()}/records`)).status).toBe(404)
  })

  it('[LOG10] nothing is loaded to serve a snapshot or the log: what is stored is sent as it is', async () => {
    const id = await workspace()
    const [documentId, doc] = [newId(), note(actor())]
    await push(id, documentId, [doc.first, doc.edit('a')])
    // No document that anything could load.
    const bytes = Buffer.from('no document at all')
    await pool.query('update documents set snapshot = $1, snapshot_seq = 2 where id = $2', [
      bytes,
      documentId,
    ])
    const [whole] = await sequence(await call(`/v1/workspaces/${id}/snapshot`))
    expect(whole).toMatchObject({
      document_id: documentId,
      title: 'note',
      seq: 2,
      heads: [expect.any(String)],
    })
    expect(Buffer.from(whole?.bytes as Uint8Array)).toEqual(bytes)
    const log = await sequence(await call(`/v1/workspaces/${id}/changes?after=0`))
    expect(log.map(item => item.seq)).toEqual([1, 2, 2])
    expect(log.at(-1)).toMatchObject({ end: true, digest: expect.any(String) })
  })

  it('[LOG9] a read that waits is answered by a push on another server', async () => {
    const id = await workspace()
    const waiting = call(`/v1/workspaces/${id}/changes?after=0&wait=20`, { on: 1 })
    await new Promise(resolve => setTimeout(resolve, 100))
    await push(id, newId(), [note(actor()).first])
    expect(await sequence(await waiting)).toHaveLength(2)
  })

  it('[LIVE6] who is where is told to the other devices by every server, not to oneself, and stored nowhere', async () => {
    const id = await workspace()
    const documentId = newId()
    const at = 'step:a cursor:17 of nobody else'
    const own = await call(`/v1/workspaces/${id}/events`)
    const other = await call(`/v1/workspaces/${id}/events`, { as: 'vic', on: 1 })
    const say = (body: unknown) =>
      call(`/v1/workspaces/${id}/presence`, { method: 'POST', body: JSON.stringify(body) })
    expect((await say({ document_id: documentId, at })).status).toBe(200)
    expect((await say({ document_id: null, at: null })).status).toBe(200)
    const heard = (await events(other, 2)).map(one => one.event)
    expect(heard).toMatchObject([
      { type: 'presence', device_id: device, name: 'ann', document_id: documentId, at, left: false },
      { type: 'presence', device_id: device, left: true },
    ])
    await push(id, documentId, [note(actor()).first])
    expect((await events(own, 1)).map(one => one.event.type)).toEqual(['changes'])
    const { rows } = await pool.query<{ name: string }>(
      "select table_name as name from information_schema.tables where table_schema = 'public' and table_type = 'BASE TABLE'",
    )
    for (const { name } of rows) {
      const found = await pool.query(`select 1 from "${name}" t where t::text like $1`, [
        '%cursor:17 of nobody%',
      ])
      expect([name, found.rowCount]).toEqual([name, 0])
    }
  })

  it('[LOG13] [LOG14] events come from every server, and a reader who comes back is told what it missed', async () => {
    const id = await workspace()
    const documentId = newId()
    const doc = note(actor())
    const stop = new AbortController()
    const listen = (lastSeen?: string) =>
      fetch(`${servers[1]!.url}/v1/workspaces/${id}/events`, {
        headers: {
          authorization: `Bearer ${tokens.get('ann')}`,
          ...(lastSeen === undefined ? {} : { 'last-event-id': lastSeen }),
        },
        signal: stop.signal,
      })
    const stream = await listen()
    expect(stream.headers.get('content-type')).toMatch(/^text\/event-stream/)
    const live = events(stream, 2)
    await new Promise(resolve => setTimeout(resolve, 150))
    await push(id, documentId, [doc.first])
    await push(id, documentId, [doc.edit('a')])
    const [first, second] = await live
    expect(first).toMatchObject({ id: 1, event: { type: 'changes', from: 0, to: 1 } })
    expect(second).toMatchObject({ id: 2, event: { type: 'changes', from: 1, to: 2 } })
    if (second?.event.type !== 'changes' || second.event.items === null) throw new Error('no items')
    const [item] = decodeSequence(Buffer.from(second.event.items, 'base64'))
    expect(item).toMatchObject({ document_id: documentId, seq: 2 })

    const [missed] = await events(await listen('1'), 1)
    expect(missed).toMatchObject({ id: 2, event: { type: 'changes', from: 1, to: 2, items: null } })
    stop.abort()
  })
})
