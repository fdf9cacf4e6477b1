import { setTimeout as delay } from 'node:timers/promises'
import { editPipeline, type PipelineDoc, pipelineFromDoc, updateStepSql } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DocumentView, readDocument } from './harness/documents.ts'
import { isAlive, KillBook, killRunnerAtWork, runnerAtWork, soon } from './harness/kills.ts'
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

// A8. Each kill falls into one phase (edits, sync, publish, run, upload), at a moment of its own after that phase was seen to
// go on; a runner is killed in the middle of a step, of a run or of a preview. Every kill is of a process that lived. What was
// acknowledged is written down, and looked for at the end.

/** How often each of server, host and runner is killed. From 5 on each of them in each phase; the whole, 20, takes minutes. */
const CRASHES = Number(process.env.PLUTO_CRASHES ?? 2)
const SEED = Number(process.env.PLUTO_CRASH_SEED ?? 20_261)

type Phase = 'edits' | 'sync' | 'publish' | 'run' | 'upload'
/** In this order for the server; the host is three behind, so that two of each go through all but the edits alone. */
const PHASES: readonly Phase[] = ['publish', 'upload', 'edits', 'sync', 'run']
/** Within how many milliseconds after a phase was seen to go on its victim is killed. */
const SPAN: Record<Phase, number> = { edits: 500, sync: 60, publish: 60, run: 100, upload: 60 }

const folders = new Folders()
let database: TestDatabase
let server: ServerProcess
let serverDir: string
/** Whose host and runners are killed. */
let device: Device
/** Of the same person, and never killed: what it writes has to arrive. */
let other: Device
let ann: Person
let pipeline: string
let orders: string
let revenue: string

/** The same moments in every run of a seed. */
let state = SEED
const random = (): number => {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
  return state / 2 ** 32
}

const ROWS = 1_000_000
const FILES = {
  'pipeline.yaml':
    'schema_version: 1\nname: weekly\nsteps:\n  - name: orders\n  - name: revenue\n' +
    'publish:\n  snapshots:\n    - step: orders\n      columns: [id, label]\n      max_rows: 200000\n',
  // Long enough that a kill falls into the middle of it.
  'orders.sql': `select range as id, range % 7 as day, hash(range) as label from range(${ROWS})\n`,
  'revenue.sql': 'select day, count(*) as n from orders group by day order by day\n',
  'report.md': '# Weekly\n\n```sql days\nselect * from revenue\n```\n',
}

const startServer = (port?: number) =>
  startServerProcess({ dataDir: serverDir, databaseUrl: database.url, ...(port ? { port } : {}) })
const startHost = (home: string) => startDevice({ home, server: server.url, person: ann })

const kills = new KillBook()
const acknowledged = {
  edits: [] as { phase: Phase; step: string; mark: string }[],
  /** `cut`: its host was killed while it went on, so it may have failed. */
  runs: [] as { phase: Phase; run_id: string; cut: boolean }[],
  versions: [] as { phase: Phase; version_id: string; number: number }[],
  /** Runs of which the host said that all was delivered. */
  delivered: [] as string[],
}

/** What the host is asked while it may be killed: null when it was gone before it answered. Anything else is a defect. */
const unlessGone = async <T>(asked: Promise<T>): Promise<T | null> => {
  try {
    return await asked
  } catch (error) {
    if (error instanceof AppError && error.code === 'host.unreachable') return null
    throw error
  }
}

let marks = 0
const sqlOf = (doc: PipelineDoc, step: string): string =>
  (pipelineFromDoc(doc).steps.find(one => one.id === step) as { sql: string }).sql

/** Puts marks in front of a step's SQL, a change for each. True when they are acknowledged. */
const writeIn = async (
  view: DocumentView<PipelineDoc>,
  phase: Phase,
  step: string,
  count: number,
): Promise<true> => {
  let sql = sqlOf(view.doc, step)
  const added = Array.from({ length: count }, () => `-- ${phase} ${marks++};`)
  await view.editAll(
    added.map(mark => doc => {
      sql = `${mark}\n${sql}`
      return editPipeline(doc, 'type', d => updateStepSql(d, step, sql))
    }),
  )
  acknowledged.edits.push(...added.map(mark => ({ phase, step, mark })))
  return true
}
const write = async (to: Device, phase: Phase, step: string, count: number): Promise<void> => {
  await writeIn(await DocumentView.open<PipelineDoc>(to, pipeline), phase, step, count)
}

/** Types on until told to stop or the host is gone. */
const type = (phase: Phase): { stop: () => Promise<void> } => {
  let typing = true
  const going = (async () => {
    const view = await unlessGone(DocumentView.open<PipelineDoc>(device, pipeline))
    while (view && typing && (await unlessGone(writeIn(view, phase, orders, 1)))) await delay(40)
  })()
  // Awaited in `stop`; until then a rejection must not end the test's process.
  going.catch(() => undefined)
  return {
    stop: () => {
      typing = false
      return going
    },
  }
}

const startRun = async (phase: Phase): Promise<string> => {
  const run_id = newId()
  await device.session.value('run.start', { pipeline_id: pipeline, run_id, full: true })
  acknowledged.runs.push({ phase, run_id, cut: false })
  return run_id
}

const readRun = (run_id: string) => device.session.value('run.read', { run_id })
const isOver = ({ state }: { state: string }) => ['success', 'failed', 'cancelled'].includes(state)
const ended = async (run_id: string) =>
  until(`the run ${run_id} has ended`, async () => {
    const run = await readRun(run_id)
    return isOver(run) && run
  })

interface Work {
  /** `over` when the phase ended before it was seen to go on. */
  look(): Promise<'not yet' | 'now' | 'over'>
  /** Ends the work once the killed one is back; `cut` when that was the host. */
  end(cut: boolean): Promise<void>
}

const begin: Record<Phase, () => Promise<Work>> = {
  edits: async () => {
    const typing = type('edits')
    const before = acknowledged.edits.length
    return {
      look: async () => (acknowledged.edits.length > before ? 'now' : 'not yet'),
      end: () => typing.stop(),
    }
  },
  sync: async () => {
    await device.session.value('sync.pause', { paused: true })
    await write(device, 'sync', orders, 80)
    await write(other, 'sync', revenue, 20)
    await other.session.value('sync.now', {})
    await device.session.value('sync.pause', { paused: false })
    return {
      look: async () => {
        const now = await device.session.value('sync.state', {})
        if (now.state === 'in_sync') return 'over'
        return now.state === 'syncing' && now.waiting > 0 ? 'now' : 'not yet'
      },
      end: async () => undefined,
    }
  },
  publish: async () => {
    await write(device, 'publish', orders, 1)
    const publishing = unlessGone(
      device.session.value('version.publish', { pipeline_id: pipeline, message: 'm' }),
    )
    publishing.catch(() => undefined)
    return {
      look: async () => 'now',
      end: async () => {
        const published = await publishing
        if (published?.state === 'published')
          acknowledged.versions.push({ phase: 'publish', ...published.version })
        // Queued: it is sent when the server is back, and the sync state says until then that it waits.
        else if (published && published.state !== 'queued') throw new Error(JSON.stringify(published))
      },
    }
  },
  run: async () => {
    const typing = type('run')
    const run_id = await startRun('run')
    const { pid } = device
    return {
      look: async () => {
        if (runnerAtWork(pid) !== null) return 'now'
        return isOver(await readRun(run_id)) ? 'over' : 'not yet'
      },
      end: async cut => {
        await typing.stop()
        const run = acknowledged.runs.find(one => one.run_id === run_id)
        if (run) run.cut = cut
        await ended(run_id)
      },
    }
  },
  upload: async () => {
    const run_id = await startRun('upload')
    await ended(run_id)
    const upload = async () => (await readRun(run_id)).upload.state
    return {
      look: async () => {
        const now = await upload()
        if (now === 'done') return 'over'
        return now === 'uploading' ? 'now' : 'not yet'
      },
      end: async () => {
        await until(`the files of ${run_id} are delivered`, async () => (await upload()) === 'done')
        acknowledged.delivered.push(run_id)
      },
    }
  },
}

/** Kills the server or the host while a phase goes on, and starts it again. */
const crash = async (phase: Phase, victim: 'server' | 'host'): Promise<void> => {
  const work = await begin[phase]()
  let over = false
  const told = await soon(async () => {
    const seen = await work.look()
    over = seen === 'over'
    return seen !== 'not yet'
  })
  if (!told) throw new Error(`${phase} never went on`)
  if (over) {
    await work.end(false)
    return crash(phase, victim)
  }
  await delay(random() * SPAN[phase])
  const { pid } = victim === 'server' ? server : device
  if (!isAlive(pid)) throw new Error(`the ${victim} had ended by itself:\n${server.output().slice(-2000)}`)
  await (victim === 'server' ? server : device).kill()
  kills.add(phase, victim)
  if (victim === 'server') server = await startServer(Number(new URL(server.url).port))
  else device = await startHost(device.home)
  await work.end(victim === 'host')
}

/** Kills the runner in the middle of a step of a run, which nobody notices but its log. */
const crashRun = async (): Promise<void> => {
  const run_id = await startRun('run')
  const killed = await killRunnerAtWork(device.pid, random() * 100)
  const run = await ended(run_id)
  if (run.state !== 'success') throw new Error(`a run whose runner was killed: ${JSON.stringify(run)}`)
  // A step that was over before its moment came: the next run has another one.
  if (!killed) return crashRun()
  kills.add('run', 'runner')
}

/** Kills the runner of a preview, in the middle of what the preview has to make first. */
const crashPreview = async (n: number): Promise<void> => {
  const view = await DocumentView.open<PipelineDoc>(device, pipeline)
  // Another number of rows than any before: nothing of it is there.
  const sql = sqlOf(view.doc, orders).replace(/range\(\d+\)/, `range(${ROWS + n})`)
  await view.edit(doc => editPipeline(doc, 'more', d => updateStepSql(d, orders, sql)))
  const preview = () =>
    device.session.value('pipeline.preview', { pipeline_id: pipeline, step_id: revenue, params: {} })
  const [killed, first] = await Promise.all([killRunnerAtWork(device.pid, random() * 100), preview()])
  const shown = first.state === 'rows' ? first : await preview()
  if (shown.state !== 'rows') throw new Error(`a preview after a crash: ${JSON.stringify(shown)}`)
  const counted = shown.page.rows.reduce((sum, [, count]) => sum + Number(count), 0)
  expect(counted).toBe(ROWS + n)
  if (!killed) return crashPreview(n + 1)
  kills.add('preview', 'runner')
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
  const { steps } = pipelineFromDoc(await readDocument<PipelineDoc>(device, pipeline))
  orders = steps.find(step => step.name === 'orders')?.id as string
  revenue = steps.find(step => step.name === 'revenue')?.id as string
  const plan = await device.session.value('pipeline.plan', { pipeline_id: pipeline })
  const targets = plan.grants_needed.map(({ kind, target }) => ({ kind, target }))
  await device.session.value('grant.allow', { pipeline_id: pipeline, targets })
  await inSync(device)
  other = await startHost(folders.make('crash-other'))
  await until('the other device has the pipeline', async () => {
    const { pipelines } = await other.session.value('pipeline.list', {})
    return pipelines.length === 1
  })
})
afterAll(async () => {
  await Promise.all([device?.stop(), other?.stop()])
  await server?.stop()
  await database?.drop()
  folders.remove()
})

describe.skipIf(process.platform !== 'linux')('kill -9', () => {
  it(
    `of server, host and runner, ${CRASHES} times each, loses nothing that was acknowledged`,
    async () => {
      for (let n = 0; n < CRASHES; n++) {
        await crash(PHASES[n % 5] as Phase, 'server')
        await crash(PHASES[(n + 3) % 5] as Phase, 'host')
        await (n % 2 === 0 ? crashRun() : crashPreview(100 * n + 1))
      }
      console.log('killed', kills.table)
      for (const victim of ['server', 'host', 'runner']) expect(kills.of(victim), victim).toBe(CRASHES)
      if (CRASHES >= 5) for (const phase of PHASES) expect(kills.table).toHaveProperty(`host in ${phase}`)
      for (const phase of ['sync', 'publish', 'run'])
        expect(acknowledged.edits.filter(edit => edit.phase === phase).length, phase).toBeGreaterThan(0)
      expect(acknowledged.delivered.length).toBeGreaterThan(0)
      await inSync(device)

      // The flow goes on as if nothing had happened.
      const published = await device.session.value('version.publish', {
        pipeline_id: pipeline,
        message: 'end',
      })
      if (published.state !== 'published') throw new Error(JSON.stringify(published))
      acknowledged.versions.push({ phase: 'publish', ...published.version })
      const last = newId()
      await device.session.value('run.start', {
        pipeline_id: pipeline,
        run_id: last,
        version: published.version.number,
        full: true,
      })
      acknowledged.runs.push({ phase: 'run', run_id: last, cut: false })
      await until(
        'every run has ended and was sent',
        async () => {
          const { runs } = await device.session.value('run.list', { limit: 200 })
          for (const { run_id, cut } of acknowledged.runs) {
            const run = runs.find(one => one.run_id === run_id)
            if (!run) throw new Error(`the run ${run_id} is gone`)
            if (!isOver(run) || run.upload.state !== 'done')
              throw new Error(`${run.state}, ${JSON.stringify(run.upload)}`)
            if (run.state !== 'success' && !cut) expect.fail(`a run failed: ${JSON.stringify(run)}`)
          }
          return true
        },
        90_000,
      )
      const { drafts } = await device.session.value('draft.list', {})
      expect(drafts).toEqual([])

      // A third device, which has seen nothing of it, finds all of it on the server.
      const fresh = await startHost(folders.make('crash-fresh'))
      try {
        await until('the fresh device has the pipeline', async () => {
          const { pipelines } = await fresh.session.value('pipeline.list', {})
          return pipelines.length === 1
        })
        await Promise.all([inSync(fresh), inSync(other)])
        const views = await Promise.all(
          [device, other, fresh].map(each => DocumentView.open<PipelineDoc>(each, pipeline)),
        )
        for (const view of views) expect(view.heads).toEqual(views[0]?.heads)
        const { doc } = views[2] as DocumentView<PipelineDoc>
        const sql = new Map([orders, revenue].map(step => [step, sqlOf(doc, step)]))
        expect(acknowledged.edits.filter(({ step, mark }) => !sql.get(step)?.includes(mark))).toEqual([])

        const { versions } = await fresh.session.value('version.list', { pipeline_id: pipeline })
        for (const { version_id, number } of acknowledged.versions)
          expect(versions).toContainEqual(expect.objectContaining({ version_id, number }))
        expect(versions.map(version => version.number)).toEqual(
          versions.map((_, index) => versions.length - index),
        )

        const { runs } = await fresh.session.value('run.list', { limit: 200 })
        const known = new Map(runs.map(run => [run.run_id, run.state]))
        expect(acknowledged.runs.filter(run => !known.has(run.run_id))).toEqual([])
        expect(acknowledged.runs.filter(run => !run.cut && known.get(run.run_id) !== 'success')).toEqual([])
        for (const run_id of [...acknowledged.delivered, last]) {
          const { artifacts } = await fresh.session.value('run.artifacts', { run_id })
          const names = artifacts.map(artifact => artifact.name).toSorted()
          expect(names).toEqual(['metadata.json', 'orders.parquet', 'report.html', 'report.md'])
          // Verifies the sha256 of what was sent while everything was killed.
          for (const { artifact_id, bytes } of artifacts)
            expect(await fresh.session.value('run.download', { artifact_id })).toMatchObject({ bytes })
        }
      } finally {
        await fresh.stop()
      }
    },
    300_000 + 120_000 * CRASHES,
  )
})
