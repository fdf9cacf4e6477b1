import * as A from '@automerge/automerge'
import { AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import { type Role, versionRoutes } from '@pluto-duck/crdt-model/protocol'
import { Documents } from '../../src/documents/index.ts'
import { Drafts } from '../../src/drafts/drafts.ts'
import { Marks, Publisher } from '../../src/publish/index.ts'
import { Settings, type State, Workspaces } from '../../src/state/index.ts'
import { fetchRecords, Sync, WireClient } from '../../src/sync/index.ts'
import type { ServerCalls } from '../../src/versions/server-calls.ts'
import { VersionCache } from '../../src/versions/version-cache.ts'
import { Versions } from '../../src/versions/versions.ts'
import { DeviceClock } from './clock.ts'
import { type DiskWeather, harmDisk } from './disk.ts'
import { freshState, giveBack, leftBehind, openState, removeFolder, type Store } from './folders.ts'
import type { Letters } from './letters.ts'
import type { Network } from './network.ts'
import type { Rng } from './random.ts'
import type { Trace } from './trace.ts'
import { View } from './view.ts'

export interface Person {
  readonly name: string
  readonly email: string
  readonly userId: string
  readonly token: string
}

export interface DeviceParts {
  readonly name: string
  readonly person: Person
  readonly workspaceId: string
  readonly network: Network
  readonly trace: Trace
  readonly rng: Rng
  readonly store: Store
  /** What its person writes is marked with them; none where nothing is purged. */
  readonly letters?: Letters | null
}

/** What runs while a host process does: gone with it. */
interface Running {
  readonly state: State
  readonly documents: Documents
  readonly sync: Sync
  readonly publisher: Publisher
  readonly versions: Versions
  readonly drafts: Drafts
  readonly cache: VersionCache
  readonly marks: Marks
  readonly client: WireClient
  readonly views: Map<string, View>
}

/** What a device said was done: it must be somewhere for ever. */
export interface Acknowledged {
  readonly documentId: string
  readonly hash: string
  /** The letter that it wrote; empty for none. */
  readonly mark: string
  /** Of what begins a draft: its pipeline. */
  readonly base: string | null
}

/** One installation: the engine's own documents, outbox, drafts, sync and publisher on a real state, and a person who may do anything. */
export class SimDevice {
  readonly name: string
  readonly person: Person
  readonly clock = new DeviceClock()
  readonly acknowledged: Acknowledged[] = []
  readonly published: { pipelineId: string; versionId: string; number: number }[] = []
  /** Hashes whose draft a person applied again or threw away. */
  readonly settledByPerson = new Set<string>()
  /** What the drafts that a person applied again had been refused for. */
  readonly appliedCodes = new Set<string>()
  offline = false
  /** It heard that its person is no member any more, and gave the workspace's documents back. */
  left = false
  disk: DiskWeather | null = null
  /** Its disk may have failed since somebody last tried it. */
  harmed = false
  /** Commits (before and after) until it dies; null for not soon. */
  dieAt: number | null = null
  deviceId = ''
  /** The deed that its person is at. */
  doing = 'nothing'
  #folder = ''
  #unharm: () => void = () => undefined
  #running: Running | null = null
  #paused = false
  #opening: Promise<void> | null = null
  #generation = 0
  readonly #parts: DeviceParts
  readonly #ends: Promise<unknown>[] = []

  constructor(parts: DeviceParts) {
    this.#parts = parts
    this.name = parts.name
    this.person = parts.person
  }

  get workspaceId(): string {
    return this.#parts.workspaceId
  }

  get folder(): string {
    return this.#folder
  }

  /** Throws `host.down` as an ordinary error while it is not open. */
  get running(): Running {
    if (!this.#running) throw new Error(`${this.name} is down`)
    return this.#running
  }

  get up(): boolean {
    return this.#running !== null
  }

  /** Counts starts: what an earlier one says after its death is heard by nobody. */
  get generation(): number {
    return this.#generation
  }

  say(what: string): void {
    this.#parts.trace.say(this.name, what)
  }

  /** @param returns its person is a member again. */
  open(returns = false): Promise<void> {
    if (this.#running) return Promise.resolve()
    this.#opening ??= this.#open(returns).finally(() => {
      this.#opening = null
    })
    return this.#opening
  }

  async #open(returns: boolean): Promise<void> {
    const { workspaceId, network, rng, trace, store } = this.#parts
    const fresh = this.#folder === '' ? await freshState(store) : null
    if (fresh) this.#folder = fresh.folder
    const generation = ++this.#generation
    const alive = () => this.#generation === generation
    const state = fresh?.state ?? (await openState(this.#folder, store))
    await new Workspaces(state).put({ workspace_id: workspaceId, name: 'W', role: 'editor', remote: true })
    this.deviceId = await new Settings(state).deviceId()
    this.#unharm = await harmDisk(state, {
      rng: rng.fork(`disk ${generation}`),
      weather: () => (alive() ? this.disk : null),
      atCommit: () => {
        if (alive() && this.dieAt !== null && --this.dieAt <= 0) this.crash('at a commit')
      },
    })
    const documents = await Documents.open(state, this.clock)
    documents.setAuthor(() => this.person.userId)
    const client = new WireClient({
      server: 'http://simulated.invalid',
      deviceId: this.deviceId,
      token: async () => this.person.token,
      fetch: network.fetchOf(this.name, rng.fork(`network ${generation}`), () => this.offline || !alive()),
    })
    const calls: ServerCalls = {
      call: async (route, request) => (await client.call(route, request as never)).value,
    }
    const cache = new VersionCache(state, calls)
    const marks = new Marks(state, documents, this.clock)
    const sync = new Sync({
      workspaceId,
      deviceId: this.deviceId,
      client,
      state,
      documents,
      clock: this.clock,
      signedIn: async () => true,
      log: (level, message, facts) => {
        if (!alive()) return
        this.say(`${level}: ${message} ${JSON.stringify(facts)}`)
        if (level === 'error') trace.problem(`${this.name}: ${message} ${JSON.stringify(facts)}`)
      },
    })
    const connected = () => ['in_sync', 'syncing'].includes(sync.status().state)
    const publisher = await Publisher.open({
      state,
      clock: this.clock,
      onError: error => this.say(`a publish was not stored: ${error.message}`),
      onUnreadable: (pipelineId, error) =>
        trace.problem(`${this.name}: publish of ${pipelineId}: ${error.message}`),
      send: async ({ content_hash: _, ...body }) => {
        const answer = await client.call(versionRoutes.publish, { body })
        return { version: answer.value, created: answer.created }
      },
      sync: () => void sync.now(),
      onChange: (pipelineId, published) => {
        if (!alive() || published.state !== 'published') return
        const { number, version_id } = published.version
        this.published.push({ pipelineId, versionId: version_id, number })
        this.say(`published ${short(pipelineId)} as version ${number}`)
        cache.remember(published.version).catch(() => undefined)
      },
    })
    sync.on(news => {
      if (news.kind === 'caught_up') publisher.ready(workspaceId)
      else if (news.kind === 'live' && news.event.type === 'version')
        cache.refresh(workspaceId).catch(() => undefined)
    })
    const versions = new Versions(documents, cache, {
      marks: async pipelineId => {
        if (connected()) await fetchRecords({ state, documents, client }, pipelineId).catch(() => false)
        const current = await cache.current(pipelineId)
        return await marks.list(pipelineId, current?.heads ?? [], userId => userId)
      },
      // The SQL of a simulation is none: compiling is another feature's.
      compileProblems: async () => [],
      stepFacts: async () => new Map(),
      sync: async () => {
        await sync.now()
      },
      publish: request => publisher.publish(request, connected),
      toProblem: problem => ({
        ...problem,
        file: problem.file ?? null,
        line: problem.line ?? null,
        column: problem.column ?? null,
        step_id: problem.step_id ?? null,
      }),
    })
    const drafts = new Drafts({
      documents,
      server: calls,
      versions: cache,
      workspaceId: () => workspaceId,
      sync: async () => {
        await sync.now()
      },
      stepFacts: async () => new Map(),
      toMarks: async () => [],
    })
    this.#running = {
      state,
      documents,
      sync,
      publisher,
      versions,
      drafts,
      cache,
      marks,
      client,
      views: new Map(),
    }
    documents.on(event => {
      if (!alive()) return
      if (event.kind === 'reset') this.#running?.views.delete(event.documentId)
      else if (event.kind === 'changes') {
        const view = this.#running?.views.get(event.documentId)
        if (view && event.origin !== view.name) view.hear(event.changes)
      }
    })
    if (this.#paused) sync.pause(true)
    await sync.start()
    // A host asks at each start which workspaces are left to it.
    if (this.left && !returns) await this.leave()
  }

  pause(paused: boolean): void {
    this.#paused = paused
    this.#running?.sync.pause(paused)
  }

  /** What the host does when its person is no member any more: what was not sent is kept as drafts, the rest goes. */
  async leave(): Promise<void> {
    this.left = true
    await this.attempt('leaving', async ({ sync, documents }) => {
      await sync.stop()
      const { drafts, unreadable } = await documents.leave(this.workspaceId, {
        code: 'permission',
        reason: 'no longer a member',
      })
      this.say(`leaves the workspace with ${drafts.length} drafts`)
      for (const { error } of unreadable)
        if (!this.#diskSaid(error))
          this.#parts.trace.problem(`${this.name} could not leave: ${String(error)}`)
    })
  }

  /** Ends in good order, when it has opened. */
  async close(thrownAway = false): Promise<void> {
    await this.#opening
    const running = this.#running
    if (!running) return
    this.#running = null
    this.#generation++
    await end(running, thrownAway)
  }

  /** Dies now: what its disk holds at this moment is all that is left. */
  crash(why: string): void {
    const running = this.#running
    this.dieAt = null
    if (!running) return
    this.say(`dies ${why}`)
    const folder = this.#folder
    this.#folder = leftBehind(folder)
    this.#running = null
    this.#generation++
    // The old one goes on without a network, on a folder that nobody reads any more.
    this.#ends.push(
      end(running, true)
        .catch(() => undefined)
        .then(() => removeFolder(folder)),
    )
  }

  /** Runs a deed of the person; a refusal or failure of it is said, and nothing is taken for done. */
  async attempt<T>(what: string, deed: (running: Running) => Promise<T>): Promise<T | null> {
    const generation = this.#generation
    const running = this.#running
    if (!running) return null
    try {
      const value = await deed(running)
      // The answer of a process that died meanwhile reached nobody.
      return generation === this.#generation ? value : null
    } catch (error) {
      const { code, message } = toAppError(error)
      this.say(`${what} failed: ${code} ${message}`)
      if (generation === this.#generation && code === 'internal' && !this.#diskSaid(error))
        this.#parts.trace.problem(`${this.name}: ${what}: ${(error as Error).stack}`)
      return null
    }
  }

  get letters(): Letters | null {
    return this.#parts.letters ?? null
  }

  acknowledge(
    documentId: string,
    hashes: readonly string[],
    { mark = '', base = null }: { mark?: string; base?: string | null } = {},
  ): void {
    for (const hash of hashes) {
      this.acknowledged.push({ documentId, hash, mark, base })
      if (mark) this.letters?.wrote(hash, mark)
    }
  }

  async view(documentId: string): Promise<View> {
    const { documents, views } = this.running
    const held = views.get(documentId)
    if (held) return held
    const { bytes, actor } = await documents.open(documentId)
    const view = new View(documentId, A.load(bytes, { actor }), documents)
    views.set(documentId, view)
    return view
  }

  /** @param healthy nothing of it is under way, and its disk was never broken since it started: its state can serve another. */
  async remove(healthy = false): Promise<void> {
    const running = this.#running
    if (running && healthy) {
      this.#running = null
      this.#generation++
      await leave(running)
      this.#unharm()
      await giveBack({ folder: this.#folder, state: running.state, store: this.#parts.store })
      this.#folder = ''
    }
    await this.close(true)
    await Promise.all(this.#ends)
    if (this.#folder) removeFolder(this.#folder)
  }

  #diskSaid(error: unknown): boolean {
    for (let at: unknown = error; at instanceof Error; at = at.cause)
      if (/No space left|can no longer be written/.test(at.message)) return true
    return false
  }
}

/** @param thrownAway nobody reads the folder again: what is in its log need not be put in order. */
async function end(running: Running, thrownAway = false): Promise<void> {
  const { state } = running
  if (thrownAway) await state.read.run('pragma disable_checkpoint_on_shutdown')
  await leave(running)
  await state.close()
}

async function leave({ sync, documents }: Running): Promise<void> {
  await sync.stop()
  await documents.close().catch((error: unknown) => {
    if (!(error instanceof AppError)) throw error
  })
}

export const short = (id: string): string => id.slice(-6)
export type { Role }
