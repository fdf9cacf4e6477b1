import * as Automerge from '@automerge/automerge'
import { editPipeline, type PipelineDoc, updateStepSql } from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createDatabase, type ServerDatabase } from '../../src/database/index.ts'
import { verify } from '../../src/integrity/index.ts'
import { runProgram } from '../program.ts'
import { type Person, somePipeline, TestServer } from '../server.ts'

let test: TestServer
let ann: Person
let database: ServerDatabase

beforeAll(async () => {
  test = await TestServer.start()
  ann = await test.person('ann')
  database = await createDatabase(test.config)
})
afterAll(async () => {
  await database?.close()
  await test?.stop()
})

/** A workspace with a pipeline of three changes and two versions, written by way of the API's own tables. */
const written = async () => {
  const workspaceId = await test.workspace(ann)
  const documentId = newId()
  let doc = somePipeline()
  const publish = async (parent: number | null) => {
    const heads = await test.store(workspaceId, documentId, ann, doc)
    const body = {
      workspace_id: workspaceId,
      pipeline_id: documentId,
      version_id: newId(),
      heads,
      parent,
      message: 'm',
    }
    const reply = await test.call('POST', '/v1/pipelines', { as: ann, body })
    expect(reply.status).toBe(201)
  }
  await publish(null)
  for (const sql of ['select 2 as x', 'select 3 as x'])
    doc = editPipeline(doc as Automerge.Doc<PipelineDoc>, 'edit', d => updateStepSql(d, 'a', sql))
  await publish(1)
  return { workspaceId, documentId, doc }
}

/** What only somebody who owns the tables could do: writes past the triggers. */
const damage = async (text: string, ...values: unknown[]): Promise<void> => {
  const client = await test.sql.connect()
  try {
    await client.query('set session_replication_role = replica')
    const { rowCount } = await client.query(text, values)
    expect(rowCount).toBeGreaterThan(0)
  } finally {
    await client.query('set session_replication_role = default')
    client.release()
  }
}

const findings = async (workspaceId: string, repair = false) => {
  const report = await verify(database.db, { workspaceId, repair })
  return { ...report, codes: report.findings.map(found => found.code) }
}

describe('verify', () => {
  it('[INT1] rebuilds every document and version of an honest workspace and finds nothing', async () => {
    const { workspaceId, documentId, doc } = await written()
    await damage(
      'update documents set snapshot = $2, snapshot_seq = seq where id = $1',
      documentId,
      Buffer.from(Automerge.save(doc)),
    )
    expect(await findings(workspaceId)).toMatchObject({
      workspaces: 1,
      documents: 1,
      changes: 3,
      versions: 2,
      codes: [],
      open: 0,
    })
  })

  it('[INT2] a corrupt snapshot and one of other heads are found, and built again from the log', async () => {
    const { workspaceId, documentId, doc } = await written()
    await damage(
      'update documents set snapshot = $2, snapshot_seq = seq where id = $1',
      documentId,
      Buffer.from('no snapshot'),
    )
    expect((await findings(workspaceId)).codes).toEqual(['snapshot.unloadable'])
    await damage(
      'update documents set snapshot = $2, snapshot_seq = seq where id = $1',
      documentId,
      Buffer.from(Automerge.save(somePipeline())),
    )
    expect((await findings(workspaceId)).codes).toEqual(['snapshot.differs'])
    const repaired = await findings(workspaceId, true)
    expect(repaired).toMatchObject({ open: 0, codes: ['snapshot.differs'], findings: [{ repaired: true }] })
    expect((await findings(workspaceId)).codes).toEqual([])
    const { rows } = await test.sql.query('select snapshot from documents where id = $1', [documentId])
    expect(Automerge.getHeads(Automerge.load(rows[0].snapshot))).toEqual(Automerge.getHeads(doc))
  })

  it('[INT2] wrong heads of a document are found, and made again from the log', async () => {
    const { workspaceId, documentId, doc } = await written()
    await damage('update documents set heads = $2 where id = $1', documentId, ['ab'.repeat(32)])
    expect((await findings(workspaceId)).codes).toEqual(['document.heads'])
    expect((await findings(workspaceId, true)).open).toBe(0)
    const { rows } = await test.sql.query('select heads from documents where id = $1', [documentId])
    expect(rows[0].heads).toEqual(Automerge.getHeads(doc))
  })

  it('[INT3] damaged bytes of a change are found by their hash, and repair leaves them alone', async () => {
    const { workspaceId, documentId } = await written()
    await damage(
      'update changes set bytes = set_byte(bytes, length(bytes) - 1, get_byte(bytes, length(bytes) - 1) # 1) where document_id = $1 and seq = 2',
      documentId,
    )
    const found = await findings(workspaceId, true)
    expect(found.codes).toEqual(['change.damaged', 'change.behind'])
    expect(found.open).toBe(2)
    expect(found.findings[0]).toMatchObject({ object: `change 2 of document ${documentId}`, repaired: false })
  })

  it('[INT3] a version whose hash or content is another one is found', async () => {
    const { workspaceId, documentId } = await written()
    await damage(
      `update versions set content_hash = $2 where pipeline_id = $1 and number = 1`,
      documentId,
      '0'.repeat(64),
    )
    await damage(
      `update versions set definition = replace(definition, 'select 3', 'select 4') where pipeline_id = $1 and number = 2`,
      documentId,
    )
    const found = await findings(workspaceId)
    expect(found.codes).toEqual(['version.content', 'version.content'])
    expect(found.findings.map(one => one.object)).toEqual(
      [1, 2].map(n => `version ${n} of pipeline ${documentId}`),
    )
  })

  it('[INT3] a row of the log that is missing, and one that was never admitted, are found', async () => {
    const { workspaceId, documentId } = await written()
    await damage('delete from changes where document_id = $1 and seq = 2', documentId)
    expect((await findings(workspaceId)).codes).toEqual(['log.gap', 'change.behind'])
    const other = await written()
    const [last] = Automerge.getAllChanges(other.doc).slice(-1)
    // The same number of the same actor, on top of its own change.
    const forged = Automerge.encodeChange({
      ...Automerge.decodeChange(last!),
      deps: Automerge.getHeads(other.doc),
    })
    const { hash, actor } = Automerge.decodeChange(forged)
    await damage(
      `insert into changes (workspace_id, seq, document_id, hash, actor, actor_seq, author_id, device_id, received_at, live, bytes)
       select workspace_id, seq + 1, document_id, decode($2, 'hex'), $3, actor_seq, author_id, device_id, received_at, live, $4
       from changes where document_id = $1 and seq = 3`,
      other.documentId,
      hash,
      actor,
      Buffer.from(forged),
    )
    await damage('update workspace_counters set seq = seq + 1 where workspace_id = $1', other.workspaceId)
    expect((await findings(other.workspaceId)).codes).toEqual(['change.inadmissible'])
  })

  it('[INT4] a row of the audit that was changed or cut off is found', async () => {
    const { workspaceId } = await written()
    await damage(
      `update audit set details = '{"number": 9}' where workspace_id = $1 and seq = 2`,
      workspaceId,
    )
    expect((await findings(workspaceId)).codes).toEqual(['audit.hash'])
    await damage('delete from audit where workspace_id = $1 and seq = 2', workspaceId)
    expect((await findings(workspaceId)).codes).toEqual(['audit.gap'])
    await damage('delete from audit where workspace_id = $1 and seq = 3', workspaceId)
    expect((await findings(workspaceId)).codes).toEqual(['audit.head'])
  })

  it('[INT5] `pluto-server verify` ends with 0 or 1, says each finding with what to do, and reads while the server works', async () => {
    const { workspaceId, documentId } = await written()
    const env = { DATABASE_URL: test.database.url, AUTH_SECRET: 'a secret of forty characters, for tests.' }
    const clean = runProgram(['verify', '--workspace', workspaceId, '--json'], env)
    expect(await clean.ended).toBe(0)
    expect(JSON.parse(clean.out())).toMatchObject({ documents: 1, open: 0, findings: [] })
    await damage('update documents set heads = $2 where id = $1', documentId, [])
    const broken = runProgram(['verify', '--workspace', workspaceId], env)
    expect(await broken.ended).toBe(1)
    expect(broken.err()).toContain(`FOUND document.heads in workspace ${workspaceId}: document ${documentId}`)
    expect(broken.err()).toContain('Next: Run verify --repair')
    const repaired = runProgram(['verify', '--workspace', workspaceId, '--repair'], env)
    expect(await repaired.ended).toBe(0)
    const absent = runProgram(['verify', '--workspace', newId()], env)
    expect(await absent.ended).toBe(9)
  })
})
