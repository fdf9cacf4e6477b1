import {
  addThread,
  type CommentsDoc,
  editComments,
  editPipeline,
  makeAnchor,
  type PipelineDoc,
  readComments,
  updateStepSql,
} from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DocumentView, readDocument } from './harness/documents.ts'
import { Tables } from './harness/tables.ts'
import {
  acceptInto,
  type Device,
  Folders,
  inSync,
  type Person,
  type ServerProcess,
  signUp,
  startDevice,
  startServerProcess,
  until,
} from './harness/world.ts'

// A7: three devices of an owner, an editor and a viewer on one server.

const folders = new Folders()
let database: TestDatabase
let tables: Tables
let server: ServerProcess
let ann: Device
let vic: Device
let pipeline: string
let stepId: string
let vicPerson: Person

const FILES = {
  'pipeline.yaml': [
    'schema_version: 1',
    'name: weekly',
    'steps:',
    '  - name: orders',
    '  - name: revenue',
    '',
  ].join('\n'),
  'orders.sql': 'select 1 as id, 20 as amount\n',
  'revenue.sql': 'select sum(amount) as total from orders\n',
  'report.md': '# Weekly\n',
}

beforeAll(async () => {
  database = await testDatabase()
  tables = new Tables(database.url)
  server = await startServerProcess({ dataDir: folders.make('viewer-server'), databaseUrl: database.url })
  const annPerson = await signUp(server.url, 'Ann')
  vicPerson = await signUp(server.url, 'Vic')
  const device = (person: Person) =>
    startDevice({ home: folders.make(person.name.toLowerCase()), server: server.url, person })
  ann = await device(annPerson)
  await ann.session.value('workspace.create', { workspace_id: newId(), name: 'Sales' })
  const imported = await ann.session.value('pipeline.import', { files: FILES })
  if (imported.state !== 'imported') throw new Error(JSON.stringify(imported))
  pipeline = imported.pipeline.pipeline_id
  await inSync(ann)
  await acceptInto(ann, server.url, vicPerson, 'viewer')
  vic = await device(vicPerson)
  await until('the viewer has the pipeline', async () => {
    const { pipelines } = await vic.session.value('pipeline.list', {})
    return pipelines.some(entry => entry.pipeline_id === pipeline)
  })
  const doc = await readDocument<PipelineDoc>(vic, pipeline)
  stepId = Object.entries(doc.steps).find(([, step]) => String(step.name) === 'revenue')?.[0] as string
})
afterAll(async () => {
  await ann?.stop()
  await vic?.stop()
  await server?.stop()
  await tables?.close()
  await database?.drop()
  folders.remove()
})

describe('a viewer', () => {
  it('is told that the pipeline is for reading only', async () => {
    const view = await DocumentView.open<PipelineDoc>(vic, pipeline)
    expect(view.readOnly).toBe(true)
    expect(view.readOnlyReason).toContain('viewer')
  })

  it('gets her edit refused, with the reason, and keeps it as a private draft that she can see, compare and export', async () => {
    const logBefore = await tables.query('select count(*)::int as n from changes')
    const before = await ann.session.value('pipeline.export', { pipeline_id: pipeline })
    const view = await DocumentView.open<PipelineDoc>(vic, pipeline)
    await view.edit(doc =>
      editPipeline(doc, 'vic', d =>
        updateStepSql(d, stepId, 'select sum(amount) * 2 as total from orders\n'),
      ),
    )
    const draft = await until('the edit is a local draft', async () => {
      const { drafts } = await vic.session.value('local_draft.list', {})
      return drafts.find(entry => entry.document_id === pipeline) ?? null
    })
    expect(draft).toMatchObject({ code: 'permission', title: 'weekly', changes: 1 })
    expect(draft.reason).not.toBe('')

    const state = await vic.session.value('sync.now', {})
    expect(state).toMatchObject({ state: 'needs_you', waiting: 0 })
    expect(state.needs).toContainEqual(
      expect.objectContaining({ kind: 'refused', draft_id: draft.draft_id, document_id: pipeline }),
    )

    const exported = await vic.session.value('local_draft.export', { draft_id: draft.draft_id })
    expect(exported.files['revenue.sql']).toContain('sum(amount) * 2')
    const compared = await vic.session.value('local_draft.compare', { draft_id: draft.draft_id })
    expect(compared.files.map(file => file.path)).toEqual(['revenue.sql'])

    // Her pipeline is what the server has; nobody else has seen the edit, and the log holds nothing of it.
    const hers = await vic.session.value('pipeline.export', { pipeline_id: pipeline })
    expect(hers).toEqual(before)
    await inSync(ann)
    expect(await ann.session.value('pipeline.export', { pipeline_id: pipeline })).toEqual(before)
    expect(await ann.session.value('local_draft.list', {})).toEqual({ drafts: [] })
    expect(await tables.query('select count(*)::int as n from changes')).toEqual(logBefore)
  })

  it('may not publish, run for the record or make a schedule: each is a typed refusal', async () => {
    const publish = await vic.session.value('version.publish', { pipeline_id: pipeline })
    expect(publish).toMatchObject({ state: 'refused', error: { code: 'auth.forbidden' } })
    const scheduled = await vic.session.call('schedule.create', {
      pipeline_id: pipeline,
      schedule_id: newId(),
      cron: '0 3 * * *',
      timezone: 'UTC',
    })
    expect(scheduled).toMatchObject({ ok: false, error: { code: 'auth.forbidden' } })
    const run = await vic.session.call('run.start', { pipeline_id: pipeline, run_id: newId() })
    // Somebody else's pipeline asks first, whatever the role; what she then runs stays on her machine.
    expect(run).toMatchObject({ ok: false, error: { code: 'grant.required' } })
    expect(
      await tables.query('select id from runs union select id from schedules union select id from versions'),
    ).toEqual([])
  })

  it('comments on a step, and the owner reads it there, under her name', async () => {
    const { document_id } = await vic.session.value('pipeline.comments', { kind: 'pipeline', id: pipeline })
    const doc = await readDocument<PipelineDoc>(vic, pipeline)
    const view = await DocumentView.open<CommentsDoc>(vic, document_id)
    expect(view.readOnly).toBe(false)
    const hash = await view.edit(comments =>
      editComments(comments, 'comment', d => {
        addThread(d, { anchor: makeAnchor(doc, stepId, 0, 6), body: 'Why only one week?' })
      }),
    )
    const seen = await until('the owner reads the comment', async () => {
      const about = await ann.session.value('pipeline.comments', { kind: 'pipeline', id: pipeline })
      expect(about.document_id).toBe(document_id)
      const { threads } = readComments(await readDocument<CommentsDoc>(ann, document_id))
      return threads[0] ?? null
    })
    expect(seen.messages[0]?.body).toBe('Why only one week?')
    expect(seen.anchor).toMatchObject({ kind: 'step', step_id: stepId, quote: 'select' })
    const { authors } = await ann.session.value('document.authors', { document_id, hashes: [String(hash)] })
    expect(authors).toEqual({ [String(hash)]: { user_id: vicPerson.userId, name: 'Vic' } })
    const { drafts } = await vic.session.value('local_draft.list', {})
    expect(drafts.map(draft => draft.document_id)).not.toContain(document_id)
  })

  it('keeps her draft through a restart, and can throw it away', async () => {
    await vic.kill()
    vic = await startDevice({ home: vic.home, server: server.url, person: vicPerson })
    const { drafts } = await vic.session.value('local_draft.list', {})
    expect(drafts).toHaveLength(1)
    await vic.session.value('local_draft.discard', { draft_id: drafts[0]?.draft_id as string })
    const state = await until('nothing needs her any more', async () => {
      const now = await vic.session.value('sync.now', {})
      if (now.state !== 'in_sync') throw new Error(JSON.stringify(now))
      return now
    })
    expect(state.needs).toEqual([])
  })
})
