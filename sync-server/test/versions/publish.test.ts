import * as Automerge from '@automerge/automerge'
import {
  contentHash,
  editPipeline,
  makeEqualTo,
  type PipelineDoc,
  pipelineFromDoc,
  updateStepSql,
} from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { takenOut } from '../changes/log-fixture.ts'
import { type Person, somePipeline, TestServer } from '../server.ts'

let test: TestServer
let ann: Person
let workspace: string

beforeAll(async () => {
  test = await TestServer.start()
  ann = await test.person('ann')
  workspace = await test.workspace(ann)
})
afterAll(() => test?.stop())

type Doc = Automerge.Doc<PipelineDoc>
const setSql = (doc: Doc, sql: string): Doc => editPipeline(doc, 'edit', d => updateStepSql(d, 'a', sql))

const publish = (pipeline: string, heads: readonly string[], more: Record<string, unknown> = {}, as = ann) =>
  test.call('POST', '/v1/pipelines', {
    as,
    body: {
      workspace_id: workspace,
      pipeline_id: pipeline,
      version_id: newId(),
      heads,
      parent: null,
      message: 'm',
      ...more,
    },
  })

describe('publish', () => {
  it('[VER1] stores version 1 with the content of the document at its heads', async () => {
    const pipeline = newId()
    const doc = somePipeline()
    const heads = await test.store(workspace, pipeline, ann, doc)
    const reply = await publish(pipeline, heads)
    expect(reply.status).toBe(201)
    expect(reply.body).toMatchObject({
      number: 1,
      parent: null,
      restores: null,
      content_hash: contentHash(pipelineFromDoc(doc)),
      heads,
      published_by: { user_id: ann.id, name: 'ann' },
      authors: [{ user_id: ann.id, name: 'ann' }],
    })
    const read = await test.call('GET', `/v1/pipelines/${pipeline}/versions/1`, { as: ann })
    expect(read.body.definition).toEqual(pipelineFromDoc(doc))
    expect(read.body.files['orders.sql']).toContain('select 1 as x')
    const etag = read.headers.get('etag') as string
    const again = await test.call('GET', `/v1/pipelines/${pipeline}/versions/1`, {
      as: ann,
      headers: { 'if-none-match': etag },
    })
    expect(again.status).toBe(304)
  })

  it('[VER2] the same version id, and the content of the current version, answer 200 with it', async () => {
    const pipeline = newId()
    const heads = await test.store(workspace, pipeline, ann, somePipeline())
    const version_id = newId()
    const first = await publish(pipeline, heads, { version_id })
    const replay = await publish(pipeline, heads, { version_id })
    const other = await publish(pipeline, heads, { parent: null })
    expect([first.status, replay.status, other.status]).toEqual([201, 200, 200])
    expect(replay.body).toEqual(first.body)
    expect(other.body).toEqual(first.body)
    const rows = await test.sql.query('select count(*)::int as n from versions where pipeline_id = $1', [
      pipeline,
    ])
    expect(rows.rows[0].n).toBe(1)
  })

  it('[VER3] a parent that moved is refused with the current version', async () => {
    const pipeline = newId()
    let doc = somePipeline()
    const first = await publish(pipeline, await test.store(workspace, pipeline, ann, doc))
    doc = setSql(doc, 'select 2 as x')
    const reply = await publish(pipeline, await test.store(workspace, pipeline, ann, doc), { parent: null })
    expect(reply.status).toBe(409)
    expect(reply.body).toMatchObject({ code: 'version.parent_moved', details: { current: first.body } })
  })

  it('[VER4] heads that lack the current version’s changes are refused: nothing published is undone by accident', async () => {
    const pipeline = newId()
    const base = somePipeline()
    const old = await test.store(workspace, pipeline, ann, base)
    const newer = await test.store(workspace, pipeline, ann, setSql(Automerge.clone(base), 'select 3 as x'))
    expect((await publish(pipeline, newer)).status).toBe(201)
    expect((await publish(pipeline, old, { parent: 1 })).body.code).toBe('version.parent_moved')
  })

  it('[VER4] of a version from which changes were taken out, those that still count are in the past of the next', async () => {
    const pipeline = newId()
    const oldest = somePipeline()
    const old = await test.store(workspace, pipeline, ann, oldest)
    const left = setSql(Automerge.clone(oldest), 'select 2 as x')
    await test.store(workspace, pipeline, ann, left)
    let guilty = setSql(Automerge.clone(left), 'select 3 as x')
    const [first] = Automerge.getHeads(guilty) as [string]
    guilty = setSql(guilty, 'select 4 as x')
    expect((await publish(pipeline, await test.store(workspace, pipeline, ann, guilty))).status).toBe(201)
    await takenOut(test.database, {
      workspaceId: workspace,
      documentId: pipeline,
      hashes: [first],
      erase: false,
    })
    const kept = await test.call('GET', `/v1/pipelines/${pipeline}/versions/1`, { as: ann })
    expect(kept.body.definition).toEqual(pipelineFromDoc(guilty))
    expect((await publish(pipeline, old, { parent: 1 })).body.code).toBe('version.parent_moved')
    const next = setSql(Automerge.clone(left), 'select 5 as x')
    const heads = await test.store(workspace, pipeline, ann, next)
    expect(await publish(pipeline, heads, { parent: 1 })).toMatchObject({
      status: 201,
      body: { number: 2, authors: [{ user_id: ann.id }] },
    })
  })

  it('[VER5] restoring version 1 makes version 3 with version 1’s content hash', async () => {
    const pipeline = newId()
    let doc = somePipeline()
    const first = await publish(pipeline, await test.store(workspace, pipeline, ann, doc))
    const definition = pipelineFromDoc(doc)
    doc = setSql(doc, 'select 2 as x')
    await publish(pipeline, await test.store(workspace, pipeline, ann, doc), { parent: 1 })
    doc = makeEqualTo(doc, definition, 'restore')
    const third = await publish(pipeline, await test.store(workspace, pipeline, ann, doc), { parent: 2 })
    expect(third.body).toMatchObject({ number: 3, restores: 1, content_hash: first.body.content_hash })
  })

  it('[VER14] a pipeline of a newer schema than the server knows is not published', async () => {
    const pipeline = newId()
    const newer = Automerge.change(somePipeline(), d => {
      d.schema_version = 99
    })
    const reply = await publish(pipeline, await test.store(workspace, pipeline, ann, newer))
    expect(reply).toMatchObject({ status: 422, body: { code: 'document.too_new' } })
  })

  it('[VER6] heads that the server does not have are refused', async () => {
    const pipeline = newId()
    await test.store(workspace, pipeline, ann, somePipeline())
    const reply = await publish(pipeline, ['0'.repeat(64)])
    expect(reply).toMatchObject({ status: 409, body: { code: 'version.unknown_heads' } })
  })

  it('[VER7] a pipeline with problems is refused with all of them', async () => {
    const pipeline = newId()
    const doc = setSql(somePipeline(), '')
    const reply = await publish(pipeline, await test.store(workspace, pipeline, ann, doc))
    expect(reply).toMatchObject({ status: 422, body: { code: 'document.invalid' } })
    expect(reply.body.details.problems.length).toBeGreaterThan(0)
  })

  it('[VER8] of many that publish at once on one parent exactly one wins', async () => {
    const pipeline = newId()
    const base = somePipeline()
    const sides = [1, 2, 3, 4].map(n => setSql(Automerge.clone(base), `select ${n + 10} as x`))
    const heads: string[][] = []
    for (const side of sides) heads.push(await test.store(workspace, pipeline, ann, side))
    const replies = await Promise.all(heads.map(each => publish(pipeline, each)))
    expect(replies.map(reply => reply.status).toSorted()).toEqual([201, 409, 409, 409])
  })

  it('[VER12] what two people changed without seeing each other has to be looked at first', async () => {
    const pipeline = newId()
    const bob = await test.person('bob')
    const base = somePipeline()
    const first = await publish(pipeline, await test.store(workspace, pipeline, ann, base))
    expect(first.status).toBe(201)
    const anns = setSql(Automerge.clone(base), 'select 2 as x')
    const bobs = setSql(Automerge.clone(base), 'select 3 as x')
    await test.store(workspace, pipeline, ann, anns)
    const met = Automerge.merge(anns, bobs)
    const heads = await test.store(workspace, pipeline, bob, met, { live: false })
    const refused = await publish(pipeline, heads, { parent: 1 })
    expect(refused).toMatchObject({ status: 409, body: { code: 'version.unresolved_marks' } })
    const marks = refused.body.details.marks as { id: string; kind: string; step_id: string }[]
    expect(marks).toMatchObject([{ kind: 'text', step_id: 'a', field: 'sql' }])
    expect((await publish(pipeline, heads, { parent: 1, resolved: ['made up'] })).status).toBe(409)
    const resolved = [...marks.map(mark => mark.id), 'made up']
    const done = await publish(pipeline, heads, { parent: 1, resolved })
    expect(done).toMatchObject({ status: 201, body: { number: 2, resolved: marks.map(mark => mark.id) } })
    expect(done.body.authors.map((each: { name: string }) => each.name).toSorted()).toEqual(['ann', 'bob'])
  })

  it('[VER13] people who type beside each other live mark nothing', async () => {
    const pipeline = newId()
    const base = somePipeline()
    await publish(pipeline, await test.store(workspace, pipeline, ann, base))
    const one = setSql(Automerge.clone(base), 'select 2 as x')
    const two = setSql(Automerge.clone(base), 'select 1 as x, 5 as y')
    const heads = await test.store(workspace, pipeline, ann, Automerge.merge(one, two))
    expect((await publish(pipeline, heads, { parent: 1 })).status).toBe(201)
  })

  it('[VER9] a version cannot be changed in the database', async () => {
    await expect(test.sql.query("update versions set message = 'x'")).rejects.toThrow(/append-only/)
    await expect(test.sql.query('delete from versions')).rejects.toThrow(/append-only/)
  })

  it('[VER10] a version id that another pipeline has is refused without saying where', async () => {
    const [one, two] = [newId(), newId()]
    const version_id = newId()
    await publish(one, await test.store(workspace, one, ann, somePipeline()), { version_id })
    const reply = await publish(two, await test.store(workspace, two, ann, somePipeline()), { version_id })
    expect(reply).toMatchObject({
      status: 409,
      body: { code: 'request.id_taken', details: { field: 'version_id' } },
    })
  })

  it('[VER11] lists pipelines that were never published, and versions newest first', async () => {
    const pipeline = newId()
    await test.store(workspace, pipeline, ann, somePipeline())
    const list = await test.call('GET', `/v1/pipelines?workspace_id=${workspace}`, { as: ann })
    expect(
      list.body.pipelines.find((p: { pipeline_id: string }) => p.pipeline_id === pipeline),
    ).toMatchObject({
      current: null,
    })
    const one = await test.call('GET', `/v1/pipelines/${pipeline}`, { as: ann })
    expect(one.body).toMatchObject({ pipeline_id: pipeline, current: null })
  })
})
