import * as Automerge from '@automerge/automerge'
import {
  editPipeline,
  forkDraft,
  type PipelineDoc,
  pipelineFromDoc,
  setDescription,
  updateStepSql,
} from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { takenOut } from '../changes/log-fixture.ts'
import { type Person, somePipeline, TestServer } from '../server.ts'

type Doc = Automerge.Doc<PipelineDoc>

let test: TestServer
let ann: Person
let ben: Person
let cat: Person
let workspace: string

beforeAll(async () => {
  test = await TestServer.start()
  ;[ann, ben, cat] = [await test.person('ann'), await test.person('ben'), await test.person('cat')]
  workspace = await test.workspace(ann)
  await test.join(workspace, ann, ben, 'editor')
  await test.join(workspace, ann, cat, 'viewer')
})
afterAll(() => test?.stop())

const push = (who: Person, documentId: string, base: string | null, changes: readonly Uint8Array[]) =>
  test.push(workspace, who, documentId, changes, base === null ? {} : { base })

const setSql = (doc: Doc, step: string, sql: string): Doc =>
  editPipeline(doc, 'edit', d => updateStepSql(d, step, sql))
const at = (path: string) => `/v1/drafts/${path}`

/** A published pipeline and a draft of it by ben that changes one step. */
async function world(change: (doc: Doc) => Doc = doc => setSql(doc, 'a', 'select 7 as x')) {
  const pipeline = newId()
  const doc = somePipeline()
  await push(ann, pipeline, null, Automerge.getAllChanges(doc))
  const published = await test.call('POST', '/v1/pipelines', {
    as: ann,
    body: {
      workspace_id: workspace,
      pipeline_id: pipeline,
      version_id: newId(),
      heads: Automerge.getHeads(doc),
      parent: null,
    },
  })
  expect(published.status).toBe(201)
  const draft = newId()
  const fork = change(forkDraft(doc, Automerge.getHeads(doc), 'seven'))
  const own = Automerge.getChangesSince(fork, Automerge.getHeads(doc))
  expect((await push(ben, draft, pipeline, own)).map(verdict => verdict.status)).toEqual(
    own.map(() => 'stored'),
  )
  return { pipeline, doc, draft, fork, heads: Automerge.getHeads(fork), own }
}

const merge = (draft: string, heads: readonly string[], more: Record<string, unknown> = {}, as = ann) =>
  test.call('POST', at(`${draft}/merge`), { as, body: { version_id: newId(), heads, parent: 1, ...more } })
const review = (draft: string, verdict: string, heads: readonly string[], as: Person, more = {}) =>
  test.call('POST', at(`${draft}/reviews`), { as, body: { review_id: newId(), verdict, heads, ...more } })

describe('drafts', () => {
  it('[DRAFT6] a draft is listed with its title, author and state, and is no pipeline', async () => {
    const { pipeline, draft, heads } = await world()
    const listed = await test.call('GET', `/v1/workspaces/${workspace}/drafts?pipeline_id=${pipeline}`, {
      as: cat,
    })
    expect(listed.body.drafts).toMatchObject([
      {
        draft_id: draft,
        pipeline_id: pipeline,
        title: 'seven',
        state: 'open',
        heads,
        changes: 2,
        created_by: { user_id: ben.id, name: 'ben' },
        reviews: [],
        version: null,
      },
    ])
    const pipelines = await test.call('GET', `/v1/pipelines?workspace_id=${workspace}`, { as: ann })
    expect(pipelines.body.pipelines.map((one: { pipeline_id: string }) => one.pipeline_id)).not.toContain(
      draft,
    )
  })

  it('[DRAFT7] review is asked for, changes are requested and then approved; each is told and audited', async () => {
    const { pipeline, draft, fork, heads } = await world()
    const asked = await test.call('POST', at(`${draft}/review-requests`), {
      as: ben,
      body: { message: 'why seven' },
    })
    expect(asked.body).toMatchObject({ state: 'review', message: 'why seven', requested_by: { name: 'ben' } })

    const review_id = newId()
    const objected = await review(draft, 'changes_requested', heads, ann, { review_id, message: 'eight' })
    expect(objected).toMatchObject({
      status: 201,
      body: { reviews: [{ reviewer: { name: 'ann' }, verdict: 'changes_requested', current: true }] },
    })
    expect((await review(draft, 'changes_requested', heads, ann, { review_id })).status).toBe(200)
    expect((await merge(draft, heads)).body.code).toBe('draft.changes_requested')

    const next = setSql(fork, 'a', 'select 8 as x')
    await push(ben, draft, pipeline, [Automerge.getLastLocalChange(next)!])
    const read = await test.call('GET', at(draft), { as: cat })
    expect(read.body.reviews).toMatchObject([{ current: false }])
    expect((await review(draft, 'approved', heads, ann)).body.code).toBe('draft.moved')
    const approved = await review(draft, 'approved', Automerge.getHeads(next), ann)
    expect(approved.body.reviews).toMatchObject([
      { verdict: 'changes_requested', current: false },
      { verdict: 'approved', current: true },
    ])
    expect((await merge(draft, Automerge.getHeads(next))).status).toBe(201)
    const { rows } = await test.sql.query(
      'select action from audit where workspace_id = $1 and object_id = $2 order by seq',
      [workspace, draft],
    )
    expect(rows.map(row => row.action)).toEqual([
      'draft.request_review',
      'draft.review',
      'draft.review',
      'draft.merge',
    ])
  })

  it('[DRAFT7] a review that comes several times at once is one', async () => {
    const { draft, heads } = await world()
    const review_id = newId()
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => review(draft, 'changes_requested', heads, ann, { review_id })),
    )
    expect(answers.map(answer => answer.status).sort()).toEqual([...Array(7).fill(200), 201])
    const read = await test.call('GET', at(draft), { as: cat })
    expect(read.body.reviews).toMatchObject([{ reviewer: { name: 'ann' } }])
  })

  it('[DRAFT8] nobody approves what they wrote in; viewers read and do nothing; strangers see nothing', async () => {
    const { draft, heads } = await world()
    expect((await review(draft, 'approved', heads, ben)).body.code).toBe('draft.own_review')
    expect((await review(draft, 'approved', heads, cat)).status).toBe(403)
    expect((await merge(draft, heads, {}, cat)).status).toBe(403)
    const dan = await test.person('dan')
    expect((await test.call('GET', at(draft), { as: dan })).body.code).toBe('draft.not_found')
    expect((await test.call('GET', at(newId()), { as: ann })).body.code).toBe('draft.not_found')
  })

  it('[DRAFT9] a merge makes the draft’s changes the pipeline’s, with their authors, and publishes them', async () => {
    const { pipeline, doc, draft, fork, heads, own } = await world()
    const version_id = newId()
    const merged = await merge(draft, heads, { version_id })
    expect(merged).toMatchObject({
      status: 201,
      body: {
        number: 2,
        parent: 1,
        message: 'seven',
        heads,
        published_by: { name: 'ann' },
        authors: [{ user_id: ben.id, name: 'ben' }],
      },
    })
    const version = await test.call('GET', `/v1/pipelines/${pipeline}/versions/2`, { as: ann })
    expect(version.body.definition).toEqual(pipelineFromDoc(fork))
    const { rows } = await test.sql.query(
      `select document_id, encode(hash, 'hex') as hash, author_id, device_id from changes
       where document_id = any ($1) and hash <> all ($2) order by seq`,
      [
        [pipeline, draft],
        Automerge.getAllChanges(doc).map(bytes => Buffer.from(Automerge.decodeChange(bytes).hash, 'hex')),
      ],
    )
    const hashes = own.map(bytes => Automerge.decodeChange(bytes).hash)
    for (const document_id of [draft, pipeline])
      expect(rows.filter(row => row.document_id === document_id)).toMatchObject(
        hashes.map(hash => ({ hash, author_id: ben.id, device_id: test.deviceOf(ben) })),
      )
    expect((await test.call('GET', at(draft), { as: ann })).body).toMatchObject({
      state: 'merged',
      version: 2,
      settled_by: { name: 'ann' },
    })
    // A lost answer is asked for again; anything else about a merged draft is refused.
    const again = await merge(draft, heads, { version_id })
    expect(again).toMatchObject({ status: 200, body: { version_id, number: 2 } })
    expect((await merge(draft, heads, { parent: 2 })).body.code).toBe('draft.settled')
    expect((await test.call('POST', at(`${draft}/close`), { as: ann, body: {} })).body.code).toBe(
      'draft.settled',
    )
    const late = setSql(Automerge.clone(fork), 'a', 'select 9 as x')
    expect(await push(ben, draft, pipeline, [Automerge.getLastLocalChange(late)!])).toMatchObject([
      { status: 'refused', code: 'invalid' },
    ])
    // And the pipeline goes on from there.
    const after = setSql(Automerge.merge(Automerge.clone(doc), fork), 'a', 'select 10 as x')
    expect(await push(ann, pipeline, null, [Automerge.getLastLocalChange(after)!])).toMatchObject([
      { status: 'stored' },
    ])
  })

  it('[DRAFT9] a merge that makes no version, its content being the current one’s, is answered again as it was', async () => {
    const { pipeline, doc, draft, heads } = await world(doc => doc)
    const version_id = newId()
    // Those that come at once are the same request too.
    const answers = await Promise.all(Array.from({ length: 4 }, () => merge(draft, heads, { version_id })))
    for (const answer of answers) expect(answer).toMatchObject({ status: 200, body: { number: 1 } })

    const next = setSql(Automerge.clone(doc), 'a', 'select 2 as x')
    await push(ann, pipeline, null, [Automerge.getLastLocalChange(next)!])
    const published = await test.call('POST', '/v1/pipelines', {
      as: ann,
      body: {
        workspace_id: workspace,
        pipeline_id: pipeline,
        version_id: newId(),
        heads: [...Automerge.getHeads(next), ...heads],
        parent: 1,
      },
    })
    expect(published).toMatchObject({ status: 201, body: { number: 2 } })
    const again = await merge(draft, heads, { version_id })
    expect(again).toMatchObject({ status: 200, body: answers[0]!.body })
    expect((await merge(draft, heads)).body.code).toBe('draft.settled')
    const { rows } = await test.sql.query(
      `select action from audit where workspace_id = $1 and object_id = $2`,
      [workspace, draft],
    )
    expect(rows).toEqual([{ action: 'draft.merge' }])
  })

  it('[DRAFT10] what others have edited in the pipeline and not published is no part of the merge', async () => {
    const { pipeline, doc, draft, heads } = await world()
    const edited = editPipeline(Automerge.clone(doc), 'edit', d => setDescription(d, 'half a sentence'))
    await push(ann, pipeline, null, [Automerge.getLastLocalChange(edited)!])
    expect((await merge(draft, heads)).status).toBe(201)
    const version = await test.call('GET', `/v1/pipelines/${pipeline}/versions/2`, { as: ann })
    expect(version.body.definition.description).toBe(pipelineFromDoc(doc).description)
  })

  it('[DRAFT10] onto a version from which changes were taken out, a merge builds on what is left of it', async () => {
    const { pipeline, doc, draft, heads, fork } = await world()
    const guilty = setSql(Automerge.clone(doc), 'a', 'select 70 as x')
    await push(ann, pipeline, null, [Automerge.getLastLocalChange(guilty)!])
    const published = { workspace_id: workspace, pipeline_id: pipeline, version_id: newId(), parent: 1 }
    await test.call('POST', '/v1/pipelines', {
      as: ann,
      body: { ...published, heads: Automerge.getHeads(guilty) },
    })
    await takenOut(test.database, {
      workspaceId: workspace,
      documentId: pipeline,
      hashes: Automerge.getHeads(guilty),
      erase: false,
    })
    const merged = await merge(draft, heads, { parent: 2 })
    expect(merged).toMatchObject({ status: 201, body: { number: 3, heads } })
    const version = await test.call('GET', `/v1/pipelines/${pipeline}/versions/3`, { as: ann })
    expect(version.body.definition).toEqual(pipelineFromDoc(fork))
  })

  it('[DRAFT6] a draft from which changes were taken out is listed as it is, reviewed and merged', async () => {
    const { pipeline, draft, fork, heads } = await world()
    const guilty = setSql(Automerge.clone(fork), 'a', 'select 8 as x')
    await push(ben, draft, pipeline, [Automerge.getLastLocalChange(guilty)!])
    await takenOut(test.database, {
      workspaceId: workspace,
      documentId: pipeline,
      hashes: Automerge.getHeads(guilty),
      erase: false,
    })
    const listed = await test.call('GET', `/v1/workspaces/${workspace}/drafts?pipeline_id=${pipeline}`, {
      as: cat,
    })
    expect(listed.body.drafts).toMatchObject([{ draft_id: draft, heads, changes: 2, state: 'open' }])
    expect((await review(draft, 'approved', heads, ann)).status).toBe(201)
    expect((await merge(draft, heads)).status).toBe(201)
  })

  it('[DRAFT11] a merge that meets a newer version, or heads that were not seen, changes nothing', async () => {
    const { pipeline, doc, draft, fork, heads } = await world()
    const other = setSql(Automerge.clone(doc), 'a', 'select 70 as x')
    await push(ann, pipeline, null, [Automerge.getLastLocalChange(other)!])
    await test.call('POST', '/v1/pipelines', {
      as: ann,
      body: {
        workspace_id: workspace,
        pipeline_id: pipeline,
        version_id: newId(),
        heads: Automerge.getHeads(other),
        parent: 1,
      },
    })
    const before = await test.sql.query('select count(*)::int as n from changes where document_id = $1', [
      pipeline,
    ])
    expect((await merge(draft, heads)).body).toMatchObject({
      code: 'version.parent_moved',
      details: { current: { number: 2 } },
    })
    const met = await merge(draft, heads, { parent: 2 })
    expect(met.body.code).toBe('version.unresolved_marks')
    const marks: { id: string }[] = met.body.details.marks
    expect(marks).toHaveLength(1)
    expect((await merge(draft, Automerge.getHeads(doc), { parent: 2 })).body.code).toBe('draft.moved')
    const after = await test.sql.query('select count(*)::int as n from changes where document_id = $1', [
      pipeline,
    ])
    expect(after.rows).toEqual(before.rows)

    // The draft takes in what met it, and somebody looks at the place.
    const taken = setSql(Automerge.merge(Automerge.clone(fork), other), 'a', 'select 77 as x')
    await push(ben, draft, pipeline, [Automerge.getLastLocalChange(taken)!])
    const resolved = marks.map(mark => mark.id)
    const merged = await merge(draft, Automerge.getHeads(taken), { parent: 2, resolved })
    expect(merged).toMatchObject({ status: 201, body: { number: 3, heads: Automerge.getHeads(taken) } })
  })

  it('[DRAFT12] a draft is closed once, and takes no more changes', async () => {
    const { pipeline, draft, fork, heads } = await world()
    const close = () => test.call('POST', at(`${draft}/close`), { as: ben, body: {} })
    expect((await close()).body).toMatchObject({ state: 'closed', settled_by: { name: 'ben' } })
    expect((await close()).status).toBe(200)
    expect((await merge(draft, heads)).body.code).toBe('draft.settled')
    expect((await review(draft, 'approved', heads, ann)).body.code).toBe('draft.settled')
    const late = Automerge.getLastLocalChange(setSql(fork, 'a', 'select 9 as x'))!
    expect(await push(ben, draft, pipeline, [late])).toMatchObject([{ status: 'refused', code: 'invalid' }])
  })

  it('[DRAFT13] of merges at once one makes the version', async () => {
    const { pipeline, draft, heads } = await world()
    const answers = await Promise.all([
      merge(draft, heads),
      merge(draft, heads),
      merge(draft, heads, {}, ben),
    ])
    expect(answers.map(answer => answer.status).filter(status => status === 201)).toHaveLength(1)
    for (const answer of answers.filter(one => one.status !== 201))
      expect(['draft.settled', 'version.parent_moved']).toContain(answer.body.code)
    const versions = await test.call('GET', `/v1/pipelines/${pipeline}/versions`, { as: ann })
    expect(versions.body.versions).toHaveLength(2)
  })

  describe('while it is settled', () => {
    const state = async (draft: string): Promise<string> =>
      (await test.call('GET', at(draft), { as: ann })).body.state
    const close = (draft: string) => test.call('POST', at(`${draft}/close`), { as: ben, body: {} })
    const later = (fork: Doc, sql: string): Uint8Array =>
      Automerge.getLastLocalChange(setSql(fork, 'a', sql))!

    /** Holds a row locked while `work` is under way; `waiting` resolves when so many statements wait. */
    async function held<T>(
      query: string,
      id: string,
      work: (waiting: (count: number) => Promise<void>) => Promise<T>,
    ): Promise<T> {
      const holder = new pg.Client({ connectionString: test.database.url })
      await holder.connect()
      try {
        await holder.query('begin')
        await holder.query(query, [id])
        return await work(count =>
          expect
            .poll(async () => {
              const { rows } = await test.sql.query(
                `select pid from pg_stat_activity
                 where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0`,
              )
              return rows.length
            })
            .toBe(count),
        )
      } finally {
        await holder.end()
      }
    }
    const ofLog = 'select seq from workspace_counters where workspace_id = $1 for update'
    const ofPipeline = 'select current from pipelines where id = $1 for update'

    it('[DRAFT11] a merge that the draft’s next change overtakes is refused, and can be asked again', async () => {
      const { pipeline, draft, fork, heads } = await world()
      const next = later(fork, 'select 8 as x')
      const merging = await held(ofPipeline, pipeline, async waiting => {
        const answer = merge(draft, heads)
        await waiting(1)
        expect(await push(ben, draft, pipeline, [next])).toMatchObject([{ status: 'stored' }])
        return { answer }
      })
      expect(await merging.answer).toMatchObject({ status: 409, body: { code: 'draft.moved' } })
      expect(await state(draft)).toBe('open')
      const now = [Automerge.decodeChange(next).hash]
      expect(await merge(draft, now)).toMatchObject({ status: 201, body: { number: 2, heads: now } })
      const { rows } = await test.sql.query(
        `select hash from changes where document_id = $1
         except select hash from changes where document_id = $2`,
        [draft, pipeline],
      )
      expect(rows).toEqual([])
    })

    it('[DRAFT7] a merge that an objection overtakes is refused', async () => {
      const { pipeline, draft, heads } = await world()
      const merging = await held(ofPipeline, pipeline, async waiting => {
        const answer = merge(draft, heads, {}, ben)
        await waiting(1)
        expect((await review(draft, 'changes_requested', heads, ann)).status).toBe(201)
        return { answer }
      })
      expect(await merging.answer).toMatchObject({ status: 409, body: { code: 'draft.changes_requested' } })
      expect(await state(draft)).toBe('open')
    })

    it('[DRAFT12] a change on its way when a draft is closed is stored before it is closed, or refused', async () => {
      const { pipeline, draft, fork } = await world()
      const done: string[] = []
      const first = await held(ofLog, workspace, async waiting => {
        const pushing = push(ben, draft, pipeline, [later(fork, 'select 8 as x')])
        await waiting(1)
        const closing = close(draft).then(answer => {
          done.push('closed')
          return answer
        })
        await Promise.race([closing, waiting(2)])
        done.push('the log is free')
        return { pushing, closing }
      })
      expect(await first.pushing).toMatchObject([{ status: 'stored' }])
      expect((await first.closing).body).toMatchObject({ state: 'closed' })
      expect(done).toEqual(['the log is free', 'closed'])
    })

    it('[DRAFT12] a change that was found right and comes after the closing is refused', async () => {
      const { pipeline, draft, fork } = await world()
      const second = await held(ofLog, workspace, async waiting => {
        const closing = close(draft)
        await waiting(1)
        const pushing = push(ben, draft, pipeline, [later(fork, 'select 8 as x')])
        await waiting(2)
        return { pushing, closing }
      })
      expect((await second.closing).body).toMatchObject({ state: 'closed' })
      expect(await second.pushing).toMatchObject([{ status: 'refused', code: 'invalid' }])
    })
  })
})
