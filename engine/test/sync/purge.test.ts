import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { zstdDecompressSync } from 'node:zlib'
import { editPipeline, type PipelineDoc, spliceStepSql } from '@pluto-duck/crdt-model'
import { newId, versionRoutes } from '@pluto-duck/crdt-model/protocol'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Device } from './device.ts'
import { type Person, TestServer } from './server.ts'

const SECRET = 'hunter2-pasted-by-mistake-7d1f'
let server: TestServer
let sql: pg.Pool
let ada: Person
let bob: Person
let workspaceId: string
let folder: string
const devices: Device[] = []

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pluto-purge-'))
  server = await TestServer.start()
  sql = new pg.Pool({ connectionString: server.database.url, max: 1 })
  ada = await server.person('ada')
  bob = await server.person('bob')
  workspaceId = await server.workspace(ada)
  await server.join(workspaceId, ada, bob, 'editor')
})
afterEach(async () => {
  for (const one of devices.splice(0)) await one.remove()
})
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true })
  await sql?.end()
  await server?.stop()
})

const device = async (person: Person) => {
  const made = await Device.start(server.server.url, person.token, workspaceId)
  devices.push(made)
  await made.sync.start()
  return made
}

const program = fileURLToPath(new URL('../../../sync-server/bin/pluto-server.ts', import.meta.url))
const run = async (...args: string[]): Promise<{ code: number | null; out: string; err: string }> => {
  const child = spawn(process.execPath, [program, ...args], {
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      DATABASE_URL: server.database.url,
      AUTH_SECRET: 'a secret of forty characters, for tests.',
    },
  })
  const texts = { out: '', err: '' }
  child.stdout.on('data', chunk => {
    texts.out += chunk
  })
  child.stderr.on('data', chunk => {
    texts.err += chunk
  })
  const code = await new Promise<number | null>(resolve => child.once('close', resolve))
  return { code, ...texts }
}

const insert = (of: Device, documentId: string, at: number, text: string) =>
  of.documents.edit<PipelineDoc>(documentId, doc =>
    editPipeline(doc, 'type', d => spliceStepSql(d, 'orders', at, 0, text)),
  )
const sqlOf = (of: Device, documentId: string): Promise<string> =>
  of.documents.read<string, PipelineDoc>(documentId, doc => String(doc.steps.orders?.sql))

const until = async (what: string, there: () => Promise<boolean>) => {
  const end = Date.now() + 90_000
  while (!(await there())) {
    if (Date.now() > end) throw new Error(`not so: ${what}`)
    await systemClock.sleep(50)
  }
}

/** Automerge stores what was pasted as one run of characters; both the whole and its halves are looked for. */
const holds = (content: Buffer): boolean =>
  [SECRET, SECRET.slice(0, 12), SECRET.slice(-12)].some(text => content.includes(text))
const filesWithSecret = (of: string): string[] =>
  readdirSync(of, { recursive: true, encoding: 'utf8' })
    .map(name => join(of, name))
    .filter(path => statSync(path).isFile() && holds(readFileSync(path)))

const backedUp = async (name: string): Promise<Buffer> => {
  const file = join(folder, name)
  expect((await run('backup', file)).code).toBe(0)
  const plain = zstdDecompressSync(readFileSync(file)).toString('utf8')
  // Bytes are written in hex.
  return Buffer.concat([
    Buffer.from(plain),
    ...[...plain.matchAll(/\\\\x([0-9a-f]+)/g)].map(m => Buffer.from(m[1]!, 'hex')),
  ])
}

const publish = async (documentId: string, heads: string[], parent: number | null) =>
  await ada.client.call(versionRoutes.publish, {
    body: {
      workspace_id: workspaceId,
      pipeline_id: documentId,
      version_id: newId(),
      heads,
      parent,
      message: 'm',
      resolved: [],
    },
  })

describe('purge', () => {
  it('[SYNC14] a pasted secret leaves the server and every device; what else was written stays, unsent edits become a draft', async () => {
    const [a, b] = [await device(ada), await device(bob)]
    const documentId = await a.createPipeline('weekly')
    await a.until('in_sync', 0)
    await publish(documentId, await a.heads(documentId), null)
    await insert(a, documentId, 0, `/* ${SECRET} */ `)
    const [guilty] = await a.heads(documentId)
    await a.until('in_sync', 0)
    const heads = await a.heads(documentId)
    await publish(documentId, heads, 1)
    await b.sync.now()
    await insert(b, documentId, 0, 'select 0; ')
    await b.until('in_sync', 0)
    // A version as it is kept for working offline.
    await a.state.write(tx =>
      tx.run(
        'insert into versions values ($1, $2, $3, $4)',
        `${documentId}:2`,
        documentId,
        'now',
        `{"sql":"${SECRET}"}`,
      ),
    )
    await a.sync.now()
    a.sync.pause(true)
    await insert(a, documentId, 0, '-- unsent\n')
    expect(holds(await backedUp('before'))).toBe(true)
    expect(filesWithSecret(b.folder)).not.toEqual([])

    const dry = await run('purge', '--document', documentId, '--change', guilty!, '--json')
    expect([dry.code, dry.err]).toEqual([0, expect.stringContaining('Nothing was changed')])
    expect(JSON.parse(dry.out)).toMatchObject({ done: false, changes: 3, versions: [2], new_version: 3 })
    expect((await run('purge', '--document', documentId, '--yes')).code).toBe(2)
    const done = await run(
      'purge',
      '--document',
      documentId,
      '--change',
      guilty!,
      '--yes',
      '--reason',
      'a password',
      '--json',
    )
    expect([done.code, done.err]).toEqual([0, expect.stringContaining('Devices follow')])

    // The server: nothing in what a backup holds, and all that is left is sound and audited.
    expect(holds(await backedUp('after'))).toBe(false)
    const verified = await run('verify', '--json')
    expect([verified.code, JSON.parse(verified.out).findings]).toEqual([0, []])
    const { rows } = await sql.query(
      'select action, details from audit where workspace_id = $1 order by seq desc limit 1',
      [workspaceId],
    )
    expect(rows[0]).toMatchObject({
      action: 'document.purge',
      details: { reason: 'a password', versions: [2] },
    })
    const purged = ada.client.call(versionRoutes.readVersion, {
      params: { pipeline_id: documentId, number: 2 },
    })
    await expect(purged).rejects.toMatchObject({ code: 'version.purged' })

    // The devices, online and back from offline.
    a.sync.pause(false)
    for (const one of [a, b]) {
      await one.sync.now()
      await until('the device follows', async () => (await sqlOf(one, documentId)) === 'select 0; select 1')
      await one.until('in_sync', 0)
    }
    expect(await a.heads(documentId)).toEqual(await b.heads(documentId))
    const [draft, ...more] = await a.documents.drafts(workspaceId)
    expect([draft?.code, more]).toEqual(['void', []])
    expect(await b.documents.drafts(workspaceId)).toEqual([])
    for (const one of [a, b]) expect(filesWithSecret(one.folder)).toEqual([])
    await a.documents.applyDraft(draft!.draftId)
    await a.until('in_sync', 0)
    expect(await sqlOf(a, documentId)).toBe('-- unsent\nselect 0; select 1')
    // Publishing goes on from the version that the purge made.
    expect((await publish(documentId, await a.heads(documentId), 3)).value).toMatchObject({ number: 4 })
    for (const one of [a, b]) {
      await one.close()
      expect(filesWithSecret(one.folder)).toEqual([])
      await one.open()
    }
  })
})
