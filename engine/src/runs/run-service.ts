import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { Deliveries } from '../artifacts/deliveries.ts'
import { Ledger } from '../artifacts/ledger.ts'
import type { Clock } from '../clock.ts'
import { ColumnLineage, RunnerChild } from '../compile/index.ts'
import type { OutputOf, ParsedInputOf, PipelineEntry, RunView } from '../contract/index.ts'
import { Grants } from '../grants/grants.ts'
import type { TopicBus } from '../host/bus.ts'
import { readRunLog } from '../logs/index.ts'
import { RunnerPool } from '../runner/index.ts'
import { SourceHashes } from '../sources/source-state.ts'
import type { State } from '../state/index.ts'
import type { StepFacts } from '../versions/compare.ts'
import type { ServerCalls } from '../versions/server-calls.ts'
import { readIfThere } from '../warehouse/durable-files.ts'
import { Warehouse } from '../warehouse/index.ts'
import { Conductor } from './conductor.ts'
import { Inspection } from './inspection.ts'
import { OldResults } from './old-results.ts'
import { Preparation, type Target } from './preparation.ts'
import { PrivateMessages } from './private-messages.ts'
import { ResultPages } from './result-pages.ts'
import { RunBook } from './run-book.ts'
import type { OccurrenceHeld, RunRecord } from './run-record.ts'
import { ServerRuns } from './server-runs.ts'

export interface RunServiceParts {
  readonly state: State
  readonly dataFolder: string
  readonly server: ServerCalls
  readonly bus: TopicBus
  readonly clock: Clock
  readonly log: { error(context: Record<string, unknown>, message: string): void }
  readonly deviceId: string
  /** A pipeline as it is written now (`null`) or as a version. Throws `pipeline.not_found`, `version.not_found`. */
  resolve(pipelineId: string, version: number | null): Promise<Target>
  who(): { readonly user_id: string; readonly name: string }
  /** Whether the workspace is on a server: its runs are then recorded there. */
  remote(workspaceId: string): boolean
  /** Whether a workspace is on the server that is asked now, of the person who is signed in. Of any other nothing is sent. */
  sends(workspaceId: string): Promise<boolean>
}

/** Runs that are looked at after a start: those that a crash left unended are among the newest. */
const LOOKED_BACK = 500
/** How long a caller of `deliver` is kept waiting. */
const DELIVER_MS = 60_000
/**
 * Everything about compiling, planning, previewing and running pipelines on this machine, and about keeping the server told.
 * Methods answer as the contract's methods of the same name.
 */
export class RunService {
  readonly #parts: RunServiceParts
  readonly #book: RunBook
  readonly #inspection: Inspection
  readonly #conductor: Conductor
  readonly #pages: ResultPages
  readonly #oldResults: OldResults
  readonly #grants: Grants
  readonly #ledger: Ledger
  readonly #deliveries: Deliveries
  readonly #server: ServerRuns
  readonly #sql: RunnerChild
  readonly #pool: RunnerPool
  readonly #lineage = new ColumnLineage()

  private constructor(parts: RunServiceParts) {
    this.#parts = parts
    const { state, dataFolder, clock, server, bus, log } = parts
    const now = () => clock.now()
    const warehouse = new Warehouse(dataFolder)
    const messages = new PrivateMessages(join(dataFolder, 'private'))
    const pool = new RunnerPool({ tempRoot: join(dataFolder, 'tmp') })
    this.#pool = pool
    this.#sql = new RunnerChild(pool)
    this.#grants = new Grants(state, now)
    this.#ledger = new Ledger(state)
    const book = new RunBook({
      state,
      bus,
      messages,
      log,
      delivery: runId => this.#deliveries.get(runId),
    })
    this.#book = book
    this.#deliveries = new Deliveries({
      state,
      dataFolder,
      server,
      ledger: this.#ledger,
      clock,
      run: runId => book.get(runId),
      here: workspaceId => parts.sends(workspaceId),
      changed: runId => void book.tell(runId),
      broken: (runId, error) => log.error({ run_id: runId, err: error }, 'the delivery of a run broke off'),
    })
    const preparation = new Preparation({
      sql: this.#sql,
      grants: this.#grants,
      hashes: new SourceHashes(join(dataFolder, 'cache', 'source-hashes.json'), now),
      warehouse,
      remote: workspaceId => parts.remote(workspaceId),
    })
    this.#inspection = new Inspection({
      preparation,
      lineage: this.#lineage,
      warehouse,
      pool,
      dataFolder,
      clock,
      resolve: (pipelineId, version) => parts.resolve(pipelineId, version),
      remote: workspaceId => parts.remote(workspaceId),
    })
    this.#conductor = new Conductor({
      book,
      inspection: this.#inspection,
      preparation,
      deliveries: this.#deliveries,
      warehouse,
      pool,
      messages,
      dataFolder,
      deviceId: parts.deviceId,
      bus,
      clock,
      log,
      who: () => parts.who(),
      remote: workspaceId => parts.remote(workspaceId),
    })
    this.#pages = new ResultPages({ warehouse, pool, clock })
    this.#oldResults = new OldResults({ warehouse, book, clock, log })
    this.#server = new ServerRuns({
      server,
      dataFolder,
      clock,
      log,
      nameOf: pipelineId =>
        parts.resolve(pipelineId, null).then(
          target => target.pipelineName,
          () => pipelineId,
        ),
    })
  }

  static async open(parts: RunServiceParts): Promise<RunService> {
    // What runners of an earlier process left behind.
    await rm(join(parts.dataFolder, 'tmp'), { recursive: true, force: true })
    const service = new RunService(parts)
    service.#pool.warm()
    return service
  }

  /** Runs that a crash left unended become failed, and what the server was not told yet is told. Call it once, at start-up. */
  async resume(): Promise<void> {
    await this.#conductor.endBroken(await this.#book.readable(LOOKED_BACK))
    await this.#deliveries.load()
    this.#deliveries.online()
    this.#oldResults.watch()
  }

  /** The connection is back: what waits is sent. */
  online(): void {
    this.#deliveries.online()
  }

  /** This machine and the server have the same documents now. */
  synced(): void {
    this.#deliveries.synced()
  }

  /** Runs that the server was not told all of, and why some of them wait. */
  unsent(): Promise<OutputOf<'run.unsent'>> {
    return this.#deliveries.unsent()
  }

  deliver(runIds: readonly string[]): Promise<OutputOf<'run.deliver'>['runs']> {
    return this.#deliveries.deliver(runIds, DELIVER_MS)
  }

  /** The server said that a run changed: views hear of a colleague's; this machine's own tell by themselves. */
  async heard(runId: string): Promise<void> {
    if (await this.#book.get(runId)) return
    this.#parts.bus.publish('run.changed', await this.#server.read(runId))
  }

  /** Cancels what runs, and ends every child process. */
  async close(): Promise<void> {
    this.#inspection.stop()
    await this.#conductor.close()
    await this.#oldResults.close()
    await this.#deliveries.close()
    await this.#pages.close()
    await Promise.all([this.#pool.close(), this.#sql.close(), this.#lineage.close()])
  }

  compile(pipelineId: string): Promise<OutputOf<'pipeline.compile'>> {
    return this.#inspection.compile(pipelineId)
  }
  lineage(input: ParsedInputOf<'pipeline.lineage'>): Promise<OutputOf<'pipeline.lineage'>> {
    return this.#inspection.lineage(input)
  }
  plan(input: ParsedInputOf<'pipeline.plan'>): Promise<OutputOf<'pipeline.plan'>> {
    return this.#inspection.plan(input)
  }
  preview(input: ParsedInputOf<'pipeline.preview'>): Promise<OutputOf<'pipeline.preview'>> {
    return this.#inspection.preview(input)
  }
  /** What is known of each step of a definition, by step id: shape from compile, rows where exactly this was made here. */
  stepFacts(pipelineId: string, definition: PipelineDefinition): Promise<Map<string, StepFacts>> {
    return this.#inspection.stepFacts(pipelineId, definition)
  }

  allow(input: ParsedInputOf<'grant.allow'>): Promise<OutputOf<'grant.allow'>> {
    return this.#grants.allow(input)
  }
  listGrants(): Promise<OutputOf<'grant.list'>> {
    return this.#grants.list()
  }
  revoke(input: ParsedInputOf<'grant.revoke'>): Promise<OutputOf<'grant.revoke'>> {
    return this.#grants.revoke(input)
  }
  ledger(): Promise<OutputOf<'ledger.list'>> {
    return this.#ledger.list()
  }

  /**
   * Begins a run; answers when it is recorded on this machine. The same id again answers the same run. Throws `grant.required`,
   * `compile.failed`, `request.id_taken` and what else keeps it from beginning: then there is no run.
   *
   * @param occurrence what a scheduled run was taken for; leave it out for a person's.
   */
  start(input: ParsedInputOf<'run.start'>, occurrence: OccurrenceHeld | null = null): Promise<RunView> {
    return this.#conductor.start(input, occurrence)
  }
  /** Why a version cannot run on this machine as things are, in words that may be told to the server; null when it can. */
  obstacle(pipelineId: string, version: number): Promise<string | null> {
    return this.#inspection.obstacle(pipelineId, version)
  }
  /** A run of this machine; null when it has none with this id. Never asks the server. */
  here(runId: string): Promise<RunRecord | null> {
    return this.#book.get(runId)
  }
  /** Resolves when nothing of the run goes on here any more. */
  async ended(runId: string): Promise<void> {
    await this.#book.goingOn(runId)?.ended
  }
  /** Answers when the run has ended. */
  cancel(runId: string): Promise<RunView> {
    return this.#conductor.cancel(runId)
  }
  /** The last run of each pipeline. */
  lastRuns(): Promise<Map<string, PipelineEntry['last_run']>> {
    return this.#book.lastRuns()
  }

  async list(workspaceId: string, input: ParsedInputOf<'run.list'>): Promise<OutputOf<'run.list'>> {
    const { pipeline_id, limit } = input
    const stored = await this.#book.list(pipeline_id ? { parent: pipeline_id, limit } : { limit: limit * 4 })
    const mine = stored.filter(record => record.workspace_id === workspaceId).slice(0, limit)
    const views = await Promise.all(mine.map(record => this.#book.view(record)))
    if (this.#parts.remote(workspaceId)) {
      const here = new Set(stored.map(record => record.run_id))
      for (const run of await this.#server.list(workspaceId, pipeline_id, limit)) {
        if (!here.has(run.run_id)) views.push(run)
      }
    }
    const newestFirst = (a: RunView, b: RunView) =>
      b.created_at.localeCompare(a.created_at) || b.run_id.localeCompare(a.run_id)
    return { runs: views.sort(newestFirst).slice(0, limit) }
  }

  async read(runId: string): Promise<RunView> {
    const record = await this.#book.get(runId)
    return record ? this.#book.view(record) : this.#server.read(runId)
  }

  async log({ run_id, after_line }: ParsedInputOf<'run.log'>): Promise<OutputOf<'run.log'>> {
    const here = await this.#book.get(run_id)
    const lines = here ? await readRunLog(this.#parts.dataFolder, run_id) : await this.#server.log(run_id)
    return { lines: lines.slice(after_line), next_line: Math.max(after_line, lines.length) }
  }

  async artifacts(runId: string): Promise<OutputOf<'run.artifacts'>> {
    const record = await this.#book.get(runId)
    if (record && !record.remote) return { artifacts: [] }
    return this.#server.artifacts(runId)
  }

  async download(artifactId: string): Promise<OutputOf<'run.download'>> {
    const { artifact, path } = await this.#server.download(artifactId)
    return { path, bytes: artifact.bytes }
  }

  async rows(input: ParsedInputOf<'result.rows'>): Promise<OutputOf<'result.rows'>> {
    return this.#pages.rows(await this.#workspaceOf(input.pipeline_id), input)
  }

  async summary(input: ParsedInputOf<'result.summary'>): Promise<OutputOf<'result.summary'>> {
    return this.#pages.summary(await this.#workspaceOf(input.pipeline_id), input)
  }

  async report(input: ParsedInputOf<'report.read'>): Promise<OutputOf<'report.read'>> {
    if ('run_id' in input) return (await this.#reportOf(await this.read(input.run_id))) ?? { state: 'none' }
    const workspaceId = await this.#workspaceOf(input.pipeline_id)
    const { runs } = await this.list(workspaceId, { pipeline_id: input.pipeline_id, limit: 20 })
    for (const run of runs) {
      if (run.state !== 'success') continue
      const report = await this.#reportOf(run)
      if (report) return report
    }
    return { state: 'none' }
  }

  async #reportOf(run: RunView): Promise<OutputOf<'report.read'> | null> {
    const about = { state: 'report' as const, run_id: run.run_id, version: run.version }
    if (run.local) {
      if (!run.has_report) return null
      const html = await readIfThere(join(this.#parts.dataFolder, 'reports', run.run_id, 'report.html'))
      return html === null ? null : { ...about, html, created_at: run.finished_at ?? run.created_at }
    }
    const report = await this.#server.report(run.run_id)
    const html = report && (await readIfThere(report.path))
    return html === null ? null : { ...about, html, created_at: report?.created_at ?? run.created_at }
  }

  async #workspaceOf(pipelineId: string): Promise<string> {
    return (await this.#parts.resolve(pipelineId, null)).workspaceId
  }
}
