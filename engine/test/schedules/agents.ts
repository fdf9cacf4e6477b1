import { mkdtempSync, rmSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as Automerge from '@automerge/automerge'
import { createPipeline, pipelineDefinition } from '@pluto-duck/crdt-model'
import {
  changeRoutes,
  encodeSequence,
  newId,
  scheduleRoutes,
  versionRoutes,
} from '@pluto-duck/crdt-model/protocol'
import pg from 'pg'
import { systemClock } from '../../src/clock.ts'
import { TopicBus } from '../../src/host/bus.ts'
import { RunService } from '../../src/runs/index.ts'
import { ScheduleAgent, type ScheduleAgentParts } from '../../src/schedules/index.ts'
import type { Claim } from '../../src/schedules/plan.ts'
import { Settings, State } from '../../src/state/index.ts'
import { WireClient } from '../../src/sync/index.ts'
import { Colleagues, type Person } from '../runs/colleagues.ts'

const START = Date.parse('2027-03-01T06:00:30.000Z')
/** Pauses are cut short, so that a test need not wait for the next look. */
const HASTY = {
  now: () => Date.now(),
  sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(Math.min(ms, 100), signal),
}
const SILENT: ScheduleAgentParts['log'] = {
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
}

export interface Occurrence {
  readonly due_at: string
  readonly state: string
  readonly agent_id: string | null
  readonly run_id: string | null
  readonly reason: string | null
}

/** The real server with a clock that the test moves, and agents on machines of their own. */
export class Agency {
  readonly server: Colleagues
  readonly ann: Person
  readonly workspaceId: string
  readonly sql: pg.Pool
  readonly #clock: { now: number }

  private constructor(
    server: Colleagues,
    ann: Person,
    workspaceId: string,
    sql: pg.Pool,
    clock: { now: number },
  ) {
    this.server = server
    this.ann = ann
    this.workspaceId = workspaceId
    this.sql = sql
    this.#clock = clock
  }

  static async start(): Promise<Agency> {
    const clock = { now: START }
    const server = await Colleagues.start({ clock: { now: () => new Date(clock.now) } })
    const ann = await server.person('ann')
    const workspaceId = await server.workspace(ann)
    const sql = new pg.Pool({ connectionString: server.database.url, max: 2 })
    return new Agency(server, ann, workspaceId, sql, clock)
  }

  async stop(): Promise<void> {
    await this.sql.end()
    await this.server.stop()
  }

  /** Moves the server's clock. */
  pass(seconds: number): void {
    this.#clock.now += seconds * 1000
  }

  /** Publishes a pipeline as its version 1, on the server. */
  async pipeline(definition: object): Promise<Published> {
    const parsed = pipelineDefinition.parse(definition)
    const doc = createPipeline(parsed)
    const pipelineId = newId()
    const about = { document_id: pipelineId, kind: 'pipeline' as const, subject: null, base: null }
    const items = Automerge.getAllChanges(doc).map(bytes => ({ ...about, bytes }))
    const { wire, deviceId } = this.ann
    await wire.call(changeRoutes.append, {
      params: { workspace_id: this.workspaceId },
      query: {},
      body: encodeSequence([{ v: 1, device_id: deviceId, live: true }, ...items]),
    })
    const heads = Automerge.getHeads(doc)
    await wire.call(versionRoutes.publish, {
      body: {
        workspace_id: this.workspaceId,
        pipeline_id: pipelineId,
        version_id: newId(),
        heads,
        parent: null,
      },
    })
    return { pipelineId, definition: parsed, heads }
  }

  async schedule(pipelineId: string, more: { missed?: 'skip' | 'latest' | 'all' } = {}): Promise<string> {
    const schedule_id = newId()
    const about = {
      workspace_id: this.workspaceId,
      pipeline_id: pipelineId,
      cron: '* * * * *',
      timezone: 'UTC',
    }
    await this.ann.wire.call(scheduleRoutes.create, { body: { schedule_id, ...about, ...more } })
    return schedule_id
  }

  async update(schedule_id: string, body: { enabled?: boolean; cron?: string }): Promise<void> {
    await this.ann.wire.call(scheduleRoutes.update, { params: { schedule_id }, body })
  }

  /** What the server's table says of a schedule's occurrences, oldest first. */
  async occurrences(scheduleId: string): Promise<Occurrence[]> {
    const { rows } = await this.sql.query(
      'select due_at, state, agent_id, run_id, reason from occurrences where schedule_id = $1 order by due_at',
      [scheduleId],
    )
    return rows
  }

  async runs(scheduleId: string): Promise<{ id: string; state: string; device_id: string }[]> {
    const { rows } = await this.sql.query(
      'select id, state, device_id, trigger, version, due_at, fencing_token from runs where schedule_id = $1 order by id',
      [scheduleId],
    )
    return rows
  }

  async machine(published: Published): Promise<AgentMachine> {
    const machine = new AgentMachine(this, published)
    await machine.open()
    return machine
  }
}

export interface Published {
  readonly pipelineId: string
  readonly definition: ReturnType<typeof pipelineDefinition.parse>
  readonly heads: readonly string[]
}

/** A machine of Ann's with one pipeline, whose agent can be ended and begun again on the same data folder. */
export class AgentMachine {
  readonly deviceId = newId()
  readonly folder = mkdtempSync(join(tmpdir(), 'pluto-agent-'))
  online = true
  /** Requests that its agent and its runs sent, by route. */
  readonly asked: string[] = []
  /** Called before each request of the agent's is sent. */
  before: (path: string) => void = () => undefined
  /** Its disk takes nothing more that the agent wants to keep. */
  full = false
  /** Workspaces of another server, or of somebody else. */
  readonly foreign = new Set<string>()
  /** A run begins when this resolves. */
  ready: Promise<void> = Promise.resolve()
  /** Runs that were to begin, and that were cancelled. */
  readonly begun: string[] = []
  readonly cancelled: string[] = []
  /** What its agent said went wrong: that something was lost, or could not be done. */
  warned = 0
  failed = 0
  runs!: RunService
  agent!: ScheduleAgent
  /** What its agent logged of how things went. */
  readonly logged: Record<string, unknown>[] = []
  readonly #agency: Agency
  readonly #published: Published
  #state!: State

  constructor(agency: Agency, published: Published) {
    this.#agency = agency
    this.#published = published
  }

  async open(): Promise<void> {
    const { ann, server, workspaceId } = this.#agency
    const { definition, heads } = this.#published
    const filesDir = join(this.folder, 'files')
    await mkdir(filesDir, { recursive: true })
    this.#state = await State.open(this.folder)
    const wire = new WireClient({
      server: server.server.url,
      deviceId: this.deviceId,
      token: async () => ann.token,
      fetch: async (input, init) => {
        const path = new URL(String(input)).pathname
        this.asked.push(path)
        this.before(path)
        if (!this.online) throw new TypeError('fetch failed')
        return await fetch(input, init)
      },
    })
    this.runs = await RunService.open({
      state: this.#state,
      dataFolder: this.folder,
      server: { call: async (route, request) => (await wire.call(route, request as never)).value as never },
      bus: new TopicBus(error => {
        throw error
      }),
      clock: HASTY,
      log: SILENT,
      deviceId: this.deviceId,
      resolve: async (_pipelineId, version) => ({
        definition,
        heads,
        version,
        workspaceId,
        base: null,
        pipelineName: definition.name,
        filesDir,
      }),
      who: () => ({ user_id: ann.id, name: ann.name }),
      remote: () => true,
      sends: async () => true,
    })
    await this.runs.resume()
    this.agent = await ScheduleAgent.open({
      deviceId: this.deviceId,
      settings: this.#settings(),
      clock: HASTY,
      log: {
        info: facts => void this.logged.push(facts),
        warn: () => this.warned++,
        error: () => this.failed++,
      },
      client: () => wire,
      workspaceId: () => workspaceId,
      own: async id => !this.foreign.has(id),
      knows: pipelineId => pipelineId === this.#published.pipelineId,
      runs: this.#runsThatWait(),
    })
  }

  /** What it holds at its next start. */
  async holds(claims: readonly Claim[]): Promise<void> {
    await new Settings(this.#state).set('schedule_claims', JSON.stringify(claims))
  }

  #settings(): Settings {
    const settings = new Settings(this.#state)
    const set = settings.set.bind(settings)
    settings.set = (key, value) =>
      this.full ? Promise.reject(new Error('No space left on device')) : set(key, value)
    return settings
  }

  #runsThatWait(): ScheduleAgentParts['runs'] {
    const { runs } = this
    return {
      obstacle: (pipelineId, version) => runs.obstacle(pipelineId, version),
      here: runId => runs.here(runId),
      ended: runId => runs.ended(runId),
      start: async (input, occurrence) => {
        this.begun.push(input.run_id)
        await this.ready
        return await runs.start(input, occurrence)
      },
      cancel: runId => {
        this.cancelled.push(runId)
        return runs.cancel(runId)
      },
    }
  }

  async file(name: string, text: string): Promise<void> {
    await writeFile(join(this.folder, 'files', name), text)
  }

  async allowAll(): Promise<void> {
    const pipeline_id = this.#published.pipelineId
    const input = { pipeline_id, version: 1, params: {}, select: null, full: false }
    const plan = await this.runs.plan(input)
    await this.runs.allow({ pipeline_id, targets: plan.grants_needed })
  }

  /** Ends the agent and the runs, as a quit of the program does. */
  async shut(): Promise<void> {
    await this.agent.close()
    await this.runs.close()
    await this.#state.close()
  }

  async close(): Promise<void> {
    await this.shut()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Looks again until it answers something; 30 s at most. */
export async function until<T>(look: () => Promise<T | null | undefined | false>): Promise<T> {
  const end = Date.now() + 30_000
  for (;;) {
    const found = await look()
    if (found) return found
    if (Date.now() > end) throw new Error('It did not come to that within 30 s.')
    await new Promise(resolve => setTimeout(resolve, 50))
  }
}
