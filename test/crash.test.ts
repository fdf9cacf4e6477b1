import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { editPipeline, type PipelineDoc, pipelineFromDoc, updateStepSql } from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DocumentView, readDocument } from './harness/documents.ts'
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

// A8: in each round, while somebody types, publishes, runs and sends, the server, the host and one of its runners are
// killed at moments of their own. What was acknowledged is written down, and looked for at the end.

/** How often each is killed. Some in every test run; `PLUTO_CRASHES=20` for the whole, which takes minutes. */
const ROUNDS = Number(process.env.PLUTO_CRASHES ?? 4)
const SEED = Number(process.env.PLUTO_CRASH_SEED ?? 20_261)
/** Within how many milliseconds of a round's first acknowledged edit everything is killed. */
const SPAN = 900

const folders = new Folders()
let database: TestDatabase
let server: ServerProcess
let serverDir: string
let device: Device
let ann: Person
let pipeline: string
let stepId: string

/** The same moments in every run of a seed. */
let state = SEED
const random = (): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
  return state / 2 ** 32
}

const FILES = {
  'pipeline.yaml': 'schema_version: 1\nname: weekly\nsteps:\n  - name: orders\n  - name: revenue\n',
  'orders.sql': 'select range as id, range % 7 as day from range(300000)\n',
  'revenue.sql': 'select day, count(*) as n from orders group by day order by day\n',
  'report.md': '# Weekly\n\n```sql days\nselect * from revenue\n```\n',
}

const startServer = (port?: number) =>
  startServerProcess({ dataDir: serverDir, databaseUrl: database.url, ...(port ? { port } : {}) })
const startHost = (home: string) => startDevice({ home, server: server.url, person: ann })

/** Kills one of the host's children, as the system does when memory runs out. */
const killRunner = (host: number): void => {
  const children = readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .filter(pid => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
        return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) === host
      } catch {
        // It ended while we looked.
        return false
      }
    })
  const one = children[Math.floor(random() * children.length)]
  try {
    if (one) process.kill(Number(one), 'SIGKILL')
  } catch (error) {
    // It ended between the look and the kill.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

const acknowledged = {
  edits: [] as string[],
  runs: [] as string[],
  versions: [] as { version_id: string; number: number }[],
}

/** Adds comments to the SQL until the host is gone. */
const typing = async (round: number): Promise<void> => {
  const view = await DocumentView.open<PipelineDoc>(device, pipeline)
  for (let n = 0; ; n++) {
    const mark = `-- ${round}.${n};`
    const { sql } = pipelineFromDoc(view.doc).steps.find(step => step.id === stepId) as { sql: string }
    await view.edit(doc => editPipeline(doc, 'type', d => updateStepSql(d, stepId, `${mark}\n${sql}`)))
    acknowledged.edits.push(mark)
    await delay(10 + random() * 30)
  }
}

const running = async (): Promise<void> => {
  const run_id = newId()
  const started = await device.session.call('run.start', { pipeline_id: pipeline, run_id, full: true })
  if (started.ok) acknowledged.runs.push(run_id)
}

const publishing = async (): Promise<void> => {
  await delay(random() * 300)
  const published = await device.session.call('version.publish', { pipeline_id: pipeline, message: 'm' })
  if (published.ok && published.value.state === 'published')
    acknowledged.versions.push(published.value.version)
}

const round = async (number: number): Promise<void> => {
  const before = acknowledged.edits.length
  const work = Promise.allSettled([typing(number), running(), publishing()])
  await until('something is acknowledged', async () => acknowledged.edits.length > before)
  const at = (kill: () => Promise<void> | void) => delay(random() * SPAN).then(kill)
  const hostPid = device.pid
  await Promise.all([at(() => server.kill()), at(() => killRunner(hostPid)), at(() => device.kill())])
  await work
  server = await startServer(Number(new URL(server.url).port))
  device = await startHost(device.home)
}

const inSync = (of: Device) =>
  until(
    'it is in sync',
    async () => {
      const now = await of.session.value('sync.now', {})
      if (now.state !== 'in_sync' || now.waiting + now.waiting_publishes > 0)
        throw new Error(JSON.stringify(now))
      return now
    },
    60_000,
  )

beforeAll(async () => {
  database = await testDatabase()
  serverDir = folders.make('crash-server')
  server = await startServer()
  ann = await signUp(server.url, 'Ann')
  device = await startHost(folders.make('crash-home'))
  await device.session.value('workspace.create', { workspace_id: newId(), name: 'Sales' })
  const imported = await device.session.value('pipeline.import', { files: FILES })
  if (imported.state !== 'imported') throw new Error(JSON.stringify(imported))
  pipeline = imported.pipeline.pipeline_id
  const doc = await readDocument<PipelineDoc>(device, pipeline)
  stepId = pipelineFromDoc(doc).steps[0]?.id as string
  const plan = await device.session.value('pipeline.plan', { pipeline_id: pipeline })
  const targets = plan.grants_needed.map(({ kind, target }) => ({ kind, target }))
  await device.session.value('grant.allow', { pipeline_id: pipeline, targets })
  await inSync(device)
})
afterAll(async () => {
  await device?.stop()
  await server?.stop()
  await database?.drop()
  folders.remove()
})

describe.skipIf(process.platform !== 'linux')('kill -9', () => {
  it(`of server, host and runner, ${ROUNDS} times each, loses nothing that was acknowledged`, async () => {
    for (let number = 0; number < ROUNDS; number++) await round(number)
    expect(acknowledged.edits.length).toBeGreaterThanOrEqual(ROUNDS)
    await inSync(device)

    // The flow goes on as if nothing had happened.
    const published = await device.session.value('version.publish', { pipeline_id: pipeline, message: 'end' })
    if (published.state !== 'published') throw new Error(JSON.stringify(published))
    acknowledged.versions.push(published.version)
    const run_id = newId()
    await device.session.value('run.start', {
      pipeline_id: pipeline,
      run_id,
      version: published.version.number,
      full: true,
    })
    acknowledged.runs.push(run_id)
    const ended = await until(
      'every run has ended and was sent',
      async () => {
        const { runs } = await device.session.value('run.list', { limit: 200 })
        for (const id of acknowledged.runs) {
          const run = runs.find(one => one.run_id === id)
          if (!run) throw new Error(`the run ${id} is gone`)
          if (!['success', 'failed', 'cancelled'].includes(run.state) || run.upload.state !== 'done') {
            throw new Error(`${run.state}, ${JSON.stringify(run.upload)}`)
          }
        }
        return runs
      },
      90_000,
    )
    expect(ended.find(run => run.run_id === run_id)).toMatchObject({ state: 'success', has_report: true })

    // Another device, which has seen nothing of it, finds all of it on the server.
    const other = await startHost(folders.make('crash-other'))
    try {
      await until('the other device has the pipeline', async () => {
        const { pipelines } = await other.session.value('pipeline.list', {})
        return pipelines.length === 1
      })
      await inSync(other)
      const mine = await DocumentView.open<PipelineDoc>(device, pipeline)
      const theirs = await DocumentView.open<PipelineDoc>(other, pipeline)
      expect(theirs.heads).toEqual(mine.heads)
      const { sql } = pipelineFromDoc(theirs.doc).steps.find(step => step.id === stepId) as { sql: string }
      expect(acknowledged.edits.filter(mark => !sql.includes(mark))).toEqual([])

      const { versions } = await other.session.value('version.list', { pipeline_id: pipeline })
      for (const { version_id, number } of acknowledged.versions)
        expect(versions).toContainEqual(expect.objectContaining({ version_id, number }))
      expect(versions.map(version => version.number)).toEqual(
        versions.map((_, index) => versions.length - index),
      )

      const { runs } = await other.session.value('run.list', { limit: 200 })
      const known = new Set(runs.map(run => run.run_id))
      expect(acknowledged.runs.filter(id => !known.has(id))).toEqual([])
      const { artifacts } = await other.session.value('run.artifacts', { run_id })
      expect(artifacts.map(artifact => artifact.name)).toContain('report.html')
    } finally {
      await other.stop()
    }
  }, 900_000)
})
