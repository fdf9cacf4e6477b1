import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import * as A from '@automerge/automerge'
import { editPipeline, type PipelineDoc, setDescription } from '@pluto-duck/crdt-model'
import { readConfig, startServer } from '@pluto-duck/sync-server'
import pg from 'pg'
import { pino } from 'pino'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Settings, State } from '../../src/state/index.ts'
import { Device } from './device.ts'
import { type Person, TestServer } from './server.ts'

let server: TestServer
let sql: pg.Pool
let ada: Person
let bob: Person
let workspaceId: string
const devices: Device[] = []
const device = async (person: Person) => {
  const made = await Device.start(server.server.url, person.token, workspaceId)
  const { rows } = await sql.query('select id from users where email = $1', [person.email])
  made.documents.setAuthor(() => rows[0].id)
  devices.push(made)
  await made.sync.start()
  return made
}

beforeAll(async () => {
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
  await sql?.end()
  await server?.stop()
})

const until = async (what: string, there: () => boolean | Promise<boolean>) => {
  const end = Date.now() + 90_000
  while (!(await there())) {
    if (Date.now() > end) throw new Error(`not so: ${what}`)
    await systemClock.sleep(30)
  }
}

/** A change that devices take and admission never would: an unsigned number beside an edit of the description. */
const inadmissible = async (of: Device, documentId: string, text: string): Promise<Uint8Array> => {
  const { bytes, actor } = await of.documents.open(documentId)
  const doc = editPipeline(A.load<PipelineDoc>(bytes, { actor }), 'describe', d => setDescription(d, text))
  const change = A.decodeChange(A.getLastLocalChange(doc)!)
  const op = { action: 'set', obj: '_root', key: 'zz', value: 1, datatype: 'uint', pred: [] }
  return A.encodeChange({ ...change, ops: [...change.ops, op] } as unknown as A.DecodedChange)
}

/** Puts a change into the log behind admission's back, in somebody's name. */
const smuggle = async (documentId: string, author: Person, deviceId: string, bytes: Uint8Array) => {
  const { hash, actor, seq } = A.decodeChange(bytes)
  await sql.query(
    `with next as (update workspace_counters set seq = seq + 1 where workspace_id = $1 returning seq),
      told as (update documents set heads = array[$3], seq = next.seq from next where workspace_id = $1 and id = $2)
     insert into changes (workspace_id, seq, document_id, hash, actor, actor_seq, author_id, device_id, received_at, live, bytes)
     select $1, next.seq, $2, decode($3, 'hex'), $4, $5, (select id from users where email = $6), $7, now(), false, $8 from next`,
    [workspaceId, documentId, hash, actor, seq, author.email, deviceId, Buffer.from(bytes)],
  )
}

describe('what is taken out of the log', () => {
  it('[SYNC13] devices rebuild without it, its author gets the content back as a local draft, and all are in sync', async () => {
    const [a, b] = [await device(ada), await device(bob)]
    const documentId = await a.createPipeline('weekly')
    await a.describe(documentId, 'honest')
    await a.until('in_sync', 0)
    await b.sync.now()
    await smuggle(
      documentId,
      ada,
      await new Settings(a.state).deviceId(),
      await inadmissible(a, documentId, 'never admitted'),
    )
    await a.sync.now()
    await b.sync.now()
    expect(await b.text(documentId)).toBe('never admitted')
    // The next push finds it.
    await b.documents.edit<PipelineDoc>(documentId, doc =>
      editPipeline(doc, 'describe', d => setDescription(d, 'on top of it')),
    )
    await until('both are without it', async () => {
      const texts = [await a.text(documentId), await b.text(documentId)]
      return texts.every(text => text === 'honest')
    })
    await a.until('in_sync', 0)
    await b.until('in_sync', 0)
    expect(await a.heads(documentId)).toEqual(await b.heads(documentId))
    const [draft, ...more] = await a.documents.drafts(workspaceId)
    expect(more).toEqual([])
    expect(draft).toMatchObject({ documentId, code: 'void', changes: 1 })
    const applied = await a.documents.applyDraft(draft!.draftId)
    expect(applied.documentId).toBe(documentId)
    await a.until('in_sync', 0)
    expect(await a.text(documentId)).toBe('never admitted')
    const drafts = await b.documents.drafts(workspaceId)
    expect(drafts).toHaveLength(1)
    expect(['void', 'invalid']).toContain(drafts[0]?.code)
  })

  it('[STATE7] what was deleted is in no file of the folder after a rewrite, and everything else is as it was', async () => {
    const a = await device(ada)
    const kept = await a.createPipeline('kept')
    await a.until('in_sync', 0)
    const secret = 'a very secret word that is not compressed away 9f8e7d6c5b4a'
    await a.state.write(async tx => {
      for (let i = 0; i < 200; i++)
        await tx.run(`insert into runs values ($1, 'p', 'now', $2)`, `k${i}`, `${secret} ${i}`)
    })
    await a.state.write(tx => tx.run('delete from runs'))
    const writing = Promise.all(Array.from({ length: 20 }, (_, i) => a.describe(kept, `during ${i}`)))
    await a.state.rewrite()
    await writing
    expect(filesWith(a.folder, secret)).toEqual([])
    await a.until('in_sync', 0)
    await a.close()
    expect(filesWith(a.folder, secret)).toEqual([])
    const again = await State.open(a.folder)
    expect(await again.read.all('select count(*) as n from documents')).toEqual([
      { n: 1 + (await others(a)) },
    ])
    await again.close()
    await a.open()
    expect(await a.text(kept)).toBe('during 19')
  })

  it('[SYNC15] a server that was put back is noticed; what it no longer has becomes local drafts, and all is in sync', async () => {
    const first = await device(ada)
    const documentId = await first.createPipeline('weekly')
    await first.describe(documentId, 'before the backup')
    await first.until('in_sync', 0)
    const { rows } = await sql.query('select seq, heads from documents where id = $1', [documentId])
    await first.describe(documentId, 'after the backup')
    const newer = await first.createPipeline('newer')
    await first.until('in_sync', 0)
    await first.close()
    devices.splice(0)
    // What a restore leaves: rows, records and counter of an earlier moment.
    await sql.query(`set session_replication_role = replica`)
    await sql.query('delete from log_records where workspace_id = $1 and seq > $2', [
      workspaceId,
      rows[0].seq,
    ])
    await sql.query('delete from documents where id = $1', [newer])
    await sql.query('update documents set seq = $2, heads = $3 where id = $1', [
      documentId,
      rows[0].seq,
      rows[0].heads,
    ])
    await sql.query('update workspace_counters set seq = $2 where workspace_id = $1', [
      workspaceId,
      rows[0].seq,
    ])
    await sql.query(`set session_replication_role = default`)
    const config = readConfig({
      PORT: '0',
      DATABASE_URL: server.database.url,
      AUTH_SECRET: 'a secret of forty characters, for tests.',
    })
    const restored = await startServer(config, { log: pino({ level: 'silent' }) })
    const a = await Device.start(restored.url, ada.token, workspaceId, first.folder)
    devices.push(a)
    await a.sync.start()
    await a.until('in_sync', 0)
    expect(await a.text(documentId)).toBe('before the backup')
    expect(a.documents.has(newer)).toBe(false)
    const drafts = await a.documents.drafts(workspaceId)
    expect(drafts.map(draft => [draft.documentId, draft.code]).sort()).toEqual(
      [
        [documentId, 'diverged'],
        [newer, 'diverged'],
      ].sort(),
    )
    await a.documents.applyDraft(drafts.find(draft => draft.documentId === documentId)!.draftId)
    await a.until('in_sync', 0)
    expect(await a.text(documentId)).toBe('after the backup')
    await restored.close()
  })
})

const others = async (a: Device) => {
  expect(a.folder).toBeTruthy()
  const { rows } = await sql.query(
    'select count(*)::int - 1 as n from documents where workspace_id = $1 and cardinality(heads) > 0',
    [workspaceId],
  )
  return rows[0].n
}

const filesWith = (folder: string, text: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map(name => join(folder, name))
    .filter(path => statSync(path).isFile() && readFileSync(path).includes(text))
