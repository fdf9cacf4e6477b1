import {
  editPipeline,
  type PipelineDefinition,
  type PipelineDoc,
  pipelineFromDoc,
  removeStep,
  restoreStep,
  type StepDefinition,
} from '@pluto-duck/crdt-model'
import { AppError, type ErrorBody, toAppError } from '@pluto-duck/crdt-model/errors'
import type { ContractMark, ContractProblem, LogLine, OutputOf, RunView } from '@pluto-duck/engine/contract'
import { tick } from 'svelte'
import { v7 } from 'uuid'
import { AWAY, type Replica, type ReplicaChange } from '../documents/replica.ts'
import { t } from '../words/index.ts'
import type { App } from './app.svelte.ts'
import { CommentsState } from './comments.svelte.ts'
import { tell, tellError } from './notify.ts'
import { PresenceState } from './presence.svelte.ts'
import { PreviewState } from './preview.svelte.ts'

type Compiled = OutputOf<'pipeline.compile'>
type Version = OutputOf<'version.list'>['versions'][number]
type Plan = OutputOf<'pipeline.plan'>
export type Needed = Plan['grants_needed'][number]
export type Grants = {
  readonly needed: readonly Needed[]
  readonly plan: Plan | null
  readonly then: () => void
}

const COMPILE_MS = 250
const READ_MS = 40
const LOG_LIMIT = 5000
const LOG_MS = 120
export const ENDED = new Set(['success', 'failed', 'skipped', 'cancelled'])

/** One pipeline as it is worked on: its replica, what it compiles to, its runs, versions and marks. */
export class OpenPipeline {
  readonly app: App
  readonly id: string
  replica = $state.raw<Replica<PipelineDoc> | null>(null)
  /** What a long pipeline holds, to be read while it is being loaded. */
  private readFirst = $state.raw<PipelineDoc | null>(null)
  definition = $state.raw<PipelineDefinition | null>(null)
  compiled = $state.raw<Compiled | null>(null)
  compileError = $state.raw<ErrorBody | null>(null)
  runs = $state.raw<RunView[]>([])
  runsRead = $state(false)
  /** Why the runs, or the versions, could not be read: what is shown of them may be old or nothing. */
  runsError = $state.raw<ErrorBody | null>(null)
  versionsError = $state.raw<ErrorBody | null>(null)
  versionsRead = $state(false)
  logs = $state.raw<Record<string, LogLine[]>>({})
  /** Why the log of a run could not be read, by run. */
  logErrors = $state.raw<Record<string, ErrorBody>>({})
  versions = $state.raw<Version[]>([])
  marks = $state.raw<ContractMark[]>([])
  /** Why the marks could not be read: then nobody knows whether two people met. */
  marksError = $state.raw<ErrorBody | null>(null)
  private marksAsked = 0
  error = $state.raw<ErrorBody | null>(null)
  readOnlyReason = $state<string | null>(null)
  grants = $state.raw<Grants | null>(null)
  starting = $state(false)
  readonly preview = new PreviewState(this)
  readonly comments = new CommentsState(this)
  readonly presence: PresenceState
  private readonly stops: (() => void)[] = []
  private readonly listeners = new Set<(change: ReplicaChange) => void>()
  private compileTimer: ReturnType<typeof setTimeout> | null = null
  private readTimer: ReturnType<typeof setTimeout> | null = null
  private compileAgain = false
  private logTimer: ReturnType<typeof setTimeout> | null = null
  private readonly logNext = new Map<string, number>()
  private compiling = false
  private openingNow = false
  private closed = false
  private connected = true

  constructor(app: App, id: string) {
    this.app = app
    this.id = id
    this.presence = new PresenceState(app, id)
    const { bridge } = app
    this.stops.push(
      bridge.on('run.changed', run => {
        if (run.pipeline_id === id) this.takeRun(run)
      }),
      bridge.on('run.log', ({ run_id }) => {
        if (this.logs[run_id]) this.readLogSoon(run_id)
      }),
      // What could not be read is there again. A replica that is open looks by itself.
      bridge.on('document.reset', event => {
        if (event.document_id === id && this.replica === null) void this.start()
      }),
      bridge.onConnection(connected => {
        const back = connected && !this.connected
        this.connected = connected
        if (!back) return
        if (this.replica) void this.readAgain()
        else if (this.error !== null) void this.start()
      }),
      bridge.on('pipelines.changed', event => {
        if (event.pipeline_id === null || event.pipeline_id === id) {
          void this.readVersions()
          void this.readMarks()
        }
      }),
    )
  }

  get steps(): readonly StepDefinition[] {
    return this.definition?.steps ?? []
  }
  get problems(): readonly ContractProblem[] {
    return this.compiled?.problems ?? []
  }
  get latestRun(): RunView | null {
    return this.runs[0] ?? null
  }
  get activeRun(): RunView | null {
    return this.runs.find(run => run.local && !ENDED.has(run.state)) ?? null
  }
  get readOnly(): boolean {
    return this.opening || this.readOnlyReason !== null
  }
  /** It can be read already, and is still being loaded. */
  get opening(): boolean {
    return this.readFirst !== null
  }
  /** What is shown: not to be kept, as the next change may free it. */
  get doc(): PipelineDoc | null {
    return this.replica?.doc ?? this.readFirst
  }
  step(id: string | null): StepDefinition | null {
    return this.steps.find(step => step.id === id) ?? null
  }

  /** Opens the document, or tries again what failed: `error` says whether it did. */
  async start(): Promise<void> {
    if (this.replica) return await this.replica.openAgain()
    if (this.openingNow || this.closed) return
    this.openingNow = true
    const opened = await this.app.replicas.open<PipelineDoc>(this.id, content => this.show(content))
    this.openingNow = false
    if (this.closed) {
      if (opened.ok) this.app.replicas.leave(opened.value)
      return
    }
    if (!opened.ok) {
      this.error = opened.error
      this.readFirst = null
      // The host finds the same when it reads the document itself, and fetches it anew.
      if (opened.error.code === 'document.corrupt') this.compileSoon(0)
      return
    }
    const replica = opened.value
    // Of a host that is away the whole window says so, and what is typed meanwhile is kept.
    const takeError = (error: ErrorBody | null): void => {
      this.error = error && !AWAY.has(error.code) ? error : null
    }
    takeError(replica.openError)
    this.readOnlyReason = replica.readOnlyReason
    this.definition = pipelineFromDoc(replica.doc)
    this.replica = replica
    this.readFirst = null
    this.stops.push(
      replica.onChange(change => {
        const { origin } = change
        for (const listener of this.listeners) listener(change)
        this.readOnlyReason = replica.readOnlyReason
        if (origin === 'local') this.readDefinition()
        else this.readTimer ??= setTimeout(() => this.readDefinition(), READ_MS)
        this.compileSoon()
      }),
      replica.onAppend(state => {
        if (state.state === 'failed' && !AWAY.has(state.error.code)) tellError(state.error, t.edit.notStored)
      }),
      replica.onOpen(takeError),
    )
    for (const listener of this.listeners) listener({ patches: [], origin: 'reopened' })
    this.compileSoon(0)
    await this.readAgain()
  }

  /** Reads what is told by events: while the host was away none came. The document is read by its replica. */
  private async readAgain(): Promise<void> {
    const running = this.activeRun
    this.preview.readAgain()
    const logs = Object.keys(this.logs).map(runId => this.readLog(runId))
    await Promise.all([
      this.readRuns().then(() => {
        if (running && !this.activeRun) this.preview.resultChanged()
      }),
      this.readVersions(),
      this.readMarks(),
      this.comments.start(),
      this.preview.summaryError && this.preview.readSummary(),
      ...logs,
    ])
  }

  /** Resolves when what the pipeline holds is on the screen: loading leaves no time for that. */
  private async show(content: PipelineDoc): Promise<void> {
    if (this.closed) return
    this.definition = pipelineFromDoc(content)
    this.readFirst = content
    await tick()
    // A window that nobody sees paints nothing.
    if (document.hidden) return
    await new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)))
  }

  /** Hears about changes of what is shown; empty patches mean that anything may differ. */
  onChange(listener: (change: ReplicaChange) => void): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  /** Makes one edit; what it refuses is told to the person. Answers whether it was made. */
  edit(message: string, change: (d: PipelineDoc) => void, origin: unknown = 'local'): boolean {
    if (!this.replica) return false
    if (this.readOnly) {
      tellError(new AppError('change.permission', this.readOnlyReason || t.edit.readOnly).toBody())
      return false
    }
    try {
      this.replica.change(doc => editPipeline(doc, message, change), origin)
      return true
    } catch (error) {
      tellError(toAppError(error).toBody())
      return false
    }
  }

  removeStep(step: StepDefinition): void {
    if (!this.edit('remove step', d => removeStep(d, step.id))) return
    tell(t.edit.stepRemoved(step.name), () => this.edit('restore step', d => restoreStep(d, step.id)))
  }

  private readDefinition(): void {
    if (this.readTimer) clearTimeout(this.readTimer)
    this.readTimer = null
    if (this.replica && !this.closed) this.definition = pipelineFromDoc(this.replica.doc)
  }

  private compileSoon(after = COMPILE_MS): void {
    if (this.compileTimer) clearTimeout(this.compileTimer)
    this.compileTimer = setTimeout(() => void this.compile(), after)
  }

  private async compile(): Promise<void> {
    if (this.compiling) {
      this.compileAgain = true
      return
    }
    this.compiling = true
    await this.replica?.stored()
    const compiled = await this.app.call('pipeline.compile', { pipeline_id: this.id })
    this.compiling = false
    if (this.closed) return
    if (compiled.ok) this.compiled = compiled.value
    this.compileError = compiled.ok ? null : compiled.error
    if (this.compileAgain) {
      this.compileAgain = false
      this.compileSoon()
    }
  }

  async readRuns(): Promise<void> {
    const read = await this.app.call('run.list', { pipeline_id: this.id, limit: 100 })
    if (read.ok) this.runs = read.value.runs
    this.runsError = read.ok ? null : read.error
    this.runsRead = true
  }

  async readVersions(): Promise<void> {
    const read = await this.app.call('version.list', { pipeline_id: this.id })
    if (read.ok) this.versions = read.value.versions
    this.versionsError = read.ok ? null : read.error
    this.versionsRead = true
  }

  async readMarks(): Promise<void> {
    const asked = ++this.marksAsked
    const read = await this.app.call('pipeline.marks', { pipeline_id: this.id })
    // A later question's answer may have come first.
    if (asked !== this.marksAsked) return
    if (read.ok) this.marks = read.value.marks
    // Of a host that is away the whole window says so, and they are read when it is back.
    this.marksError = read.ok || AWAY.has(read.error.code) ? null : read.error
  }

  async reviewMark(mark: ContractMark, reviewed: boolean): Promise<void> {
    await this.replica?.stored()
    const read = await this.app.ask('pipeline.review_mark', {
      pipeline_id: this.id,
      mark_id: mark.id,
      reviewed,
    })
    if (!read) return
    this.marksAsked++
    this.marks = read.marks
    this.marksError = null
  }

  /** Reads the lines that are new since the last time. */
  async readLog(runId: string): Promise<void> {
    const after = this.logNext.get(runId) ?? 0
    const read = await this.app.call('run.log', { run_id: runId, after_line: after })
    if (!read.ok) this.logErrors = { ...this.logErrors, [runId]: read.error }
    else if (this.logErrors[runId]) {
      const { [runId]: _passed, ...others } = this.logErrors
      this.logErrors = others
    }
    // Another read of the same lines was quicker.
    if (!read.ok || (this.logNext.get(runId) ?? 0) !== after) return
    this.logNext.set(runId, read.value.next_line)
    this.logs = {
      ...this.logs,
      [runId]: [...(this.logs[runId] ?? []), ...read.value.lines].slice(-LOG_LIMIT),
    }
  }

  private readLogSoon(runId: string): void {
    this.logTimer ??= setTimeout(() => {
      this.logTimer = null
      void this.readLog(runId)
    }, LOG_MS)
  }

  private takeRun(run: RunView): void {
    const at = this.runs.findIndex(held => held.run_id === run.run_id)
    // A terminal state never changes, so a late event can't bring a run back to life.
    if (at >= 0 && ENDED.has(this.runs[at]!.state) && !ENDED.has(run.state)) return
    this.runs = at < 0 ? [run, ...this.runs] : this.runs.with(at, run)
    if (!ENDED.has(run.state)) return
    if (this.logs[run.run_id]) this.readLogSoon(run.run_id)
    this.preview.resultChanged()
  }

  /** Runs the working state; asks for grants first when it needs some. */
  async run(select: string | null = null): Promise<void> {
    if (this.activeRun || this.starting) return
    this.starting = true
    try {
      // A run of what is not on the screen would be worse than none.
      const failure = await this.replica?.stored()
      if (failure) return tellError(failure, t.run.notStarted)
      const run_id = v7()
      const started = await this.app.call('run.start', { pipeline_id: this.id, run_id, select })
      if (started.ok) {
        this.takeRun(started.value)
        await this.readLog(run_id)
        return
      }
      if (started.error.code === 'grant.required') await this.askGrants(() => void this.run(select))
      else tellError(started.error, t.run.notStarted)
    } finally {
      this.starting = false
    }
  }

  /** Shows what this pipeline wants to touch on this machine; `then` goes on once it is allowed. */
  async askGrants(then: () => void): Promise<void> {
    const plan = await this.app.ask('pipeline.plan', { pipeline_id: this.id })
    if (plan) this.grants = { needed: plan.grants_needed, plan, then }
  }

  async allow(): Promise<void> {
    const { grants } = this
    if (!grants) return
    const targets = grants.needed.map(({ kind, target }) => ({ kind, target }))
    if (!(await this.app.ask('grant.allow', { pipeline_id: this.id, targets }))) return
    this.grants = null
    grants.then()
  }

  async cancel(run: RunView): Promise<void> {
    const cancelled = await this.app.ask('run.cancel', { run_id: run.run_id })
    if (cancelled) this.takeRun(cancelled)
  }

  close(): void {
    this.closed = true
    for (const stop of this.stops) stop()
    if (this.compileTimer) clearTimeout(this.compileTimer)
    if (this.readTimer) clearTimeout(this.readTimer)
    if (this.logTimer) clearTimeout(this.logTimer)
    this.presence.close()
    this.comments.close()
    if (this.replica) this.app.replicas.leave(this.replica)
  }
}
