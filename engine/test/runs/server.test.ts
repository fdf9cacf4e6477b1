import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { DuckDBInstance } from '@duckdb/node-api'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { LIMITS, newId, runRoutes } from '@pluto-duck/crdt-model/protocol'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { delivery } from '../../src/artifacts/next-delivery.ts'
import { type Clock, systemClock } from '../../src/clock.ts'
import type { RunService } from '../../src/runs/index.ts'
import { JsonTable } from '../../src/state/index.ts'
import { Colleagues, HASTY, Line, type Person } from './colleagues.ts'
import { type Machine, openMachine } from './service.ts'

let server: Colleagues
let ann: Person
let workspaceId: string
const machines: Machine[] = []

beforeAll(async () => {
  server = await Colleagues.start()
  ann = await server.person('ann')
  workspaceId = await server.workspace(ann)
})
afterAll(() => server?.stop())
afterEach(async () => {
  for (const machine of machines.splice(0)) await machine.close()
})

const PIPELINE = {
  schema_version: 1 as const,
  name: 'people',
  sources: { people: { kind: 'csv' as const, path: 'people.csv' } },
  steps: [
    { id: 's1', name: 'adults', sql: 'select name, city, age from source.people where age >= 18' },
    { id: 's2', name: 'cities', sql: 'select city, count(*) as n from adults group by city order by city' },
  ],
  report: '# Cities\n\n```sql by_city\nselect * from cities\n```\n',
  publish: { report: true, snapshots: [{ step: 'adults', columns: ['city', 'age'], max_rows: 2 }] },
}
const PEOPLE =
  'name,city,age\nplanted-ann-0815,Bern,20\nplanted-bob-0815,Ulm,30\nplanted-cyd-0815,Ulm,40\nplanted-dan-0815,Graz,9\n'

const PLANTED = /planted-[a-z]{3}-0815/

/** Whether the workspace is of who is signed in, at the server that is asked. */
let isOwn = true

async function machineOf(
  person: Person,
  line: Line,
  definition: typeof PIPELINE | (Omit<typeof PIPELINE, 'steps'> & { steps: object[] }) = PIPELINE,
  pipelineId = newId(),
  clock: Clock = HASTY,
): Promise<Machine> {
  const machine = await openMachine(definition as never, {
    server: line,
    clock,
    deviceId: person.deviceId,
    who: () => ({ user_id: person.id, name: person.name }),
    remote: () => true,
    sends: async () => isOwn,
    workspaceId,
    pipelineId,
  })
  machines.push(machine)
  await machine.file('people.csv', PEOPLE)
  return machine
}

async function untilSent(runs: RunService, runId: string): Promise<Awaited<ReturnType<RunService['read']>>> {
  for (;;) {
    const view = await runs.read(runId)
    if (view.upload.state === 'done' || view.upload.state === 'failed') return view
    await new Promise(resolve => setTimeout(resolve, 30))
  }
}

/** Everything that the server holds: its tables as text, and the files of its storage. */
async function everything(): Promise<string> {
  const pool = new pg.Pool({ connectionString: server.database.url, max: 1 })
  const tables = await pool.query(
    "select quote_ident(tablename) as t from pg_tables where schemaname = 'public'",
  )
  const texts: string[] = []
  for (const { t } of tables.rows) {
    const { rows } = await pool.query(`select ${t}::text as row from ${t}`)
    texts.push(...rows.map(row => row.row))
  }
  await pool.end()
  const files = readdirSync(server.dataDir, { recursive: true, withFileTypes: true }).filter(entry =>
    entry.isFile(),
  )
  for (const file of files) texts.push(readFileSync(join(file.parentPath, file.name), 'latin1'))
  return texts.join('\n')
}

it('[LEAVE4] nothing of a run is sent while somebody else is signed in, nor is it refused by their server; then it goes on', async () => {
  const line = new Line(ann)
  const machine = await machineOf(ann, line)
  await server.share(workspaceId, ann, machine.pipelineId, machine.definition)
  await machine.allowAll()
  isOwn = false
  try {
    const run = await machine.run()
    machine.runs.online()
    await machine.restart()
    expect((await machine.runs.read(run.run_id)).upload.error).toBeNull()
    await expect(ann.wire.call(runRoutes.read, { params: { run_id: run.run_id } })).rejects.toMatchObject({
      code: 'run.not_found',
    })
    // They sign in while it is asked.
    isOwn = true
    const { call } = line
    line.call = async () => {
      isOwn = false
      throw new AppError('workspace.not_found', 'There is no such workspace.')
    }
    await expect
      .poll(() => machine.runs.deliver([run.run_id]), { timeout: 60_000 })
      .toMatchObject([{ state: 'waiting', error: null }])
    expect(isOwn).toBe(false)
    line.call = call
    isOwn = true
    machine.runs.online()
    expect((await untilSent(machine.runs, run.run_id)).upload).toMatchObject({ state: 'done', error: null })
  } finally {
    isOwn = true
  }
})

it('[DELIVER1] a run made offline arrives once, whole and in order, though the host restarts and replies are lost', async () => {
  const line = new Line(ann)
  line.online = false
  const machine = await machineOf(ann, line)
  await server.share(workspaceId, ann, machine.pipelineId, machine.definition)
  await machine.allowAll()
  const run = await machine.run()
  expect(run).toMatchObject({ state: 'success', has_report: true })
  await machine.restart()
  expect((await machine.runs.read(run.run_id)).upload).toMatchObject({
    state: 'waiting',
    error: { code: 'server.unreachable' },
  })

  line.online = true
  line.losesReplies = true
  machine.runs.online()
  expect((await untilSent(machine.runs, run.run_id)).upload).toMatchObject({ state: 'done', error: null })
  line.losesReplies = false

  const { value: stored } = await ann.wire.call(runRoutes.read, { params: { run_id: run.run_id } })
  expect(stored).toMatchObject({
    state: 'success',
    version: null,
    run_by: { user_id: ann.id },
    manifest: { steps: [{ name: 'adults', state: 'success', rows: 3 }, { name: 'cities' }] },
  })
  const log = readFileSync(join(machine.folder, 'logs', `${run.run_id}.jsonl`), 'utf8')
  expect(stored.log_bytes).toBe(Buffer.byteLength(log))
  const { artifacts } = await machine.runs.artifacts(run.run_id)
  expect(artifacts.map(one => one.name).sort()).toEqual([
    'adults.parquet',
    'metadata.json',
    'report.html',
    'report.md',
  ])

  const { entries } = await machine.runs.ledger()
  const of = (what: string) => entries.filter(entry => entry.what === what)
  expect(of('report')).toMatchObject([
    { name: 'report.html', run_id: run.run_id, bytes: artifacts.find(one => one.kind === 'report')!.bytes },
  ])
  expect(of('snapshot')).toHaveLength(1)
  expect(of('log').reduce((sum, entry) => sum + entry.bytes, 0)).toBe(stored.log_bytes)

  // A colleague sees it: the run, its log, its report, and exactly the columns and rows that were allowed.
  const bob = await server.person('bob')
  await server.join(workspaceId, ann, bob, 'viewer')
  const other = await machineOf(bob, new Line(bob), PIPELINE, machine.pipelineId)
  expect(
    (await other.runs.list(workspaceId, { pipeline_id: machine.pipelineId, limit: 10 })).runs,
  ).toMatchObject([{ run_id: run.run_id, local: false, run_by: 'ann', state: 'success' }])
  expect(await other.runs.read(run.run_id)).toMatchObject({ local: false, has_report: true })
  const lines = (await other.runs.log({ run_id: run.run_id, after_line: 0 })).lines
  expect(lines).toEqual((await machine.runs.log({ run_id: run.run_id, after_line: 0 })).lines)
  expect(await other.runs.report({ pipeline_id: machine.pipelineId })).toEqual({
    ...(await machine.runs.report({ run_id: run.run_id })),
    created_at: artifacts.find(one => one.kind === 'report')!.created_at,
  })
  const { path } = await other.runs.download(artifacts.find(one => one.kind === 'snapshot')!.artifact_id)
  const connection = await (await DuckDBInstance.create(':memory:')).connect()
  const rows = await connection.runAndReadAll(`select * from read_parquet('${path}')`)
  expect(rows.columnNames()).toEqual(['city', 'age'])
  expect(rows.currentRowCount).toBe(2)
  connection.closeSync()

  // DELIVER3: the column that nobody published is nowhere on the server.
  expect(await everything()).not.toMatch(PLANTED)
})

it('[DELIVER2] what the server refuses is shown and not tried for ever, and holds up no other run', async () => {
  const eve = await server.person('eve')
  await server.join(workspaceId, ann, eve, 'viewer')
  const line = new Line(eve)
  const machine = await machineOf(eve, line)
  await server.share(workspaceId, ann, machine.pipelineId, machine.definition)
  await machine.allowAll()
  const run = await machine.run()
  expect(run.state).toBe('success')
  expect((await untilSent(machine.runs, run.run_id)).upload).toMatchObject({
    state: 'failed',
    error: { code: 'auth.forbidden' },
  })
  expect(await machine.runs.report({ run_id: run.run_id })).toMatchObject({ state: 'report' })
})

const deliveryOf = (machine: Machine, runId: string) =>
  new JsonTable(machine.state, 'uploads', delivery).get(runId)

async function untilDelivered(machine: Machine, runId: string) {
  for (;;) {
    const sent = await deliveryOf(machine, runId)
    if (sent && sent.state !== 'active') return sent
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

it('[DELIVER2] a run of a pipeline that is not on the server yet waits for a sync, however long it goes on and is asked for', async () => {
  const line = new Line(ann)
  let asked = 0
  const { call } = line
  line.call = (async (route: never, request: never) => {
    asked++
    return await call(route, request)
  }) as never
  const machine = await machineOf(ann, line)
  await machine.allowAll()
  const run = await machine.run()
  await expect.poll(() => asked, { timeout: 20_000 }).toBeGreaterThan(30)
  expect((await machine.runs.unsent()).held).toMatchObject([{ error: { code: 'pipeline.not_found' } }])
  await server.share(workspaceId, ann, machine.pipelineId, machine.definition)
  machine.runs.synced()
  expect((await untilSent(machine.runs, run.run_id)).upload).toMatchObject({ state: 'done', error: null })
})

it('[DELIVER4] half a line of a log, and a file that is gone, cost themselves alone', async () => {
  const line = new Line(ann)
  line.online = false
  const machine = await machineOf(ann, line)
  await server.share(workspaceId, ann, machine.pipelineId, machine.definition)
  await machine.allowAll()
  const run = await machine.run()
  // What a power cut left: in the middle, before the last line and behind it. Once it is more than a chunk, with and without ends of lines.
  const log = join(machine.folder, 'logs', `${run.run_id}.jsonl`)
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n')
  const broken = ['{"ts":"2026-01-31T13:00', '\0\0\0\0', '{}', '']
  const much = [
    '\0'.repeat(LIMITS.logChunkBytes),
    ...Array(LIMITS.logChunkBytes / 1024).fill('x'.repeat(1023)),
  ]
  const [first, ...rest] = lines
  const bytes = Buffer.from(`${[first, ...broken, ...much, ...rest, ...broken].join('\n')}\n`)
  bytes[first!.length + 3] = 0xff
  writeFileSync(log, Buffer.concat([bytes, Buffer.from('{"ts":"half')]))
  rmSync(join(machine.folder, 'reports', run.run_id, 'report.html'))

  line.online = true
  machine.runs.online()
  const sent = await untilDelivered(machine, run.run_id)
  expect(sent.state).toBe('done')
  expect(sent.artifacts.map(({ name, state }) => [name, state])).toEqual([
    ['report.html', 'refused'],
    ['report.md', 'done'],
    ['metadata.json', 'done'],
    ['adults.parquet', 'done'],
  ])
  const { upload } = await machine.runs.read(run.run_id)
  expect(upload).toMatchObject({ state: 'failed', error: { code: 'artifact.not_found' } })
  const { value: stored } = await ann.wire.call(runRoutes.read, { params: { run_id: run.run_id } })
  expect(stored).toMatchObject({ state: 'success', log_bytes: bytes.length })
  const there = await ann.wire.call(runRoutes.readLog, {
    params: { run_id: run.run_id },
    query: { offset: 0 },
  })
  const told = Buffer.from(there.value)
    .toString('utf8')
    .trimEnd()
    .split('\n')
    .map(text => JSON.parse(text))
  const unread = told.filter(({ message }) => /^Here \d+ bytes of the log could not be read\.$/.test(message))
  expect(unread.length).toBeGreaterThan(2)
  expect(told.filter(one => !unread.includes(one))).toEqual(lines.map(text => JSON.parse(text)))
})

it('[DELIVER5] a storage that refuses for a while gets every file in the end', async () => {
  const line = new Line(ann)
  const refusing = await refuseUploads(5)
  const machine = await machineOf(ann, refusing.over(line))
  try {
    await server.share(workspaceId, ann, machine.pipelineId, machine.definition)
    await machine.allowAll()
    const run = await machine.run()
    const sent = await untilDelivered(machine, run.run_id)
    expect(sent.artifacts.map(one => one.state)).toEqual(['done', 'done', 'done', 'done'])
    expect(sent).toMatchObject({ state: 'done', error: null })
    expect(refusing.refused).toBe(5)
  } finally {
    await machine.stop()
    machines.splice(machines.indexOf(machine), 1)
    rmSync(machine.folder, { recursive: true, force: true })
    refusing.close()
  }
})

it('[DELIVER8] a storage that refuses for ever is asked ever less, and it is told why the run waits; a wish to send asks at once', async () => {
  const line = new Line(ann)
  const refusing = await refuseUploads(Number.POSITIVE_INFINITY)
  const pauses: number[] = []
  let [patient, waiting] = [false, false]
  const clock = {
    now: HASTY.now,
    sleep: async (ms: number, signal?: AbortSignal) => {
      pauses.push(ms)
      if (patient && ms > 60_000) {
        waiting = true
        return await systemClock.sleep(ms, signal)
      }
      return HASTY.sleep(ms, signal)
    },
  }
  const machine = await machineOf(ann, refusing.over(line), PIPELINE, newId(), clock)
  await server.share(workspaceId, ann, machine.pipelineId, machine.definition)
  await machine.allowAll()
  const run = await machine.run()
  await expect.poll(() => Math.max(...pauses), { timeout: 20_000 }).toBeGreaterThanOrEqual(30 * 60_000)
  expect(Math.max(...pauses)).toBeLessThanOrEqual(60 * 60_000)
  const { run_ids, held } = await machine.runs.unsent()
  expect(run_ids).toEqual([run.run_id])
  expect(held).toMatchObject([{ run_id: run.run_id, error: { code: 'storage.expired' } }])
  expect(held[0]?.error.hint).toContain('pluto-server doctor')

  // A sync that ends, as it does each minute, cuts no pause; a connection that is back does.
  patient = true
  await expect.poll(() => waiting, { timeout: 20_000 }).toBe(true)
  const before = refusing.refused
  for (let i = 0; i < 5; i++) {
    machine.runs.synced()
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  expect(refusing.refused).toBe(before)
  machine.runs.online()
  await expect.poll(() => refusing.refused, { timeout: 20_000 }).toBeGreaterThan(before)

  refusing.mend()
  await machine.runs.deliver([run.run_id])
  await untilSent(machine.runs, run.run_id)
  expect(await machine.runs.unsent()).toEqual({ run_ids: [], held: [] })
  refusing.close()
})

/** Stands before the storage and refuses the first uploads, as one with a wrong clock does. */
async function refuseUploads(times: number) {
  const storage = createServer(async (request, response) => {
    const body = await buffer(request)
    if (seen.refused < times) {
      seen.refused += 1
      return response.writeHead(403).end('<Error><Code>RequestTimeTooSkewed</Code></Error>')
    }
    const { host: _, connection: __, ...headers } = request.headers as Record<string, string>
    const answer = await fetch(new URL(request.url ?? '', server.server.url), {
      method: request.method ?? 'PUT',
      headers,
      body,
    })
    return response.writeHead(answer.status).end(await answer.text())
  })
  await new Promise<void>(resolve => storage.listen(0, '127.0.0.1', resolve))
  const port = (storage.address() as AddressInfo).port
  const seen = {
    refused: 0,
    over: (line: Line): Line => {
      const call = line.call
      line.call = (async (route: { id: string }, request: never) => {
        const reply = await call(route as never, request)
        const { upload } = reply as { upload?: { url: string } | null }
        if (route.id !== runRoutes.createUpload.id || !upload) return reply
        const { pathname, search } = new URL(upload.url)
        return { upload: { ...upload, url: `http://127.0.0.1:${port}${pathname}${search}` } }
      }) as never
      return line
    },
    mend: () => {
      times = 0
    },
    close: () => {
      storage.close()
      storage.closeAllConnections()
    },
  }
  return seen
}

it('[RUN15] a value that breaks a cast does not leave, neither does a failing row', async () => {
  const line = new Line(ann)
  const steps = [
    {
      ...PIPELINE.steps[0]!,
      tests: [{ id: 't', type: 'accepted_values', severity: 'warn', column: 'city', values: ['Ulm'] }],
    },
    { id: 's2', name: 'cities', sql: 'select cast(name as integer) as n from adults' },
  ]
  const machine = await machineOf(ann, line, {
    ...PIPELINE,
    steps,
    report: '',
    publish: { report: true, snapshots: [] },
  })
  await server.share(workspaceId, ann, machine.pipelineId, machine.definition)
  await machine.allowAll()
  const run = await machine.run()
  expect(run).toMatchObject({ state: 'failed', cause: 'sql', failed_step: 'cities' })
  expect((await untilSent(machine.runs, run.run_id)).upload.state).toBe('done')
  const { value: stored } = await ann.wire.call(runRoutes.read, { params: { run_id: run.run_id } })
  expect(stored).toMatchObject({ state: 'failed', cause: 'sql', failed_step: 'cities' })
  expect(await everything()).not.toMatch(PLANTED)
  const found = execFileSync('grep', ['-rlaE', PLANTED.source, machine.folder], { encoding: 'utf8' })
    .trim()
    .split('\n')
  const outside = found
    .map(path => path.slice(machine.folder.length + 1))
    .filter(path => !/^(results|reports|private|files)\//.test(path))
  expect(outside).toEqual([])
})
