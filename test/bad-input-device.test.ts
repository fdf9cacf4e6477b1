import { randomUUID } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join } from 'node:path'
import { CODES, type ErrorCode, EXIT } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { forgeryWorld } from '@pluto-duck/sync-server/forgeries'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { newWorkspace, type Published, publishedPipeline, push, pushBody } from './harness/calls.ts'
import { DocumentView } from './harness/documents.ts'
import { runProgram } from './harness/processes.ts'
import { Tables } from './harness/tables.ts'
import {
  type Device,
  Folders,
  type Person,
  type ServerProcess,
  signUp,
  startDevice,
  startServerProcess,
  until,
} from './harness/world.ts'

// A9 over the bridge, the command line and files: a typed error each, and neither the device nor the server changes.

const folders = new Folders()
let database: TestDatabase
let tables: Tables
let server: ServerProcess
let ann: Person
let device: Device
let workspace: string
let pipeline: string
let foreignWorkspace: string
let foreign: Published

const FILES: Record<string, string> = {
  'pipeline.yaml': 'schema_version: 1\nname: weekly\nsteps:\n  - name: orders\n',
  'orders.sql': 'select 1 as x\n',
  'report.md': '# Weekly\n',
}

beforeAll(async () => {
  database = await testDatabase()
  tables = new Tables(database.url)
  server = await startServerProcess({ dataDir: folders.make('bad-server'), databaseUrl: database.url })
  ann = await signUp(server.url, 'Ann')
  const eve = await signUp(server.url, 'Eve')
  foreignWorkspace = await newWorkspace(server.url, eve)
  foreign = await publishedPipeline(server.url, foreignWorkspace, eve, newId())
  device = await startDevice({ home: folders.make('bad-home'), server: server.url, person: ann })
  workspace = newId()
  await device.session.value('workspace.create', { workspace_id: workspace, name: 'Sales' })
  const imported = await device.session.value('pipeline.import', { files: FILES })
  if (imported.state !== 'imported') throw new Error(JSON.stringify(imported))
  pipeline = imported.pipeline.pipeline_id
  await until('the pipeline is on the server', async () => {
    const state = await device.session.value('sync.now', {})
    return state.state === 'in_sync' && state.waiting === 0
  })
})
afterAll(async () => {
  await device?.stop()
  await server?.stop()
  await tables?.close()
  await database?.drop()
  folders.remove()
})

/** What the device holds, by all that it tells, and what the server's tables hold. */
const everything = async () => {
  const { value } = device.session
  return {
    documents: await value('document.list', {}),
    pipelines: await value('pipeline.list', {}),
    files: await value('pipeline.export', { pipeline_id: pipeline }),
    drafts: await value('local_draft.list', {}),
    grants: await value('grant.list', {}),
    runs: await value('run.list', {}),
    ledger: await value('ledger.list', {}),
    workspaces: await value('workspace.list', {}),
    needs: (await value('sync.state', {})).needs,
    server: await tables.kept(),
  }
}

interface Given {
  readonly method?: string
  readonly token?: string | null
  readonly type?: string
  readonly headers?: Record<string, string>
}
interface Answer {
  readonly status: number
  // biome-ignore lint/suspicious/noExplicitAny: the body of any method; tests look into it
  readonly body: any
}

/** One request to the host, as any program on this machine could send it: also with a Host header that fetch would not send. */
const send = (path: string, body: string | Buffer | null, given: Given = {}): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const address = new URL(device.url)
    const token = given.token === undefined ? address.searchParams.get('token') : given.token
    const sent = request(
      {
        host: '127.0.0.1',
        port: address.port,
        path,
        method: given.method ?? 'POST',
        headers: {
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
          ...(body === null
            ? {}
            : {
                'content-type': given.type ?? 'application/json',
                'content-length': Buffer.byteLength(body),
              }),
          ...given.headers,
        },
      },
      response => {
        const parts: Buffer[] = []
        response.on('data', part => parts.push(part))
        response.on('end', () => {
          const text = Buffer.concat(parts).toString('utf8')
          resolve({
            status: response.statusCode ?? 0,
            body: response.headers['content-type']?.includes('json') ? JSON.parse(text) : text,
          })
        })
      },
    )
    sent.on('error', reject)
    sent.end(body ?? undefined)
  })
const ask = (method: string, input: unknown, given: Given = {}) =>
  send(`/api/call/${method}`, JSON.stringify(input), given)

type Case = readonly [name: string, code: ErrorCode, send: () => Promise<Answer>]

const door: readonly Case[] = [
  ['no token', 'host.token', () => ask('app.info', {}, { token: null })],
  ['a wrong token', 'host.token', () => ask('app.info', {}, { token: 'x'.repeat(43) })],
  [
    'a wrong token in the address',
    'host.token',
    () => send('/?token=nope', null, { method: 'GET', token: null }),
  ],
  ['events without a token', 'host.token', () => send('/api/events', null, { method: 'GET', token: null })],
  [
    'a name that was rebound to this machine',
    'auth.forbidden',
    () => ask('app.info', {}, { headers: { host: 'evil.example' } }),
  ],
  [
    'a page of another site',
    'auth.forbidden',
    () => ask('app.info', {}, { headers: { origin: 'https://evil.example' } }),
  ],
  ['an address that there is not', 'request.not_found', () => send('/api/nothing', '{}')],
  ['a path that climbs', 'request.not_found', () => send('/..%2f..%2fstate.duckdb', null, { method: 'GET' })],
  ['a call by GET', 'request.not_found', () => send('/api/call/app.info', null, { method: 'GET' })],
  ['a method that there is not', 'request.not_found', () => ask('pipeline.drop', {})],
  ['a method named __proto__', 'request.not_found', () => ask('__proto__', {})],
  ['a method named constructor', 'request.not_found', () => ask('constructor', {})],
  ['malformed JSON', 'request.invalid', () => send('/api/call/app.info', '{"a":')],
  [
    'a form',
    'request.unsupported_media_type',
    () => send('/api/call/app.info', 'a=b', { type: 'text/plain' }),
  ],
  [
    'a body of 65 MB',
    'request.too_large',
    () => send('/api/call/pipeline.import', Buffer.alloc(65 * 1024 * 1024, 32)),
  ],
]

const unknown = newId()
const calls: readonly Case[] = [
  ['an input that is a list', 'request.invalid', () => ask('pipeline.export', [])],
  ['an unknown field', 'request.invalid', () => ask('pipeline.list', { all: true })],
  ['an id of version 4', 'request.invalid', () => ask('pipeline.export', { pipeline_id: randomUUID() })],
  [
    'an unknown pipeline, exported',
    'pipeline.not_found',
    () => ask('pipeline.export', { pipeline_id: unknown }),
  ],
  [
    'an unknown pipeline, compiled',
    'pipeline.not_found',
    () => ask('pipeline.compile', { pipeline_id: unknown }),
  ],
  [
    'an unknown pipeline, planned',
    'pipeline.not_found',
    () => ask('pipeline.plan', { pipeline_id: unknown }),
  ],
  [
    'an unknown pipeline, run',
    'pipeline.not_found',
    () => ask('run.start', { pipeline_id: unknown, run_id: newId() }),
  ],
  [
    'an unknown pipeline, published',
    'document.not_found',
    () => ask('version.publish', { pipeline_id: unknown }),
  ],
  [
    'an unknown pipeline, compared',
    'document.not_found',
    () =>
      ask('version.compare', {
        pipeline_id: unknown,
        before: { kind: 'working' },
        after: { kind: 'working' },
      }),
  ],
  [
    "another workspace's pipeline",
    'pipeline.not_found',
    () => ask('pipeline.export', { pipeline_id: foreign.id }),
  ],
  [
    "another workspace's pipeline, run at a version",
    'pipeline.not_found',
    () => ask('run.start', { pipeline_id: foreign.id, run_id: newId(), version: 1 }),
  ],
  [
    "another workspace's document",
    'document.not_found',
    () => ask('document.open', { document_id: foreign.id }),
  ],
  [
    "another's workspace, opened",
    'workspace.not_found',
    () => ask('workspace.select', { workspace_id: foreignWorkspace }),
  ],
  [
    "another's workspace id, taken",
    'request.id_taken',
    () => ask('workspace.create', { workspace_id: foreignWorkspace, name: 'Mine' }),
  ],
  [
    'a pipeline name that climbs',
    'request.invalid',
    () => ask('pipeline.create', { pipeline_id: newId(), name: '../../etc' }),
  ],
  [
    'a pipeline name that is taken',
    'request.invalid',
    () => ask('pipeline.create', { pipeline_id: newId(), name: 'weekly' }),
  ],
  [
    'a step that there is not',
    'compile.failed',
    () => ask('pipeline.preview', { pipeline_id: pipeline, step_id: 'nothing' }),
  ],
  [
    'a preview of a billion rows',
    'request.invalid',
    () => ask('pipeline.preview', { pipeline_id: pipeline, step_id: 'x', limit: 1e9 }),
  ],
  [
    'a version that there is not',
    'version.not_found',
    () => ask('version.read', { pipeline_id: pipeline, number: 9 }),
  ],
  [
    'a restore of a version that there is not',
    'version.not_found',
    () => ask('version.restore', { pipeline_id: pipeline, number: 9 }),
  ],
  ['a run that there is not', 'run.not_found', () => ask('run.read', { run_id: unknown })],
  ['a cancel of a run that there is not', 'run.not_found', () => ask('run.cancel', { run_id: unknown })],
  [
    'an artifact that there is not',
    'artifact.not_found',
    () => ask('run.download', { artifact_id: unknown }),
  ],
  ['a draft that there is not', 'draft.not_found', () => ask('local_draft.export', { draft_id: unknown })],
  [
    'a draft that there is not, applied',
    'draft.not_found',
    () => ask('local_draft.apply', { draft_id: unknown }),
  ],
  [
    'a grant of a kind that there is not',
    'request.invalid',
    () => ask('grant.allow', { pipeline_id: pipeline, targets: [{ kind: 'write', target: '/' }] }),
  ],
  [
    'a cron that is none',
    'schedule.invalid',
    () =>
      ask('schedule.create', { pipeline_id: pipeline, schedule_id: newId(), cron: 'often', timezone: 'UTC' }),
  ],
  [
    'a schedule that there is not',
    'schedule.not_found',
    () => ask('schedule.set_enabled', { schedule_id: unknown, enabled: false }),
  ],
  [
    'a secret with a name of a path',
    'request.invalid',
    () => ask('secret.set', { name: '../KEY', value: 'x' }),
  ],
  [
    'an invitation to no address',
    'request.invalid',
    () => ask('workspace.invite', { email: 'nobody', role: 'editor' }),
  ],
  [
    'a server address of another kind',
    'request.invalid',
    () => ask('app.connect', { server: 'file:///etc/passwd' }),
  ],
  [
    'changes that are no base64',
    'request.invalid',
    () => ask('document.append', { document_id: pipeline, changes: ['%%%'] }),
  ],
  ['no changes', 'request.invalid', () => ask('document.append', { document_id: pipeline, changes: [] })],
  [
    'bytes that are no change',
    'change.invalid',
    () => ask('document.append', { document_id: pipeline, changes: ['AAAA'] }),
  ],
  [
    'a change of 2 MB',
    'change.quota',
    () =>
      ask('document.append', {
        document_id: pipeline,
        changes: [Buffer.alloc(2_000_000).toString('base64')],
      }),
  ],
  [
    'a change of another document',
    'change.missing_deps',
    () =>
      ask('document.append', {
        document_id: pipeline,
        changes: [Buffer.from(forgeryWorld().concurrent).toString('base64')],
      }),
  ],
]

const yaml = (text: string): Record<string, string> => ({ ...FILES, 'pipeline.yaml': text })
const spoiled: readonly (readonly [name: string, files: Record<string, string>])[] = [
  ['YAML that is none', yaml('name: [weekly\nsteps: {')],
  ['YAML with a tag that runs code elsewhere', yaml('name: !!js/function "return 1"\nsteps: []\n')],
  [
    'YAML of a billion laughs',
    yaml(`a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nname: weekly\nd: [*c, *c]\n`),
  ],
  ['an unknown key', yaml('schema_version: 1\nname: weekly\nsteps:\n  - name: orders\n    sandbox: false\n')],
  [
    'a prototype key',
    yaml('schema_version: 1\nname: weekly\n__proto__:\n  a: 1\nsteps:\n  - name: orders\n'),
  ],
  ['a newer schema', yaml('schema_version: 99\nname: weekly\nsteps:\n  - name: orders\n')],
  [
    'two steps of one name',
    yaml('schema_version: 1\nname: weekly\nsteps:\n  - name: orders\n  - name: orders\n'),
  ],
  ['a step name that climbs', yaml('schema_version: 1\nname: weekly\nsteps:\n  - name: ../orders\n')],
  [
    'a step without its file',
    yaml('schema_version: 1\nname: weekly\nsteps:\n  - name: orders\n  - name: ghost\n'),
  ],
  [
    'a value of the wrong type',
    yaml('schema_version: 1\nname: weekly\nsteps:\n  - name: orders\n    timeout_s: soon\n'),
  ],
  ['no pipeline.yaml', { 'orders.sql': 'select 1' }],
]

describe('bad input over the bridge', () => {
  it.each([...door, ...calls])('%s', async (_name, code, send) => {
    const before = await everything()
    const { status, body } = await send()
    expect(body).toMatchObject({ ok: false, error: { code } })
    expect(status).toBeLessThan(500)
    expect(CODES[code].status).toBeLessThan(500)
    expect(body.error.message).not.toBe('')
    expect(body.error.hint).not.toBe('')
    expect(body.error).not.toHaveProperty('stack')
    expect(await everything()).toEqual(before)
  })

  it('a forged change spoils neither the document on this machine nor the log', async () => {
    const { history, forgeries } = forgeryWorld()
    const documentId = newId()
    const stored = await push(server.url, workspace, ann, newId(), pushBody(newId(), documentId, []))
    expect(stored.status).toBe(403)
    const writer = newId()
    await push(server.url, workspace, ann, writer, pushBody(writer, documentId, history))
    await until('the document is here', async () => {
      const { documents } = await device.session.value('document.list', {})
      return documents.some(entry => entry.document_id === documentId)
    })
    const before = await tables.kept()
    const { heads } = await DocumentView.open(device, documentId)
    const taken: string[] = []
    for (const { name, bytes } of forgeries) {
      const changes = [Buffer.from(bytes).toString('base64')]
      const { body } = await ask('document.append', { document_id: documentId, changes })
      if (body.ok) taken.push(name)
      else expect(body.error.code, name).toMatch(/^(change|request)\./)
      expect(body.error?.code, name).not.toBe('internal')
    }
    // What this machine let through, the server refuses: it ends as a private draft, and the document is as it was.
    await until('nothing waits', async () => (await device.session.value('sync.now', {})).waiting === 0)
    const { drafts } = await device.session.value('local_draft.list', {})
    if (taken.length > 0) expect(drafts.length, taken.join()).toBeGreaterThan(0)
    expect((await DocumentView.open(device, documentId)).heads).toEqual(heads)
    expect(await tables.kept()).toEqual(before)
    for (const { draft_id } of drafts) await device.session.value('local_draft.discard', { draft_id })
  })

  it.each(spoiled)('files: %s', async (_name, files) => {
    const before = await everything()
    const imported = await device.session.value('pipeline.import', { files })
    expect(imported.state).toBe('problems')
    if (imported.state !== 'problems') return
    for (const problem of imported.problems) {
      expect(problem.code).toMatch(/^[a-z]+\.[a-z_]+$/)
      expect(problem.message).not.toBe('')
      expect(problem.hint).not.toBe('')
      expect(problem.file).not.toBeNull()
    }
    expect(await everything()).toEqual(before)
  })
})

const pluto = (args: readonly string[], env: Record<string, string> = {}) =>
  runProgram('engine/bin/pluto.ts', [...args, '--json'], { PLUTO_HOME: device.home, ...env })

describe('bad input on the command line', () => {
  const cases: readonly (readonly [args: string, exit: number, code: ErrorCode | null])[] = [
    ['frobnicate', EXIT.usage, null],
    ['run', EXIT.usage, null],
    ['run weekly --colour', EXIT.usage, null],
    ['compile ghost', EXIT.not_found, 'pipeline.not_found'],
    ['run ghost', EXIT.not_found, 'pipeline.not_found'],
    ['history ghost', EXIT.not_found, 'pipeline.not_found'],
    ['export ghost', EXIT.not_found, 'pipeline.not_found'],
    ['preview weekly ghost', EXIT.not_found, 'step.not_found'],
    ['preview weekly orders --limit many', EXIT.usage, null],
    ['restore weekly 99', EXIT.not_found, 'version.not_found'],
    ['restore weekly first', EXIT.usage, null],
    ['run weekly --version 0', EXIT.usage, null],
    ['run weekly --param x', EXIT.usage, null],
    [`logs ${unknown}`, EXIT.not_found, 'run.not_found'],
    ['draft apply ghost', EXIT.usage, null],
    ['import /nothing/here', EXIT.usage, 'file.unreadable'],
    ['workspace use Ghosts', EXIT.not_found, 'workspace.not_found'],
    ['serve --port 99999', EXIT.usage, 'usage.invalid'],
    ['serve', EXIT.conflict, 'host.locked'],
  ]

  it.each(cases)('pluto %s', async (args, exit, code) => {
    const before = await everything()
    const ended = await pluto(args.split(' '))
    expect(ended.exit, ended.err).toBe(exit)
    if (code) {
      const { error } = JSON.parse(ended.err.trim().split('\n').at(-1) as string)
      expect(error).toMatchObject({ code })
      expect(error.hint).not.toBe('')
    } else expect(ended.err).not.toBe('')
    expect(await everything()).toEqual(before)
  })

  it.each(spoiled.slice(0, 3))('pluto import of %s', async (_name, files) => {
    const folder = folders.make('import')
    mkdirSync(folder, { recursive: true })
    for (const [path, text] of Object.entries(files)) writeFileSync(join(folder, path), text)
    const ended = await pluto(['import', folder])
    expect(ended.exit, ended.err).toBe(EXIT.definition)
    expect(ended.out + ended.err).toContain('pipeline.yaml')
  })

  it.each([
    ['SQL that does not parse', 'selec 1 as x', 'sql'],
    ['a step that reads itself', 'select * from orders', 'orders'],
    ['a table that there is not', 'select * from nowhere', 'nowhere'],
    ['two statements', 'select 1; drop table x', 'orders'],
    ['a file that is opened', "select * from read_csv('/etc/passwd')", 'orders'],
  ])('pluto compile and run of %s', async (_name, sql, named) => {
    const home = folders.make('compile')
    const folder = folders.make('files')
    for (const [path, text] of Object.entries({ ...FILES, 'orders.sql': `${sql}\n` }))
      writeFileSync(join(folder, path), text)
    const alone = (...args: string[]) => pluto(args, { PLUTO_HOME: home })
    expect((await alone('init', '--workspace', 'Mine')).exit).toBe(0)
    const imported = await alone('import', folder)
    expect(imported.exit, imported.err).toBe(0)
    const compiled = await alone('compile', 'weekly')
    expect(compiled.exit, compiled.out + compiled.err).toBe(EXIT.definition)
    expect(compiled.out + compiled.err).toContain(named)
    const ran = await alone('run', 'weekly', '--yes')
    expect(ran.exit, ran.out + ran.err).toBe(EXIT.definition)
  })

  it.each([
    [{ PORT: 'eighty' }, EXIT.usage, 'PORT'],
    [{ SIGNUP: 'maybe' }, EXIT.usage, 'SIGNUP'],
    [{ DATABASE_URL: 'mysql://x/y', AUTH_SECRET: 'x'.repeat(40) }, EXIT.usage, 'DATABASE_URL'],
    [
      { DATABASE_URL: 'postgres://127.0.0.1:1/x', AUTH_SECRET: 'x'.repeat(40) },
      EXIT.network,
      'database.unavailable',
    ],
    [{ DATABASE_URL: 'postgres://127.0.0.1:1/x' }, EXIT.usage, 'AUTH_SECRET'],
    [{ S3_BUCKET: 'reports' }, EXIT.usage, 'S3_'],
  ])('pluto-server start with %j', async (env, exit, named) => {
    const ended = await runProgram('sync-server/bin/pluto-server.ts', ['start'], {
      DATA_DIR: folders.make('settings'),
      ...(env as Record<string, string>),
    })
    expect(ended.exit, ended.err).toBe(exit)
    expect(ended.err).toContain(named)
  })
})
