import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { json, pluto } from './harness/command-line.ts'
import {
  acceptInto,
  type Device,
  Folders,
  inSync,
  type ServerProcess,
  signUp,
  startDevice,
  startServerProcess,
  until,
} from './harness/world.ts'

// Drafts and versions as people use them: two devices, one server, the command line on both.

const folders = new Folders()
const files = mkdtempSync(join(tmpdir(), 'pluto-draft-files-'))
let database: TestDatabase
let server: ServerProcess
let ada: Device
let grace: Device

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
  'revenue.sql': 'select\n  sum(amount) as total\nfrom orders\n',
  'report.md': '# Weekly\n',
}

/** Edits a file of a draft as a person does: export, change, import. */
const edit = async (device: Device, draft: string, file: string, change: (text: string) => string) => {
  const folder = join(files, draft)
  expect((await pluto(device, 'export', draft, folder)).exit).toBe(0)
  writeFileSync(join(folder, file), change(readFileSync(join(folder, file), 'utf8')))
  expect(await pluto(device, 'import', folder, '--draft', draft)).toMatchObject({ exit: 0 })
}

beforeAll(async () => {
  database = await testDatabase()
  server = await startServerProcess({ dataDir: folders.make('drafts-server'), databaseUrl: database.url })
  const [one, two] = [await signUp(server.url, 'Ada'), await signUp(server.url, 'Grace')]
  ada = await startDevice({ home: folders.make('ada'), server: server.url, person: one })
  await ada.session.value('workspace.create', { workspace_id: newId(), name: 'Sales' })
  await ada.session.value('pipeline.import', { files: FILES })
  await inSync(ada)
  expect(await pluto(ada, 'publish', 'weekly', '-m', 'first')).toMatchObject({ exit: 0 })
  await acceptInto(ada, server.url, two, 'editor')
  grace = await startDevice({ home: folders.make('grace'), server: server.url, person: two })
  await until('Grace has the pipeline', async () => {
    const { pipelines } = await grace.session.value('pipeline.list', {})
    return pipelines.some(entry => entry.name === 'weekly')
  })
})
afterAll(async () => {
  await ada?.stop()
  await grace?.stop()
  await server?.stop()
  await database?.drop()
  folders.remove()
  rmSync(files, { recursive: true, force: true })
})

describe('drafts on the command line', () => {
  it('[DRAFT7][DRAFT9][HIST1][HIST2] fork, edit, review, comment on a line, request changes, approve, merge', async () => {
    const { draft_id: draft } = await json(grace, 'draft', 'new', 'weekly', '--title', 'count too')
    await edit(grace, draft, 'revenue.sql', text => text.replace('sum(amount) as total', 'count(*) as n'))
    await inSync(grace)
    expect(await pluto(grace, 'draft', 'request-review', draft, '-m', 'a count is enough')).toMatchObject({
      exit: 0,
    })

    await inSync(ada)
    expect((await pluto(ada, 'draft', 'list')).out).toContain('count too')
    const diff = await pluto(ada, 'draft', 'diff', 'count too')
    expect(diff.out).toContain('-   sum(amount) as total')
    expect(diff.out).toContain('+   count(*) as n')
    expect(
      await pluto(ada, 'draft', 'comment', draft, 'keep the sum', '--step', 'revenue', '--line', '2'),
    ).toMatchObject({ exit: 0 })
    expect(await pluto(ada, 'draft', 'request-changes', draft, '-m', 'keep the sum')).toMatchObject({
      exit: 0,
    })
    await inSync(ada)
    await inSync(grace)
    const commented = await pluto(grace, 'blame', draft, 'revenue')
    expect(commented.out).toMatch(/Ada +comment +\^ keep the sum\n.*from orders/)
    const shown = await pluto(grace, 'draft', 'show', draft)
    expect(shown.out).toContain('changes requested')
    expect(shown.out).toContain('on revenue, line 2\n    Ada: keep the sum')
    const refused = await pluto(grace, 'draft', 'merge', draft)
    expect(refused).toMatchObject({ exit: 8 })
    expect(refused.err).toContain('Ada asked for changes')
    expect((await pluto(grace, 'draft', 'approve', draft)).exit).toBe(6)

    await edit(grace, draft, 'revenue.sql', text =>
      text.replace('count(*) as n', 'sum(amount) as total, count(*) as n'),
    )
    await inSync(grace)
    await inSync(ada)
    expect(await pluto(ada, 'draft', 'approve', draft)).toMatchObject({ exit: 0 })
    const merged = await pluto(grace, 'draft', 'merge', draft)
    expect(merged).toMatchObject({ exit: 0, out: 'Merged and published as v2.' })
    expect((await json(grace, 'draft', 'show', draft)).state).toBe('merged')

    await inSync(ada)
    const history = await json(ada, 'history', 'weekly')
    expect(
      history.map((version: { number: number; message: string }) => [version.number, version.message]),
    ).toEqual([
      [2, 'count too'],
      [1, 'first'],
    ])
    expect((await pluto(ada, 'diff', 'weekly', 'v1', 'v2')).out).toContain('count(*) as n')
    const { texts } = await json(ada, 'blame', 'weekly', 'revenue')
    const lines: { text: string; version: number; author: { name: string }; message: string }[] =
      texts[0].lines
    expect(lines.map(line => [line.text, line.version, line.author.name, line.message])).toEqual([
      ['select', 1, 'Ada', 'first'],
      ['  sum(amount) as total, count(*) as n', 2, 'Grace', 'count too'],
      ['from orders', 1, 'Ada', 'first'],
    ])
    expect((await pluto(grace, 'blame', 'weekly', 'revenue', '--version', '1')).out).not.toContain('Grace')
  })

  it('[DRAFT11] a draft that met the pipeline is merged once somebody looked', async () => {
    const { draft_id: draft } = await json(grace, 'draft', 'new', 'weekly', '--title', 'thirty')
    await edit(grace, draft, 'orders.sql', text => text.replace('20', '30'))
    await inSync(grace)
    await edit(ada, (await json(ada, 'list'))[0].pipeline_id, 'orders.sql', text => text.replace('20', '40'))
    await inSync(ada)
    expect(await pluto(ada, 'publish', 'weekly', '-m', 'forty')).toMatchObject({ exit: 0 })
    await inSync(grace)
    const met = await pluto(grace, 'draft', 'merge', draft)
    expect(met).toMatchObject({ exit: 8 })
    expect(met.err).toContain('orders: SQL')
    expect(await pluto(grace, 'draft', 'take-in', draft)).toMatchObject({ exit: 0 })
    await edit(grace, draft, 'orders.sql', () => 'select 1 as id, 35 as amount\n')
    await inSync(grace)
    expect(await pluto(grace, 'draft', 'merge', draft, '--resolve')).toMatchObject({
      exit: 0,
      out: 'Merged and published as v4.',
    })
    await inSync(ada)
    const { files: now } = await ada.session.value('pipeline.export', {
      pipeline_id: (await json(ada, 'list'))[0].pipeline_id,
    })
    expect(now['orders.sql']).toBe('select 1 as id, 35 as amount\n')
  })

  it('[DRAFT12] a draft is closed; what is typed into it then is a local draft, which becomes a draft again', async () => {
    const { draft_id: draft } = await json(grace, 'draft', 'new', 'weekly', '--title', 'never mind')
    await inSync(grace)
    expect(await pluto(ada, 'draft', 'close', draft)).toMatchObject({ exit: 0 })
    await edit(grace, draft, 'report.md', () => '# Weekly, after all\n')
    await inSync(grace)
    const [local] = await json(grace, 'local-draft', 'list')
    expect(local).toMatchObject({ document_id: draft, code: 'invalid' })
    expect((await pluto(grace, 'local-draft', 'diff', local.draft_id)).out).toContain('+ # Weekly, after all')
    const sent = await json(grace, 'local-draft', 'send', local.draft_id, '--title', 'after all')
    await inSync(grace)
    expect(await json(grace, 'local-draft', 'list')).toEqual([])
    await inSync(ada)
    expect((await pluto(ada, 'draft', 'diff', sent.draft_id)).out).toContain('+ # Weekly, after all')
    expect(await pluto(ada, 'draft', 'approve', sent.draft_id)).toMatchObject({ exit: 0 })
  })

  it('[PUB12] a restore replaces unpublished changes only when it is told to', async () => {
    const [{ pipeline_id, current_version }] = await json(ada, 'list')
    const report = async () =>
      (await ada.session.value('pipeline.export', { pipeline_id })).files['report.md'] as string
    await edit(grace, pipeline_id, 'report.md', () => '# Not published\n')
    await inSync(grace)
    await inSync(ada)
    const refused = await pluto(ada, 'restore', 'weekly', 'v1')
    expect(refused).toMatchObject({ exit: 8, out: '' })
    expect(refused.err).toContain('1 unpublished change would be replaced')
    expect(refused.err).toContain('or say --yes')
    expect(JSON.parse((await pluto(ada, 'restore', 'weekly', 'v1', '--json')).out)).toEqual({
      state: 'unpublished',
      changes: 1,
    })
    expect(await report()).toBe('# Not published\n')
    expect(await pluto(ada, 'restore', 'weekly', 'v1', '--yes')).toMatchObject({
      exit: 0,
      out: `Published v${current_version + 1}.`,
    })
    expect(await report()).toBe('# Weekly\n')
    // Nothing is unpublished now: nothing to ask about.
    expect(await pluto(ada, 'restore', 'weekly', `v${current_version}`)).toMatchObject({ exit: 0 })
  })

  it('says what is wrong', async () => {
    expect(await pluto(ada, 'draft', 'show', 'nothing')).toMatchObject({ exit: 9 })
    expect(await pluto(ada, 'draft', 'diff', newId())).toMatchObject({ exit: 9 })
    expect((await pluto(ada, 'draft', 'new', 'weekly')).exit).toBe(2)
  })
})
