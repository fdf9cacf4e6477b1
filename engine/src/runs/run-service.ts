import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { version as duckdbVersion } from '@duckdb/node-api'
import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { Deliveries } from '../artifacts/deliveries.ts'
import { Ledger } from '../artifacts/ledger.ts'
import { type Clock, isoTime } from '../clock.ts'
import { ColumnLineage, RunnerChild } from '../compile/index.ts'
import type {
  ContractProblem,
  OutputOf,
  ParsedInputOf,
  PipelineEntry,
  RunView,
  StepProgress,
} from '../contract/index.ts'
import { assertGranted, Grants, grantView } from '../grants/grants.ts'
import type { TopicBus } from '../host/bus.ts'
import { readRunLog } from '../logs/index.ts'
import { type PlanResult, testLabel } from '../plan/index.ts'
import { RunnerPool } from '../runner/index.ts'
import { SourceHashes } from '../sources/source-state.ts'
import { JsonTable, type State } from '../state/index.ts'
import type { StepFacts } from '../versions/compare.ts'
import type { ServerCalls } from '../versions/server-calls.ts'
import { readIfThere } from '../warehouse/durable-files.ts'
import { Warehouse } from '../warehouse/index.ts'
import { ActiveRun } from './active-run.ts'
import { carryOut } from './carry-out.ts'
import { Preparation, type Prepared, type Target } from './preparation.ts'
import { previewStep } from './preview.ts'
import { PrivateMessages } from './private-messages.ts'
import { ResultPages } from './result-pages.ts'
import { RunJournal } from './run-journal.ts'
import { isOver, type OccurrenceHeld, type RunRecord, runRecord } from './run-record.ts'
import { runViewOf, withMessages } from './run-view.ts'
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
}

/** Runs that are carried out at the same time; more wait as `pending`. */
const AT_ONCE = 2
/** Runs that are looked at after a start: those that a crash left unended are among the newest. */
const LOOKED_BACK = 500
/** How long a result that nothing points at any more can still be taken again or compared. */
const KEEP_RESULTS_MS = 14 * 24 * 3600 * 1000
/** How often the log of a run that goes on is sent. */
const LOG_MS = 2_000

/**
 * Everything about compiling, planning, previewing and running pipelines on this machine, and about keeping the server told.
 * Methods answer as the contract's methods of the same name.
 */
export class RunService {
  readonly #parts: RunServiceParts
  readonly #table: JsonTable<typeof runRecord>
  readonly #sql: RunnerChild
  readonly #pool: RunnerPool
  readonly #lineage = new ColumnLineage()
  readonly #warehouse: Warehouse
  readonly #grants: Grants
  readonly #preparation: Preparation
  readonly #pages: ResultPages
  readonly #messages: PrivateMessages
  readonly #ledger: Ledger
  readonly #deliveries: Deliveries
  readonly #server: ServerRuns
  readonly #starting = new Map<string, Promise<RunView>>()
  readonly #active = new Map<string, ActiveRun>()
  readonly #queue: (() => void)[] = []
  readonly #previews = new Set<AbortController>()
  #busy = 0
  #closed = false

  private constructor(parts: RunServiceParts) {
    this.#parts = parts
    const { state, dataFolder, clock, server } = parts
    const tempRoot = join(dataFolder, 'tmp')
    const now = () => clock.now()
    this.#table = new JsonTable(state, 'runs', runRecord)
    this.#pool = new RunnerPool({ tempRoot })
    this.#sql = new RunnerChild(this.#pool)
    this.#warehouse = new Warehouse(dataFolder)
    this.#grants = new Grants(state, now)
    this.#messages = new PrivateMessages(join(dataFolder, 'private'))
    this.#ledger = new Ledger(state)
    this.#preparation = new Preparation({
      sql: this.#sql,
      grants: this.#grants,
      hashes: new SourceHashes(join(dataFolder, 'cache', 'source-hashes.json'), now),
      warehouse: this.#warehouse,
      remote: workspaceId => parts.remote(workspaceId),
    })
    this.#pages = new ResultPages({ warehouse: this.#warehouse, pool: this.#pool, clock })
    this.#deliveries = new Deliveries({
      state,
      dataFolder,
      server,
      ledger: this.#ledger,
      clock,
      run: runId => this.#record(runId),
      changed: runId => void this.#tell(runId),
      broken: (runId, error) =>
        parts.log.error({ run_id: runId, err: error }, 'the delivery of a run broke off'),
    })
    this.#server = new ServerRuns({
      server,
      dataFolder,
      clock,
      log: parts.log,
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
    const recent = await this.#table.list({ limit: LOOKED_BACK })
    for (const record of recent) {
      if (isOver(record) || this.#active.has(record.run_id)) continue
      const journal = this.#journal(record)
      journal.say('error', 'The program ended while this run was going on.', { cause: 'internal' })
      journal.close()
      await this.#save({ ...record, ...this.#brokenOff(record) })
    }
    await this.#deliveries.load()
    this.#deliveries.online()
    void this.#collect(new Set(recent.map(record => record.workspace_id)))
  }

  /** The connection is back: what waits is sent. */
  async online(): Promise<void> {
    this.#deliveries.online()
  }

  /** The server said that a run changed: views hear of a colleague's; this machine's own tell by themselves. */
  async heard(runId: string): Promise<void> {
    if (await this.#record(runId)) return
    this.#parts.bus.publish('run.changed', await this.#server.read(runId))
  }

  /** Cancels what runs, and ends every child process. */
  async close(): Promise<void> {
    this.#closed = true
    for (const preview of this.#previews) preview.abort()
    for (const run of this.#active.values()) run.abort.abort()
    await Promise.allSettled([...this.#active.values()].map(run => run.ended))
    await this.#deliveries.close()
    await this.#pages.close()
    await Promise.all([this.#pool.close(), this.#sql.close(), this.#lineage.close()])
  }

  async compile(pipelineId: string): Promise<OutputOf<'pipeline.compile'>> {
    const prepared = await this.#prepare(pipelineId, null)
    const { compiled } = prepared
    return {
      problems: [...compiled.problems, ...notAllowed(prepared)],
      steps: compiled.steps.map(step => ({
        step_id: step.step_id,
        name: step.name,
        depends_on: [...step.depends_on],
        sources: [...step.sources],
        columns: step.columns ? [...step.columns] : null,
      })),
      sources: compiled.sources.map(({ name, columns }) => ({
        name,
        columns: columns ? [...columns] : null,
      })),
    }
  }

  async lineage(input: ParsedInputOf<'pipeline.lineage'>): Promise<OutputOf<'pipeline.lineage'>> {
    const { compiled, target } = await this.#prepare(input.pipeline_id, null)
    const { edges } = await this.#lineage.trace(target.definition, compiled, input.step_id, input.column)
    return { edges: [...edges] }
  }

  async plan(input: ParsedInputOf<'pipeline.plan'>): Promise<OutputOf<'pipeline.plan'>> {
    const prepared = await this.#prepare(input.pipeline_id, input.version, input.params)
    const { compiled, missing, target } = prepared
    const problems = [...compiled.problems]
    const grants_needed = missing.map(grantView)
    const publishes = this.#parts.remote(target.workspaceId)
    if (problems.some(problem => problem.severity === 'error') || missing.length > 0) {
      return {
        problems,
        steps: unplanned(prepared),
        reads: wouldRead(prepared),
        publishes: [],
        grants_needed,
      }
    }
    const planned = await this.#preparation.plan(prepared, {
      run_id: newId(),
      select: input.select,
      full: input.full,
    })
    return {
      problems,
      steps: planned.steps.map(step => ({
        step_id: step.step_id,
        name: step.name,
        action: step.action,
        reason: step.reason.words,
        materialize: step.materialize,
      })),
      reads: planned.reads.map(({ source, path, files, bytes }) => ({ source, path, files, bytes })),
      publishes: publishes
        ? planned.publishes.map(({ what, columns, max_rows }) => ({ what, columns: [...columns], max_rows }))
        : [],
      grants_needed,
    }
  }

  async preview(input: ParsedInputOf<'pipeline.preview'>): Promise<OutputOf<'pipeline.preview'>> {
    const prepared = await this.#prepare(input.pipeline_id, null, input.params)
    const abort = new AbortController()
    this.#previews.add(abort)
    try {
      const { clock, dataFolder } = this.#parts
      const parts = {
        preparation: this.#preparation,
        warehouse: this.#warehouse,
        pool: this.#pool,
        dataFolder,
        clock,
      }
      return await previewStep(prepared, input.step_id, input.limit, parts, abort.signal)
    } finally {
      this.#previews.delete(abort)
    }
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
  async start(input: ParsedInputOf<'run.start'>, occurrence: OccurrenceHeld | null = null): Promise<RunView> {
    const known = await this.#record(input.run_id)
    if (known) {
      if (known.pipeline_id === input.pipeline_id) return this.#view(known)
      throw new AppError('request.id_taken', 'There is another run with this id.')
    }
    const starting = this.#starting.get(input.run_id)
    if (starting) return starting
    const started = this.#begin(input, occurrence).finally(() => this.#starting.delete(input.run_id))
    this.#starting.set(input.run_id, started)
    return started
  }

  async cancel(runId: string): Promise<RunView> {
    const active = this.#active.get(runId)
    active?.abort.abort()
    await active?.ended
    const record = await this.#record(runId)
    if (!record) throw notFound()
    return this.#view(record)
  }

  /**
   * Why a version cannot run on this machine as things are, or null when it can. Names sources and codes, never a path of this
   * machine: it is told to the server. Throws what keeps it from being looked at.
   */
  async obstacle(pipelineId: string, version: number): Promise<string | null> {
    const { missing, compiled } = await this.#prepare(pipelineId, version)
    if (missing.length > 0) {
      const wanted = missing.map(({ kind, source, target }) =>
        kind === 'read' ? `reading source.${source}` : `sending ${target}`,
      )
      return `Not allowed on this machine yet: ${[...new Set(wanted)].join('; ')}. Open the pipeline there and allow it.`
    }
    const errors = compiled.problems.filter(problem => problem.severity === 'error')
    if (errors.length === 0) return null
    return `It has problems on this machine: ${[...new Set(errors.map(problem => problem.code))].join(', ')}.`
  }

  /** A run of this machine; null when it has none with this id. Never asks the server. */
  async here(runId: string): Promise<RunRecord | null> {
    return this.#record(runId)
  }

  /** Resolves when nothing of the run goes on here any more. */
  async ended(runId: string): Promise<void> {
    await this.#active.get(runId)?.ended
  }

  async list(workspaceId: string, input: ParsedInputOf<'run.list'>): Promise<OutputOf<'run.list'>> {
    const { pipeline_id, limit } = input
    const stored = await this.#table.list(pipeline_id ? { parent: pipeline_id, limit } : { limit: limit * 4 })
    const mine = stored.filter(record => record.workspace_id === workspaceId).slice(0, limit)
    const views = await Promise.all(mine.map(record => this.#view(record)))
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
    const record = await this.#record(runId)
    return record ? this.#view(record) : this.#server.read(runId)
  }

  async log({ run_id, after_line }: ParsedInputOf<'run.log'>): Promise<OutputOf<'run.log'>> {
    const here = await this.#record(run_id)
    const lines = here ? await readRunLog(this.#parts.dataFolder, run_id) : await this.#server.log(run_id)
    return { lines: lines.slice(after_line), next_line: Math.max(after_line, lines.length) }
  }

  async artifacts(runId: string): Promise<OutputOf<'run.artifacts'>> {
    const record = await this.#record(runId)
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

  /** What is known of each step of a definition, by step id: shape from compile, rows where exactly this was made here. */
  async stepFacts(pipelineId: string, definition: PipelineDefinition): Promise<Map<string, StepFacts>> {
    const target = { ...(await this.#parts.resolve(pipelineId, null)), definition }
    const prepared = await this.#preparation.prepare(pipelineId, target)
    const rows = await this.#rowsOf(prepared)
    return new Map(
      prepared.compiled.steps.map(step => [
        step.step_id,
        {
          columns: step.columns,
          rows: rows.get(step.step_id) ?? null,
          normalized_sql: step.normalized_sql,
          depends_on: step.depends_on,
        },
      ]),
    )
  }

  async lastRun(pipelineId: string): Promise<PipelineEntry['last_run']> {
    const [last] = await this.#table.list({ parent: pipelineId, limit: 1 })
    return last ? { run_id: last.run_id, state: last.state, finished_at: last.finished_at } : null
  }

  async #begin(input: ParsedInputOf<'run.start'>, occurrence: OccurrenceHeld | null): Promise<RunView> {
    if (this.#closed) throw new AppError('service.unavailable', 'The program is ending.')
    const prepared = await this.#prepare(input.pipeline_id, input.version, input.params)
    assertGranted(prepared.missing)
    const planned = await this.#preparation.plan(prepared, {
      run_id: input.run_id,
      select: input.select,
      full: input.full,
    })
    const record = this.#newRecord(input, occurrence, prepared.target, planned)
    await this.#save(record)
    if (record.remote) {
      await this.#deliveries.begin(record)
      this.#deliveries.kick(record.run_id)
    }
    const run = new ActiveRun(record, {
      log: this.#journal(record),
      labels: labelsOf(prepared.target.definition),
      save: changed => this.#save(changed),
      show: (changed, steps) => this.#viewOf(changed, steps),
      publish: view => this.#parts.bus.publish('run.changed', view),
      unseen: error =>
        this.#parts.log.error({ run_id: record.run_id, err: error }, 'a run could not be shown'),
    })
    this.#active.set(record.run_id, run)
    void this.#carryOut(run, planned, prepared.target.definition)
    return run.view()
  }

  async #carryOut(run: ActiveRun, planned: PlanResult, definition: PipelineDefinition): Promise<void> {
    const { run_id } = run.record
    const { dataFolder, clock } = this.#parts
    const telling = setInterval(() => run.record.remote && this.#deliveries.kick(run_id), LOG_MS)
    try {
      await this.#turn(run.abort.signal)
      await carryOut(run, planned, definition, {
        dataFolder,
        clock,
        warehouse: this.#warehouse,
        pool: this.#pool,
        messages: this.#messages,
        duckdb: duckdbVersion(),
        outgoing: (record, files) => this.#deliveries.add(record, files),
      })
    } catch (error) {
      this.#parts.log.error(
        { run_id, code: error instanceof AppError ? error.code : 'internal' },
        'a run broke off',
      )
      run.log.say('error', 'The run broke off.', { cause: 'internal' })
      run.log.close()
      await run
        .change(this.#brokenOff(run.record))
        .catch(() => this.#parts.log.error({ run_id }, 'the end of a run could not be stored'))
    } finally {
      clearInterval(telling)
      this.#active.delete(run_id)
      run.stop()
      this.#busy -= 1
      this.#queue.shift()?.()
      if (run.record.remote) this.#deliveries.kick(run_id)
    }
  }

  /** Waits until few enough runs go on, or until this one is cancelled. */
  async #turn(signal: AbortSignal): Promise<void> {
    if (this.#busy >= AT_ONCE && !signal.aborted) {
      await new Promise<void>(resolve => {
        this.#queue.push(resolve)
        const leave = () => {
          const at = this.#queue.indexOf(resolve)
          if (at >= 0) this.#queue.splice(at, 1)
          resolve()
        }
        signal.addEventListener('abort', leave, { once: true })
      })
    }
    this.#busy += 1
  }

  #newRecord(
    input: ParsedInputOf<'run.start'>,
    occurrence: OccurrenceHeld | null,
    target: Target,
    planned: PlanResult,
  ): RunRecord {
    return {
      format: 'pluto-run/1',
      run_id: input.run_id,
      workspace_id: target.workspaceId,
      pipeline_id: input.pipeline_id,
      pipeline: target.pipelineName,
      version: target.version,
      heads: [...target.heads],
      trigger: occurrence ? 'schedule' : 'manual',
      occurrence,
      state: 'pending',
      cause: null,
      failed_step: null,
      run_by: { ...this.#parts.who() },
      device_id: this.#parts.deviceId,
      created_at: isoTime(this.#parts.clock.now()),
      started_at: null,
      finished_at: null,
      steps: planned.steps.map(step => ({
        step_id: step.step_id,
        name: step.name,
        state: step.action === 'skip' ? 'skipped' : 'waiting',
        percent: null,
        rows: null,
        started_at: null,
        duration_ms: null,
        cause: null,
        message: null,
        reason: step.reason.words,
        tests: [],
      })),
      has_report: false,
      manifest: null,
      remote: this.#parts.remote(target.workspaceId),
    }
  }

  async #prepare(
    pipelineId: string,
    version: number | null,
    params: ParsedInputOf<'run.start'>['params'] = {},
  ): Promise<Prepared> {
    return this.#preparation.prepare(pipelineId, await this.#parts.resolve(pipelineId, version), params)
  }

  /** By step id, where the result that this definition would make is on this machine. */
  async #rowsOf(prepared: Prepared): Promise<Map<string, number>> {
    const rows = new Map<string, number>()
    const ready =
      prepared.missing.length === 0 && prepared.compiled.problems.every(one => one.severity !== 'error')
    if (!ready || prepared.compiled.steps.length === 0) return rows
    try {
      const { steps } = await this.#preparation.plan(prepared, { run_id: newId(), select: null, full: false })
      for (const step of steps) {
        const record = await this.#warehouse.result(prepared.target.workspaceId, step.fingerprint.result)
        if (record) rows.set(step.step_id, record.rows)
      }
    } catch (error) {
      // A param without a value, say: then nothing of it was made.
      if (!(error instanceof AppError)) throw error
    }
    return rows
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

  /** What becomes of a run that cannot go on. */
  #brokenOff(record: RunRecord): Partial<RunRecord> {
    const steps = record.steps.map(step => ({ ...step, ...afterCrash(step.state) }))
    const failed_step = steps.find(step => step.state === 'failed')?.name ?? null
    const finished_at = isoTime(this.#parts.clock.now())
    return { state: 'failed', cause: 'internal', failed_step, finished_at, steps }
  }

  /** Old results that nothing points at make room. */
  async #collect(workspaces: ReadonlySet<string>): Promise<void> {
    const now = this.#parts.clock.now()
    for (const workspaceId of workspaces) {
      await this.#warehouse
        .collect(workspaceId, { keep: new Set(), olderThanMs: KEEP_RESULTS_MS, now })
        .catch(error => this.#parts.log.error({ err: error }, 'old results could not be removed'))
    }
  }

  async #workspaceOf(pipelineId: string): Promise<string> {
    return (await this.#parts.resolve(pipelineId, null)).workspaceId
  }

  #journal(record: RunRecord): RunJournal {
    const { dataFolder, clock, bus } = this.#parts
    const { run_id } = record
    return new RunJournal(
      dataFolder,
      record,
      () => clock.now(),
      lines => bus.publish('run.log', { run_id, lines }),
    )
  }

  async #record(runId: string): Promise<RunRecord | null> {
    return this.#active.get(runId)?.record ?? (await this.#table.get(runId))
  }

  #save(record: RunRecord): Promise<void> {
    return this.#table.put(record.run_id, { parent: record.pipeline_id, at: record.created_at }, record)
  }

  async #view(record: RunRecord): Promise<RunView> {
    const active = this.#active.get(record.run_id)
    if (active) return active.view()
    return this.#viewOf(record, withMessages(record.steps, await this.#messages.read(record.run_id)))
  }

  async #viewOf(record: RunRecord, steps: readonly StepProgress[]): Promise<RunView> {
    return runViewOf(record, steps, record.remote ? await this.#deliveries.get(record.run_id) : null)
  }

  /** Something about how much of a run was sent changed. */
  async #tell(runId: string): Promise<void> {
    try {
      const record = await this.#record(runId)
      // A run that goes on tells its views by itself.
      if (record && !this.#active.has(runId)) this.#parts.bus.publish('run.changed', await this.#view(record))
    } catch (error) {
      this.#parts.log.error({ run_id: runId, err: error }, 'a run could not be shown')
    }
  }
}

const notFound = (): AppError => new AppError('run.not_found', 'There is no such run on this machine.')

const afterCrash = (state: StepProgress['state']): Partial<RunRecord['steps'][number]> => {
  if (state === 'running' || state === 'testing') return { state: 'failed', cause: 'internal' }
  return state === 'waiting' ? { state: 'skipped' } : {}
}

const labelsOf = (definition: PipelineDefinition): Map<string, string> =>
  new Map(definition.steps.flatMap(step => step.tests.map(test => [test.id, testLabel(test)] as const)))

const notAllowed = ({ missing }: Prepared): ContractProblem[] =>
  missing
    .filter(wanted => wanted.source !== null)
    .map(wanted => ({
      code: 'source.not_allowed',
      message: `source.${wanted.source} waits for you to allow reading ${wanted.target}.`,
      hint: 'Review what the pipeline wants to touch and allow it.',
      severity: 'warning',
      file: 'pipeline.yaml',
      line: null,
      column: null,
      step_id: null,
    }))

/** The steps of a plan that cannot be made yet. */
const unplanned = ({ compiled, target, missing }: Prepared): OutputOf<'pipeline.plan'>['steps'] =>
  compiled.steps.map(step => ({
    step_id: step.step_id,
    name: step.name,
    action: 'run',
    reason:
      missing.length > 0 ? 'It waits for what you have to allow.' : 'It waits for the problems to be mended.',
    materialize: target.definition.steps.find(one => one.id === step.step_id)?.materialize ?? 'table',
  }))

const wouldRead = ({ sources }: Prepared): OutputOf<'pipeline.plan'>['reads'] =>
  Object.values(sources).flatMap(source =>
    source.state === 'ready'
      ? [
          {
            source: source.name,
            path: source.definition.path,
            files: source.files.length,
            bytes: source.files.reduce((sum, file) => sum + file.size, 0),
          },
        ]
      : [],
  )
