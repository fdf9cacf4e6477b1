import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  addThread,
  type CommentsDoc,
  editComments,
  editMessage,
  editPipeline,
  makeAnchor,
  type PipelineDoc,
  readComments,
  updateStepSql,
} from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { available, missing, type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AppPage } from './harness/app.ts'
import { json, pluto } from './harness/command-line.ts'
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

const chromium = available('chromium')
if (!chromium) process.stderr.write(`skipped: ${missing('chromium')}\n`)

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

  it('[HOSTDOC22] reads, compares and exports a comment of hers that was refused', async () => {
    const { document_id } = await ann.session.value('pipeline.comments', { kind: 'pipeline', id: pipeline })
    const doc = await readDocument<PipelineDoc>(ann, pipeline)
    const anns = await DocumentView.open<CommentsDoc>(ann, document_id)
    await anns.edit(comments =>
      editComments(comments, 'comment', d => {
        addThread(d, { anchor: makeAnchor(doc, stepId, 7, 18), body: 'Is it gross?' })
      }),
    )
    const asked = await until('the viewer reads it', async () => {
      const { threads } = readComments(await readDocument<CommentsDoc>(vic, document_id))
      return threads.find(thread => thread.messages[0]?.body === 'Is it gross?') ?? null
    })
    // Somebody else's words, and on top of that words of her own: the server takes neither.
    const view = await DocumentView.open<CommentsDoc>(vic, document_id)
    await view.edit(comments =>
      editComments(comments, 'meddle', d => {
        editMessage(d, asked.thread_id, asked.messages[0]?.message_id as string, 'It is net.')
        addThread(d, { anchor: { kind: 'subject' }, body: 'And since when?' })
      }),
    )
    const draft = await until('the comments are a local draft', async () => {
      const { drafts } = await vic.session.value('local_draft.list', {})
      return drafts.find(entry => entry.document_id === document_id) ?? null
    })
    expect(draft).toMatchObject({ kind: 'comments', title: 'Comments on weekly', code: 'permission' })

    const { files } = await vic.session.value('local_draft.export', { draft_id: draft.draft_id })
    expect(Object.keys(files)).toEqual(['comments.md'])
    const text = files['comments.md'] as string
    const at = '\\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d UTC'
    expect(text).toMatch(/^# Comments on weekly\n\n## on revenue, line 1\n\n> select\n/)
    expect(text).toMatch(new RegExp(`\\*\\*Vic\\*\\*, ${at}\n\nWhy only one week\\?`))
    expect(text).toMatch(
      new RegExp(
        `> sum\\(amount\\)\n\n\\*\\*Ann\\*\\*, ${at}, changed here, not on the server\n\nIt is net\\.`,
      ),
    )
    expect(text).toMatch(
      new RegExp(`## on the whole\n\n\\*\\*You\\*\\*, ${at}, not on the server\n\nAnd since when\\?`),
    )

    const { files: compared } = await vic.session.value('local_draft.compare', { draft_id: draft.draft_id })
    expect(compared).toMatchObject([{ path: 'comments.md', status: 'changed' }])
    const shown = await pluto(vic, 'local-draft', 'diff', draft.draft_id)
    expect(shown.out).toContain('- Is it gross?')
    expect(shown.out).toContain('+ It is net.')
    expect(shown.out).toContain('+ And since when?')
    const folder = folders.make('comments')
    expect(await pluto(vic, 'local-draft', 'export', draft.draft_id, folder)).toMatchObject({ exit: 0 })
    expect(readFileSync(join(folder, 'comments.md'), 'utf8')).toBe(text)
    expect((await pluto(vic, 'status')).out).toContain('Comments on weekly: an edit was refused')

    const applied = await pluto(vic, 'local-draft', 'apply', draft.draft_id)
    expect(applied.err).toContain(`pluto local-draft diff ${draft.draft_id}`)
    expect(applied.exit).toBe(2)
  })

  it.skipIf(!chromium)('[UI18] sees its text in the app, and can copy it', async () => {
    const app = await AppPage.open(vic.url)
    try {
      await app.page.evaluate(`location.hash = '#/drafts'`)
      await app.at('draft-item').filter({ hasText: 'Comments on weekly' }).click()
      await app.at('draft-copy').waitFor()
      const shown = app.at('draft-diff')
      for (const text of ['Is it gross?', 'It is net.', 'And since when?'])
        await shown.getByText(text).first().waitFor()
      expect(await app.at('draft-apply').count()).toBe(0)
      expect(await app.axe()).toEqual([])
      expect(app.errors).toEqual([])
    } finally {
      await app.close()
    }
  })

  it('keeps her drafts through a restart, and can throw them away', async () => {
    await vic.kill()
    vic = await startDevice({ home: vic.home, server: server.url, person: vicPerson })
    const { drafts } = await vic.session.value('local_draft.list', {})
    expect(drafts.map(draft => draft.kind).toSorted()).toEqual(['comments', 'pipeline'])
    for (const { draft_id } of drafts) await vic.session.value('local_draft.discard', { draft_id })
    const state = await until('nothing needs her any more', async () => {
      const now = await vic.session.value('sync.now', {})
      if (now.state !== 'in_sync') throw new Error(JSON.stringify(now))
      return now
    })
    expect(state.needs).toEqual([])
  })

  it.skipIf(!chromium)(
    '[UI21][MEM3] becomes an editor and a viewer again while her window is open, once without hearing of it at the time',
    async () => {
      const become = (role: 'editor' | 'viewer') =>
        ann.session.value('workspace.set_role', { user_id: vicPerson.userId, role })
      const app = await AppPage.open(vic.url)
      try {
        await app.openPipeline()
        const why = app.at('read-only-why')
        expect(await why.innerText()).toContain('You are a viewer')
        const offered = () =>
          Promise.all(['publish-button', 'add-step'].map(name => app.at(name).isEnabled()))
        expect(await offered()).toEqual([false, false])

        await become('editor')
        await why.waitFor({ state: 'detached' })
        await app.page.getByText('You are an editor of this workspace now').waitFor()
        expect(await offered()).toEqual([true, true])
        await app.type('end', '\n-- by an editor')
        await app.stored()
        await until('the owner has the edit', async () => {
          const { files } = await ann.session.value('pipeline.export', { pipeline_id: pipeline })
          return Object.values(files).some(text => text.includes('-- by an editor'))
        })

        await vic.session.value('sync.pause', { paused: true })
        await become('viewer')
        expect(await offered()).toEqual([true, true])
        await vic.session.value('sync.pause', { paused: false })
        await why.waitFor()
        expect(await offered()).toEqual([false, false])
        expect(await app.axe()).toEqual([])
        await app.page.evaluate(`location.hash = '#/'`)
        expect(await app.at('viewer-why').innerText()).toContain('Ask an owner')
        expect(await app.at('create-pipeline').count()).toBe(0)
        expect(app.errors).toEqual([])
      } finally {
        await app.close()
      }
    },
  )

  it.skipIf(!chromium)(
    '[PUB13][UI22] puts aside what she published as an editor and may not any more, in the app and on the command line',
    async () => {
      const become = (role: 'editor' | 'viewer') =>
        ann.session.value('workspace.set_role', { user_id: vicPerson.userId, role })
      const needs = async () =>
        (await vic.session.value('sync.state', {})).needs.flatMap(need =>
          need.kind === 'publish' ? [need.pipeline] : [],
        )
      await become('editor')
      await until('she is an editor', async () => {
        const { workspaces } = await vic.session.value('workspace.list', {})
        return workspaces.some(({ selected, role }) => selected && role === 'editor')
      })
      const yaml = FILES['pipeline.yaml'].replace('weekly', 'monthly')
      const made = await vic.session.value('pipeline.import', { files: { ...FILES, 'pipeline.yaml': yaml } })
      if (made.state !== 'imported') throw new Error(JSON.stringify(made))
      await inSync(vic)
      await vic.session.value('sync.pause', { paused: true })
      for (const pipeline_id of [pipeline, made.pipeline.pipeline_id])
        expect(await vic.session.value('version.publish', { pipeline_id })).toEqual({ state: 'queued' })
      await become('viewer')
      await vic.session.value('sync.pause', { paused: false })
      await until('both wait for her', async () => (await needs()).length === 2)
      expect((await pluto(vic, 'status')).out).toContain('pluto publish weekly')

      const said = await pluto(vic, 'publish', 'monthly', '--dismiss')
      expect([said.exit, said.out]).toEqual([
        0,
        'Put aside: the publish of monthly is not sent, and your work stays as it is.',
      ])
      expect(await json(vic, 'publish', 'monthly', '--dismiss')).toEqual({ dismissed: false })
      expect((await pluto(vic, 'publish', 'monthly', '--dismiss', '-m', 'why')).exit).not.toBe(0)
      expect(await needs()).toEqual(['weekly'])

      const app = await AppPage.open(vic.url)
      try {
        await app.page.evaluate(`location.hash = '#/p/${pipeline}/history'`)
        expect(await app.at('publish-waits').innerText()).toContain('the server refused it')
        expect(await app.axe()).toEqual([])
        await app.at('publish-dismiss').click()
        await app.at('publish-waits').waitFor({ state: 'detached' })
        expect(app.errors).toEqual([])
      } finally {
        await app.close()
      }
      expect(await needs()).toEqual([])
      expect(await tables.query('select id from versions')).toEqual([])
    },
  )
})
