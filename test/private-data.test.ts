import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
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

// A6: what is planted in the data and in the secrets is looked for everywhere afterwards.

/** Never published: each in a place of its own, so that a leak says where it came from. */
const PLANTED = {
  secret: 'planted-secret-7f3a91',
  name: 'planted-name-7f3a92',
  cast: 'planted-cast-7f3a93',
  test: 'planted-test-7f3a94',
  unique: 'planted-unique-7f3a95',
} as const
/** In the one column that is published. */
const PUBLISHED = 'planted-city-7f3a99'

const PEOPLE = [
  'name,city,age,mark',
  `${PLANTED.name},${PUBLISHED},41,good`,
  `someone,Ulm,${PLANTED.cast},good`,
  `another,Ulm,30,${PLANTED.test}`,
  `${PLANTED.unique},Graz,31,good`,
  `${PLANTED.unique},Graz,32,good`,
].join('\n')

const GOOD = {
  'pipeline.yaml': `
schema_version: 1
name: cities
sources:
  people: {kind: csv, path: people.csv, options: {all_varchar: true}}
steps:
  - name: known
    tests:
      - {type: accepted_values, column: mark, values: [good], severity: warn}
      - {type: unique, columns: [name], severity: warn}
      - {type: custom, sql: "select * from known where mark <> 'good'", severity: warn}
  - name: by_city
publish:
  report: true
  snapshots:
    - {step: by_city, columns: [city], max_rows: 100}
`,
  'known.sql': 'select name, city, mark from source.people\n',
  'by_city.sql': 'select city, count(*) as people from known group by city order by city\n',
  'report.md': '# Cities\n\n```sql cities\nselect city, people from by_city\n```\n',
}
const CAST = {
  'pipeline.yaml': `
schema_version: 1
name: ages
sources:
  people: {kind: csv, path: people.csv, options: {all_varchar: true}}
steps:
  - name: ages
`,
  'ages.sql': 'select cast(age as integer) as age from source.people\n',
}
const TESTED = {
  'pipeline.yaml': `
schema_version: 1
name: marks
sources:
  people: {kind: csv, path: people.csv, options: {all_varchar: true}}
steps:
  - name: marks
    tests:
      - {type: accepted_values, column: mark, values: [good]}
`,
  'marks.sql': 'select mark, name from source.people\n',
}

const folders = new Folders()
let database: TestDatabase
let tables: Tables
let server: ServerProcess
let serverDir: string
let ann: Person
let device: Device
let home: string
let printed = ''

const importPipeline = async (files: Record<string, string>): Promise<string> => {
  const imported = await device.session.value('pipeline.import', { files })
  if (imported.state !== 'imported') throw new Error(JSON.stringify(imported))
  return imported.pipeline.pipeline_id
}

/** Allows what it wants, publishes it, runs that version to its end and waits until everything of it was sent. */
const runIt = async (pipeline_id: string) => {
  const plan = await device.session.value('pipeline.plan', { pipeline_id })
  await device.session.value('grant.allow', {
    pipeline_id,
    targets: plan.grants_needed.map(({ kind, target }) => ({ kind, target })),
  })
  await device.session.value('sync.now', {})
  const published = await device.session.value('version.publish', { pipeline_id, message: 'first' })
  expect(published.state).toBe('published')
  const run_id = newId()
  await device.session.value('run.start', { pipeline_id, run_id, version: 1 })
  return await until(
    'the run ended and was sent',
    async () => {
      const run = await device.session.value('run.read', { run_id })
      if (run.state === 'pending' || run.state === 'running') return null
      if (run.upload.state !== 'done') throw new Error(JSON.stringify(run.upload))
      return run
    },
    60_000,
  )
}

beforeAll(async () => {
  database = await testDatabase()
  tables = new Tables(database.url)
  serverDir = folders.make('private-server')
  server = await startServerProcess({ dataDir: serverDir, databaseUrl: database.url })
  ann = await signUp(server.url, 'Ann')
  home = folders.make('private-home')
  device = await startDevice({
    home,
    server: server.url,
    person: ann,
    env: { PLUTO_SECRET_WAREHOUSE: PLANTED.secret, PLUTO_LOG_LEVEL: 'trace' },
  })
  const workspace_id = newId()
  await device.session.value('workspace.create', { workspace_id, name: 'Sales' })
  const files = join(home, 'files', workspace_id)
  mkdirSync(files, { recursive: true })
  writeFileSync(join(files, 'people.csv'), PEOPLE)

  const good = await importPipeline(GOOD)
  const run = await runIt(good)
  expect(run).toMatchObject({ state: 'success', has_report: true })
  const failing = run.steps.flatMap(step => step.tests).map(test => test.failing_rows)
  expect(failing.reduce((sum, rows) => sum + rows, 0)).toBeGreaterThanOrEqual(3)

  const cast = await runIt(await importPipeline(CAST))
  expect(cast).toMatchObject({ state: 'failed', failed_step: 'ages' })
  // She sees it on her machine, with the value: that is what the message is for.
  expect(JSON.stringify(cast.steps)).toContain(PLANTED.cast)
  const tested = await runIt(await importPipeline(TESTED))
  expect(tested).toMatchObject({ state: 'failed', cause: 'data_test', failed_step: 'marks' })

  const step_id = run.steps[0]?.step_id as string
  await device.session.value('pipeline.preview', { pipeline_id: good, step_id })
  await device.session.value('result.rows', { pipeline_id: good, step_id })
  await device.session.value('result.summary', { pipeline_id: good, step_id })
  await device.session.call('secret.list', {})
  await device.session.call('secret.set', { name: 'OTHER', value: PLANTED.secret })
  await device.stop()
  printed = device.output()
})
afterAll(async () => {
  await device?.stop()
  await server?.stop()
  await tables?.close()
  await database?.drop()
  folders.remove()
})

/** Which of the planted texts are in it: as they are, and as Postgres and base64 would write their bytes. */
const foundIn = (content: string): string[] =>
  [...Object.values(PLANTED), PUBLISHED].filter(text =>
    [text, Buffer.from(text).toString('hex'), Buffer.from(text).toString('base64').slice(0, 24)].some(form =>
      content.includes(form),
    ),
  )

const filesBelow = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))

const secrets = Object.values(PLANTED)
const leaks = (where: string, content: string) =>
  foundIn(content)
    .filter(text => text !== PUBLISHED)
    .map(text => `${text} in ${where}`)

describe('what is private', () => {
  it('is nowhere in the server’s database', async () => {
    const dump = await tables.dump()
    expect(dump.get('runs')).toHaveLength(3)
    const found = [...dump].flatMap(([table, rows]) => leaks(table, rows.join('\n')))
    expect(found).toEqual([])
  })

  it('is nowhere in the server’s storage, where the published column is', () => {
    const files = filesBelow(serverDir)
    expect(files.length).toBeGreaterThan(0)
    expect(files.flatMap(file => leaks(relative(serverDir, file), readFileSync(file, 'latin1')))).toEqual([])
    expect(files.some(file => readFileSync(file, 'latin1').includes(PUBLISHED))).toBe(true)
  })

  it('is nowhere in what the server and the host printed', () => {
    expect(server.output().length).toBeGreaterThan(100)
    expect(leaks('the server’s output', server.output())).toEqual([])
    expect(leaks('the host’s output', printed)).toEqual([])
  })

  it('is on the machine in results, reports, private and the files themselves, and nowhere else', () => {
    const places = new Map<string, Set<string>>()
    for (const file of filesBelow(home)) {
      const place = relative(home, file).split(sep)[0] as string
      for (const text of foundIn(readFileSync(file, 'latin1')))
        places.set(text, (places.get(text) ?? new Set()).add(place))
    }
    const allowed = new Set(['results', 'reports', 'private', 'files'])
    for (const text of secrets)
      expect(
        [...(places.get(text) ?? [])].filter(place => !allowed.has(place)),
        text,
      ).toEqual([])
    // That it is looked for in the right way shows where it has to be.
    expect(places.get(PLANTED.cast)).toContain('private')
    expect(places.get(PLANTED.test)).toContain('private')
    expect(places.get(PLANTED.secret)).toBeUndefined()
  })

  it('is nowhere in the local state, row by row; neither is the session’s token', async () => {
    const state = await DuckDBInstance.create(join(home, 'state.duckdb'), { access_mode: 'READ_ONLY' })
    const connection = await state.connect()
    const names = (await connection.runAndReadAll('select table_name from duckdb_tables()')).getRows()
    expect(names.length).toBeGreaterThan(3)
    for (const [name] of names) {
      const rows = await connection.runAndReadAll(`select t::varchar from "${String(name)}" t`)
      const content = rows.getRows().join('\n')
      expect(leaks(String(name), content)).toEqual([])
      expect(content).not.toContain(ann.token)
    }
    connection.closeSync()
    state.closeSync()
    for (const file of filesBelow(home)) expect(readFileSync(file, 'latin1'), file).not.toContain(ann.token)
  })
})
