import type { ErrorBody, Result } from '@pluto-duck/crdt-model/errors'
import type {
  Bridge,
  InputOf,
  MethodName,
  OutputOf,
  PipelineEntry,
  SyncState,
} from '@pluto-duck/engine/contract'
import { getContext, setContext } from 'svelte'
import { v7 } from 'uuid'
import { Replicas } from '../documents/replicas.ts'
import { t } from '../words/index.ts'
import { tell, tellError } from './notify.ts'
import { OpenPipeline } from './open-pipeline.svelte.ts'
import { Router } from './route.svelte.ts'

type Info = OutputOf<'app.info'>
type Workspace = OutputOf<'workspace.list'>['workspaces'][number]
type Draft = OutputOf<'local_draft.list'>['drafts'][number]
export type Panel =
  | 'palette'
  | 'shortcuts'
  | 'publish'
  | 'sign-in'
  | 'sync'
  | 'import'
  | 'new'
  | 'invite'
  | null

/** What the whole window knows: the host, the workspace, its pipelines, the sync state and the pipeline that is open. */
export class App {
  readonly bridge: Bridge
  readonly router = new Router()
  info = $state.raw<Info | null>(null)
  workspaces = $state.raw<Workspace[]>([])
  pipelines = $state.raw<PipelineEntry[]>([])
  drafts = $state.raw<Draft[]>([])
  sync = $state.raw<SyncState | null>(null)
  connected = $state(true)
  loading = $state(true)
  /** Why the pipelines could not be listed: that there are none is not known then. */
  listError = $state.raw<ErrorBody | null>(null)
  draftsError = $state.raw<ErrorBody | null>(null)
  syncError = $state.raw<ErrorBody | null>(null)
  private workspacesError: ErrorBody | null = null
  open = $state.raw<OpenPipeline | null>(null)
  readonly replicas: Replicas
  /** Changes of all documents that the host has not stored yet. */
  unstored = $state(0)
  /** Those of them that it could not store when it was asked: they are in this window alone. */
  held = $state(0)
  panel = $state<Panel>(null)
  private readonly stops: (() => void)[] = []
  private listing: ReturnType<typeof setTimeout> | null = null

  constructor(bridge: Bridge) {
    this.bridge = bridge
    this.replicas = new Replicas(bridge, {
      waiting: (count, failing) => {
        this.unstored = count
        this.held = failing
      },
      refused: error => tellError(error, t.edit.notStored),
    })
    this.stops.push(
      bridge.on('sync.state', state => {
        const before = this.sync
        this.sync = state
        this.syncError = null
        if (before && (before.state === 'signed_out') !== (state.state === 'signed_out')) void this.readInfo()
      }),
      bridge.on('workspaces.changed', () => void this.followRole()),
      bridge.on('pipelines.changed', () => this.readListsSoon()),
      bridge.on('run.changed', run => {
        if (run.finished_at) this.readListsSoon()
      }),
      bridge.onConnection(connected => {
        const back = connected && !this.connected
        this.connected = connected
        if (back) void this.start()
      }),
    )
  }

  get workspace(): Workspace | null {
    return this.workspaces.find(workspace => workspace.selected) ?? null
  }

  /** Whether this person may make and change pipelines and schedules here; what is on this machine only is one's own. */
  get canEdit(): boolean {
    return !this.workspace?.remote || this.workspace.role !== 'viewer'
  }

  async start(): Promise<void> {
    await Promise.all([this.readInfo(), this.readWorkspaces(), this.readLists(), this.readSync()])
    this.loading = false
  }

  call<M extends MethodName>(method: M, input: InputOf<M>): Promise<Result<OutputOf<M>>> {
    return this.bridge.call(method, input)
  }

  /** A call whose error is told to the person; then the answer is null. */
  async ask<M extends MethodName>(method: M, input: InputOf<M>, what?: string): Promise<OutputOf<M> | null> {
    const result = await this.bridge.call(method, input)
    if (result.ok) return result.value
    tellError(result.error, what)
    return null
  }

  async readInfo(): Promise<void> {
    const info = await this.call('app.info', {})
    if (info.ok) this.info = info.value
  }

  async readWorkspaces(): Promise<void> {
    const read = await this.call('workspace.list', {})
    if (read.ok) this.workspaces = read.value.workspaces
    this.workspacesError = read.ok ? null : read.error
  }

  /** What this person may do may have changed while the window is open: it is said, and what is offered follows. */
  private async followRole(): Promise<void> {
    const before = this.workspace
    await this.readWorkspaces()
    const now = this.workspace
    if (before && now?.workspace_id === before.workspace_id && now.role !== before.role)
      tell(t.role.became[now.role])
  }

  async readSync(): Promise<void> {
    const read = await this.call('sync.state', {})
    if (read.ok) this.sync = read.value
    this.syncError = read.ok ? null : read.error
  }

  async readLists(): Promise<void> {
    const [pipelines, drafts] = await Promise.all([
      this.call('pipeline.list', {}),
      this.call('local_draft.list', {}),
    ])
    if (pipelines.ok) this.pipelines = pipelines.value.pipelines
    // A new machine has no workspace yet, and so no pipelines.
    this.listError = pipelines.ok || pipelines.error.code === 'workspace.not_found' ? null : pipelines.error
    if (drafts.ok) this.drafts = drafts.value.drafts
    this.draftsError = drafts.ok || drafts.error.code === 'workspace.not_found' ? null : drafts.error
  }

  readListsSoon(): void {
    this.listing ??= setTimeout(() => {
      this.listing = null
      void this.readLists()
    }, 120)
  }

  entry(pipelineId: string): PipelineEntry | undefined {
    return this.pipelines.find(pipeline => pipeline.pipeline_id === pipelineId)
  }

  /** Opens the pipeline of the address and closes the one before. */
  async show(pipelineId: string | null): Promise<void> {
    if (this.open?.id === pipelineId) return
    this.open?.close()
    this.open = pipelineId ? new OpenPipeline(this, pipelineId) : null
    await this.open?.start()
  }

  goTo(pipelineId: string): void {
    this.router.go({ at: 'pipeline', pipeline: pipelineId, tab: 'build', detail: null })
  }

  /** On a machine without any workspace the first thing that one makes begins a local one. Answers whether there is one. */
  async ensureWorkspace(): Promise<boolean> {
    if (this.workspace) return true
    // None is known, which is not the same as none: a second one would hide the first.
    if (this.workspacesError) await this.readWorkspaces()
    if (this.workspacesError) {
      tellError(this.workspacesError)
      return false
    }
    if (this.workspace) return true
    const made = await this.ask('workspace.create', { workspace_id: v7(), name: t.home.firstWorkspace })
    if (!made) return false
    if (!(await this.ask('workspace.select', { workspace_id: made.workspace_id }))) return false
    await this.start()
    return true
  }

  async createSample(): Promise<void> {
    if (!(await this.ensureWorkspace())) return
    const made = await this.ask('pipeline.create_sample', {})
    if (!made) return
    await this.readLists()
    this.goTo(made.pipeline_id)
  }

  async createPipeline(name: string): Promise<boolean> {
    if (!(await this.ensureWorkspace())) return false
    const made = await this.ask('pipeline.create', { pipeline_id: v7(), name })
    if (!made) return false
    await this.readLists()
    this.goTo(made.pipeline_id)
    return true
  }

  async selectWorkspace(workspaceId: string): Promise<void> {
    if (!(await this.ask('workspace.select', { workspace_id: workspaceId }))) return
    this.router.go({ at: 'home' })
    await this.start()
  }

  /** Puts aside a publish that waits for a person. */
  async dismissPublish(pipelineId: string): Promise<void> {
    const done = await this.ask('version.dismiss', { pipeline_id: pipelineId })
    if (done?.dismissed) tell(t.publish.dismissed)
    await this.readSync()
  }

  async setPaused(paused: boolean): Promise<void> {
    const state = await this.ask('sync.pause', { paused }, t.sync.failed)
    if (state) this.sync = state
  }

  async syncNow(): Promise<void> {
    const state = await this.ask('sync.now', {}, t.sync.failed)
    if (state) this.sync = state
  }

  close(): void {
    for (const stop of this.stops) stop()
    this.open?.close()
    this.replicas.close()
    this.router.close()
  }
}

const KEY = Symbol('app')
export const provideApp = (app: App): App => setContext(KEY, app)
export const useApp = (): App => getContext<App>(KEY)
