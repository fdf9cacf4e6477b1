import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import {
  changeRoutes,
  DOCUMENT_WRITERS,
  identityRoutes,
  type LiveEvent,
  type Role,
} from '@pluto-duck/crdt-model/protocol'
import type { z } from 'zod'
import type { ContractMark, OutputOf, SyncState, workspaceEntry } from '../contract/index.ts'
import type { DocumentInfo, Newer } from '../documents/index.ts'
import type { WorkspaceRow } from '../state/index.ts'
import { Sync, type SyncNews, type SyncStatus } from '../sync/index.ts'
import { Authorship, type NamedRecords } from './authorship.ts'
import { Memberships } from './memberships.ts'
import { needsOf } from './needs.ts'
import type { WorkspaceParts } from './workspace-parts.ts'

type WorkspaceEntry = z.infer<typeof workspaceEntry>

const SELECTED = 'workspace'
const PAUSED = 'paused'
/** How long a caller of `syncNow` is kept waiting. */
const SYNC_WAIT_MS = 30_000

/**
 * The open workspace of this installation and its sync: which one it is, what state it is in, what needs the person. One
 * workspace is open at a time; the others keep their documents and are synced when they are opened.
 */
export class OpenWorkspace {
  readonly #p: WorkspaceParts
  #row: WorkspaceRow | null = null
  #sync: Sync | null = null
  #background = false
  readonly #memberships: Memberships
  readonly #authorship: Authorship
  #looking: Promise<void> | null = null
  /** One at a time: each may take a workspace off this machine. */
  #refreshing: Promise<void> = Promise.resolve()
  #paused = false
  /** The server was out of reach: what it told meanwhile was not heard. */
  #away = false
  /** Nothing was sent for a while: the next time that it is caught up, what waited after a failure is tried at once. */
  #returning = true
  #lastState = ''

  private constructor(parts: WorkspaceParts, memberships: Memberships) {
    this.#p = parts
    this.#memberships = memberships
    const quiet = (error: unknown): void => this.#quiet(error)
    this.#authorship = new Authorship(parts, () => this.connected, quiet)
  }

  static async open(parts: WorkspaceParts): Promise<OpenWorkspace> {
    const workspace = new OpenWorkspace(parts, await Memberships.open(parts))
    workspace.#paused = (await parts.settings.get(PAUSED)) === 'true'
    const selected = await parts.settings.get(SELECTED)
    const rows = await parts.workspaces.list()
    workspace.#row = rows.find(row => row.workspace_id === selected) ?? rows[0] ?? null
    parts.documents.on(event => {
      if (event.kind === 'listed') parts.bus.publish('pipelines.changed', { pipeline_id: event.documentId })
      if (event.kind !== 'changes') void workspace.#tell()
    })
    return workspace
  }

  /** Throws `workspace.not_found` while none is open. */
  get id(): string {
    if (!this.#row) {
      throw new AppError('workspace.not_found', 'No workspace is open.', {
        hint: 'Make one: `pluto workspace create NAME`, or sign in.',
      })
    }
    return this.#row.workspace_id
  }

  get remote(): boolean {
    return this.#row?.remote ?? false
  }

  /** The open workspace is on the server that this installation talks to, and of the person who is signed in. */
  get reachable(): boolean {
    return this.#row?.remote === true && this.#isHere(this.#row)
  }

  /**
   * Whether a workspace is on that server and of that person; while nobody is known to be signed in none is. One that is not here any more
   * belongs to nobody: the server refuses what is left of it, and that is over.
   */
  async isOwn(workspaceId: string): Promise<boolean> {
    const row = await this.#p.workspaces.get(workspaceId)
    const { person } = this.#p.account
    return row === null || row.user_id === null || row.user_id === person?.id
  }

  get role(): Role {
    return this.#row?.role ?? 'viewer'
  }

  /** A person said that nothing is to be sent or fetched for now. */
  get paused(): boolean {
    return this.#paused
  }

  /** Is there a connection that a publish can go over soon? */
  get connected(): boolean {
    const state = this.#sync?.status().state
    return state === 'in_sync' || state === 'syncing'
  }

  /** Asks for a round of sync soon, without waiting for it. */
  nudge(): void {
    void this.#sync?.now()
  }

  /** The folder in which relative paths of sources start, on this machine. */
  get filesDir(): string {
    return this.filesDirOf(this.id)
  }

  filesDirOf(workspaceId: string): string {
    const dir = join(this.#p.folder, 'files', workspaceId)
    mkdirSync(dir, { recursive: true })
    return dir
  }

  /** Syncs in the background from now on (the app and `pluto serve`); without it only `syncNow` syncs. */
  async startBackground(): Promise<void> {
    this.#background = true
    await this.#refreshIfOnline()
    await this.#startSync()
  }

  async list(): Promise<WorkspaceEntry[]> {
    // A host in the background hears of changes; a command that runs once has to ask.
    if (!this.#background) await this.#refreshIfOnline()
    const rows = await this.#p.workspaces.list()
    return rows.map(row => entryOf(row, this.#row))
  }

  async select(workspaceId: string): Promise<void> {
    const row = await this.#p.workspaces.get(workspaceId)
    if (!row) throw new AppError('workspace.not_found', 'You have no such workspace on this machine.')
    await this.#open(row)
  }

  /** On the server when one is signed in to; else on this machine only, until it is. */
  async create(workspaceId: string, name: string): Promise<WorkspaceEntry> {
    const remote = this.#p.account.token !== null
    if (remote)
      await this.#p.server.call(identityRoutes.createWorkspace, { body: { workspace_id: workspaceId, name } })
    const user_id = remote ? (this.#p.account.person?.id ?? null) : null
    await this.#p.workspaces.put({ workspace_id: workspaceId, name, role: 'owner', remote, user_id })
    const row = await this.#p.workspaces.get(workspaceId)
    if (!row) throw new AppError('internal', 'The workspace was not stored.')
    await this.#open(row)
    return entryOf(row, this.#row)
  }

  /** Another server from now on: nobody is signed in there, and what synced with the one before ends. */
  async connect(server: string): Promise<void> {
    const { account } = this.#p
    const before = account.server
    try {
      await account.connect(server)
    } finally {
      if (account.server !== before) {
        await this.#stopSync()
        await this.#tell()
      }
    }
  }

  /** After a sign-in: who it is, their workspaces, and those made here before, which go to the server now. */
  async signedIn(): Promise<void> {
    await this.#stopSync()
    try {
      await this.#refresh()
      const own = this.#first(await this.#p.workspaces.list())
      if (own && this.#row && !this.#isHere(this.#row)) await this.#open(own)
    } finally {
      // Also when the server went away in between: the sync tries again by itself.
      await this.#startSync()
    }
  }

  async signOut(): Promise<void> {
    await this.#stopSync()
    try {
      if (this.#p.account.token) await this.#p.server.call(identityRoutes.signOut, {})
    } catch (error) {
      // Out of reach or ended already: the token is erased here all the same.
      this.#quiet(error)
    }
    try {
      await this.#p.account.forget()
    } finally {
      await this.#tell()
    }
  }

  async syncState(): Promise<SyncState> {
    const status = this.#sync?.status()
    const needs = this.#row ? await needsOf(this.#p, this.#row.workspace_id, status?.diverged ?? []) : []
    const base = {
      waiting:
        status?.waiting ??
        (this.#row ? this.#p.documents.waiting({ workspaceId: this.#row.workspace_id }) : 0),
      waiting_publishes: this.#p.publisher.waiting(this.#row?.workspace_id ?? ''),
      paused: this.#paused,
      seq: status?.seq ?? this.#row?.cursor ?? 0,
      last_synced_at: status?.last_synced_at ?? this.#row?.last_synced_at ?? null,
      devices_online: status?.devices_online ?? 0,
      error: status?.error ?? null,
      needs,
    }
    return { state: this.#stateWord(status?.state ?? null, needs.length > 0), ...base }
  }

  async syncNow(): Promise<SyncState> {
    await this.#refreshIfOnline()
    if (!this.#row) return this.syncState()
    await this.#startSync(true)
    if (this.#sync) {
      await Promise.race([this.#sync.now(), this.#p.clock.sleep(SYNC_WAIT_MS)])
      await this.#p.publisher.settled(this.id)
    }
    return this.syncState()
  }

  /** Looks at every document of the open workspace; what cannot be read is fetched anew. */
  async repair(): Promise<OutputOf<'sync.repair'>> {
    const { documents } = this.#p
    const found = this.#row ? await documents.check(this.#row.workspace_id) : { documents: 0, unreadable: [] }
    const state = await this.syncNow()
    const named = (ids: readonly string[]): string[] =>
      ids.filter(id => documents.has(id)).map(id => documents.info(id).title || id)
    const still = new Set(this.#row ? documents.unreadable(this.#row.workspace_id) : [])
    return {
      state,
      documents: found.documents,
      unreadable: named(found.unreadable),
      left: named(found.unreadable.filter(id => still.has(id))),
    }
  }

  async pause(paused: boolean): Promise<SyncState> {
    this.#paused = paused
    await this.#p.settings.set(PAUSED, String(paused))
    this.#returning ||= !paused
    this.#sync?.pause(paused)
    if (!paused) await this.#startSync()
    await this.#tell()
    return this.syncState()
  }

  readOnlyReason(info: DocumentInfo, newer: Newer | null): string | null {
    if (newer)
      return `A newer version of Pluto Duck wrote this (schema ${newer.version}; this one knows ${newer.known}). It is kept and synced; update to edit, publish or run it.`
    if (!this.remote || DOCUMENT_WRITERS[info.kind].includes(this.role)) return null
    return 'You are a viewer of this workspace: an edit is kept as a private draft. Ask an owner for the editor role.'
  }

  marks(pipelineId: string): Promise<ContractMark[]> {
    return this.#authorship.marks(pipelineId)
  }

  /** Marks as the server gave them. */
  marksOfServer(documentId: string, marks: unknown): Promise<ContractMark[]> {
    return this.#authorship.marksOfServer(documentId, marks)
  }

  async reviewMark(pipelineId: string, markId: string, reviewed: boolean): Promise<ContractMark[]> {
    await this.#p.marks.review(pipelineId, markId, reviewed)
    await this.#tell()
    return this.marks(pipelineId)
  }

  /** Who made which change, by the server's records; null while it has none, and for what it does not know. */
  authors(documentId: string, hashes: readonly string[]): Promise<OutputOf<'document.authors'>['authors']> {
    return this.#authorship.authors(documentId, hashes)
  }

  /** The server's records of changes, with names; nothing for a change that it does not have. */
  recordsOf(documentId: string, hashes: readonly string[]): Promise<NamedRecords> {
    return this.#authorship.recordsOf(documentId, hashes)
  }

  async presence(documentId: string | null, at: string | null): Promise<void> {
    if (!this.reachable || this.#sync?.status().state === 'offline' || !this.#p.account.token) return
    try {
      await this.#p.server.call(changeRoutes.presence, {
        params: { workspace_id: this.id },
        body: { document_id: documentId, at },
      })
    } catch (error) {
      // Presence is a courtesy: without it nothing is lost.
      this.#quiet(error)
    }
  }

  async close(): Promise<void> {
    await this.#stopSync()
  }

  async #open(row: WorkspaceRow): Promise<void> {
    if (this.#row?.workspace_id !== row.workspace_id) await this.#stopSync()
    this.#row = row
    await this.#p.settings.set(SELECTED, row.workspace_id)
    await this.#startSync()
    await this.#tell()
    this.#p.bus.publish('pipelines.changed', { pipeline_id: null })
  }

  async #refreshIfOnline(): Promise<void> {
    if (!this.#p.account.token || this.#paused) return
    await this.#refresh().catch((error: unknown) => this.#quiet(error))
  }

  /** Takes over who is signed in, the workspaces and the role in each; sends workspaces that were made before signing in. */
  #refresh(): Promise<void> {
    const turn = this.#refreshing.then(() => this.#refreshNow())
    this.#refreshing = turn.catch(() => undefined)
    return turn
  }

  async #refreshNow(): Promise<void> {
    const before = listed(await this.#p.workspaces.list(), this.#row)
    await this.#memberships.take(async workspaceId => {
      if (this.#row?.workspace_id === workspaceId) await this.#stopSync()
    })
    const rows = await this.#p.workspaces.list()
    this.#row = rows.find(row => row.workspace_id === this.#row?.workspace_id) ?? this.#first(rows)
    if (listed(rows, this.#row) !== before) this.#p.bus.publish('workspaces.changed', {})
    if (this.#row && this.reachable && !this.#memberships.left(this.#row.workspace_id)) {
      const { members } = await this.#p.server.call(identityRoutes.listMembers, {
        params: { workspace_id: this.#row.workspace_id },
      })
      this.#authorship.rememberNames(members)
      await this.#p.versions.refresh(this.#row.workspace_id)
    }
  }

  async #startSync(asked = false): Promise<void> {
    const client = this.#p.client()
    if (this.#sync || !client || !this.#row || !this.reachable || !(this.#background || asked)) return
    const workspaceId = this.#row.workspace_id
    if (this.#memberships.left(workspaceId)) return
    const sync = new Sync({
      workspaceId,
      deviceId: this.#p.deviceId,
      client,
      state: this.#p.state,
      documents: this.#p.documents,
      clock: this.#p.clock,
      signedIn: async () => this.#p.account.token !== null,
      log: (level, message, facts) => this.#p.log[level](facts, message),
    })
    this.#sync = sync
    this.#returning = true
    sync.on(news => this.#hear(workspaceId, news))
    if (this.#paused) sync.pause(true)
    await sync.start()
  }

  async #stopSync(): Promise<void> {
    const sync = this.#sync
    this.#sync = null
    await sync?.stop()
  }

  #hear(workspaceId: string, news: SyncNews): void {
    switch (news.kind) {
      case 'caught_up':
        this.#p.publisher.ready(workspaceId)
        this.#p.onCaughtUp(this.#returning)
        this.#returning = false
        void this.#tell()
        return
      case 'live':
        this.#heardLive(workspaceId, news.event)
        return
      case 'status':
        this.#heardStatus(news.status)
        return
      case 'refused':
        // Perhaps this person may do less than this machine knows.
        this.#lookAgain()
        void this.#tell()
    }
  }

  #heardStatus({ state, error }: SyncStatus): void {
    const back = this.#away && (state === 'in_sync' || state === 'syncing')
    if (state === 'offline' || back) this.#away = !back
    this.#returning ||= state === 'offline'
    // Nothing there for this person any more: the list of workspaces says whether they were removed. And nobody told meanwhile what
    // they may do.
    if (back || error?.code === 'workspace.not_found') this.#lookAgain()
    void this.#tell()
  }

  #lookAgain(): void {
    this.#looking ??= this.#refresh()
      .then(() => this.#startSync())
      .then(() => this.#tell())
      .catch((error: unknown) => this.#quiet(error))
      .finally(() => {
        this.#looking = null
      })
  }

  #heardLive(workspaceId: string, event: LiveEvent): void {
    if (event.type === 'version') {
      this.#p.versions
        .refresh(workspaceId)
        .then(() => this.#p.bus.publish('pipelines.changed', { pipeline_id: event.pipeline_id }))
        .catch((error: unknown) => this.#quiet(error))
    } else if (event.type === 'draft') {
      this.#p.bus.publish('pipelines.changed', { pipeline_id: event.pipeline_id })
    } else if (event.type === 'member') {
      this.#refresh().catch((error: unknown) => this.#quiet(error))
    } else if (event.type === 'run') {
      this.#p.onRun(event.run_id).catch((error: unknown) => this.#quiet(error))
    } else if (event.type === 'schedule') {
      this.#p.onSchedule()
    } else if (event.type === 'presence' && event.device_id !== this.#p.deviceId) {
      const { document_id, device_id, name, at, left } = event
      this.#p.bus.publish('document.presence', { document_id, device_id, name, at, left })
    }
  }

  /** Something that the state counts has changed elsewhere. */
  tell(): void {
    void this.#tell()
  }

  /** Tells the views the state, when it is another than they know. */
  async #tell(): Promise<void> {
    try {
      const state = await this.syncState()
      const text = JSON.stringify(state)
      if (text === this.#lastState) return
      this.#lastState = text
      this.#p.bus.publish('sync.state', state)
    } catch (error) {
      this.#p.log.error({ err: error }, 'the sync state could not be told')
    }
  }

  #stateWord(
    sync: 'in_sync' | 'syncing' | 'offline' | 'signed_out' | null,
    needsYou: boolean,
  ): SyncState['state'] {
    if (this.#row && !this.#row.remote) return 'local'
    if (this.#row && this.#memberships.left(this.#row.workspace_id)) return needsYou ? 'needs_you' : 'local'
    if (!this.#p.account.server) return 'local'
    if (!this.#p.account.token || (this.#row && !this.#isHere(this.#row))) return 'signed_out'
    if (this.#paused) return 'offline'
    if (sync === 'signed_out' || sync === 'offline') return sync
    if (needsYou) return 'needs_you'
    return sync ?? (this.#background ? 'syncing' : 'idle')
  }

  /** On no server yet, or on the one that this installation talks to, as whoever is signed in: as far as anybody knows. */
  #isHere({ remote, user_id }: WorkspaceRow): boolean {
    const { person } = this.#p.account
    return !remote || user_id === null || person === null || user_id === person.id
  }

  /** One that can be synced before one that cannot. */
  #first(rows: readonly WorkspaceRow[]): WorkspaceRow | null {
    return rows.find(row => this.#isHere(row)) ?? rows[0] ?? null
  }

  #quiet(error: unknown): void {
    const { code, message } = toAppError(error)
    if (code === 'internal') this.#p.log.error({ err: error }, 'a call to the server failed')
    else this.#p.log.info({ code }, message)
  }
}

/** What is told of the workspaces, as one text. */
const listed = (rows: readonly WorkspaceRow[], selected: WorkspaceRow | null): string =>
  JSON.stringify(rows.map(row => entryOf(row, selected)))

const entryOf = (row: WorkspaceRow, selected: WorkspaceRow | null): WorkspaceEntry => ({
  workspace_id: row.workspace_id,
  name: row.name,
  role: row.role,
  remote: row.remote,
  selected: row.workspace_id === selected?.workspace_id,
})
