import { createRequire } from 'node:module'
import { version as duckdbVersion } from '@duckdb/node-api'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { versionRoutes } from '@pluto-duck/crdt-model/protocol'
import type { Logger } from 'pino'
import { systemClock } from '../clock.ts'
import { Documents, type Schema } from '../documents/index.ts'
import { Drafts } from '../drafts/drafts.ts'
import { LocalDrafts } from '../drafts/local-drafts.ts'
import { Marks, Publisher } from '../publish/index.ts'
import { RunService } from '../runs/index.ts'
import { ScheduleAgent } from '../schedules/index.ts'
import { openSecrets, type SecretStore } from '../secrets/index.ts'
import { Settings, State, Workspaces } from '../state/index.ts'
import { WireClient } from '../sync/index.ts'
import type { ServerCalls } from '../versions/server-calls.ts'
import { VersionCache } from '../versions/version-cache.ts'
import { Versions } from '../versions/versions.ts'
import { Account, type TokenStore } from './account.ts'
import { TopicBus } from './bus.ts'
import type { Handlers } from './dispatch.ts'
import { createHandlers } from './handlers.ts'
import { hostLog } from './host-log.ts'
import { Overviews } from './overviews.ts'
import { Pipelines, toContractProblem } from './pipelines.ts'
import { OpenWorkspace } from './workspace.ts'

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string }

export interface HostOptions {
  /** The data folder; made when it is not there. One host owns it at a time. */
  readonly folder: string
  /** Takes the place of the stored server address. Null keeps that. */
  readonly server: string | null
  /** A session's token that is not kept anywhere. Default: PLUTO_TOKEN, else the keychain's. */
  readonly token?: string
  /** Default: JSON lines in the folder's `host.log`. */
  readonly log?: Logger
  /** What it knows of documents. Default: what this program does. */
  readonly schema?: Schema
}

/** The local process that owns state, sync and runs. Everything that a UI or the CLI does is a method of the contract. */
export interface Host {
  readonly handlers: Handlers
  readonly bus: TopicBus
  readonly log: Logger
  /** Tells other programs of this user where the host answers. */
  announce(info: { readonly port: number; readonly token: string }): void
  /** Begins to sync, to send what waits and to run what is scheduled; without it a host does only what it is asked. */
  startBackground(): Promise<void>
  close(): Promise<void>
}

const noServer = (): AppError =>
  new AppError('server.unreachable', 'No server is set.', { hint: 'Name one: `pluto login --server URL`.' })

/**
 * Opens the data folder and puts the features together. Throws `host.locked` when another host owns it. After a crash it
 * goes on from what was acknowledged: documents, outbox, publishes, runs, uploads.
 */
export const openHost = async ({ folder, server, token, log: given, schema }: HostOptions): Promise<Host> => {
  let logger = given
  // Its file is in the folder, which is another host's until the state is open.
  const logged = (): Logger => (logger ??= hostLog(folder))
  const state = await State.open(folder, undefined, err =>
    logged().warn({ err }, 'what was deleted is still in state.duckdb: it could not be written anew'),
  )
  const closers: (() => Promise<void>)[] = [() => state.close()]
  const close = async () => {
    for (const end of closers.splice(0).reverse()) await end()
  }
  try {
    const log = logged()
    const bus = new TopicBus(error => log.error({ err: error }, 'a listener failed'))
    const clock = systemClock
    const settings = new Settings(state)
    const workspaces = new Workspaces(state)
    const deviceId = await settings.deviceId()
    const secrets = await openSecrets({ folder })
    const account = await Account.open(
      settings,
      tokenStore(secrets, token ?? (process.env.PLUTO_TOKEN || undefined), log),
      clock,
      server,
    )

    let client: { readonly address: string; readonly wire: WireClient } | null = null
    const wire = (): WireClient | null => {
      if (!account.server) return null
      if (client?.address !== account.server) {
        const address = account.server
        // A client may outlive a change of the server: it never sends another one's token.
        const mine = async () => (account.server === address ? account.token : null)
        client = { address, wire: new WireClient({ server: address, deviceId, token: mine }) }
      }
      return client.wire
    }
    const calls: ServerCalls = {
      call: async (route, request) => {
        const connected = wire()
        if (!connected) throw noServer()
        if (!account.token && route.access !== 'public')
          throw new AppError('auth.required', 'Nobody is signed in.')
        return (await connected.call(route, request as never)).value
      },
    }

    const documents = await Documents.open(state, clock, schema)
    closers.push(() => documents.close())
    documents.on(event => {
      if (event.kind === 'changes') {
        const changes = event.changes.map(change => Buffer.from(change).toString('base64'))
        bus.publish('document.changes', { document_id: event.documentId, changes, origin: event.origin })
      } else if (event.kind === 'reset') {
        bus.publish('document.reset', { document_id: event.documentId, draft_id: event.draftId })
      }
    })
    const versionCache = new VersionCache(state, calls)
    const marks = new Marks(state, documents, clock)
    let workspace: OpenWorkspace | null = null
    const publisher = await Publisher.open({
      state,
      clock,
      onError: error => log.warn({ code: error.code }, 'the state of a publish could not be stored'),
      onUnreadable: (pipelineId, error) =>
        log.error({ pipeline_id: pipelineId, err: error }, 'a publish cannot be read'),
      send: async request => {
        const connected = wire()
        if (!connected) throw noServer()
        const { content_hash: _, ...body } = request
        const answer = await connected.call(versionRoutes.publish, { body })
        return { version: answer.value, created: answer.created }
      },
      sync: () => workspace?.nudge(),
      onChange: (pipelineId, published) => {
        if (published.state === 'published') {
          versionCache
            .remember(published.version)
            .catch((error: unknown) => log.error({ err: error }, 'a version was not kept'))
        }
        bus.publish('pipelines.changed', { pipeline_id: pipelineId })
        workspace?.tell()
      },
    })

    const runs: RunService = await RunService.open({
      state,
      dataFolder: folder,
      server: calls,
      bus,
      clock,
      log,
      deviceId,
      resolve: async (pipelineId, number) => {
        const info = pipelines.info(pipelineId)
        const base = {
          workspaceId: info.workspaceId,
          base: info.base,
          pipelineName: info.title,
          filesDir: opened.filesDirOf(info.workspaceId),
        }
        if (number === null) return { ...(await pipelines.working(pipelineId)), version: null, ...base }
        const found = await versionCache.read(pipelineId, number)
        return { definition: found.definition, heads: found.heads, version: found.number, ...base }
      },
      who: () => ({ user_id: account.person?.id ?? 'local', name: account.person?.name ?? 'You' }),
      remote: workspaceId => opened.reachable && opened.id === workspaceId,
      sends: async workspaceId => !opened.paused && (await opened.isOwn(workspaceId)),
    })
    documents.setAuthor(() => account.person?.id ?? null)
    closers.push(() => runs.close())

    const overviews = await Overviews.open({
      state,
      documents,
      versions: versionCache,
      marks: pipelineId => opened.marks(pipelineId),
      onReady: () => {
        bus.publish('pipelines.changed', { pipeline_id: null })
        workspace?.tell()
      },
      onError: error => log.error({ err: error }, 'a pipeline was not looked at'),
    })
    closers.push(() => overviews.close())
    const pipelines = new Pipelines(documents, versionCache, overviews, {
      reviewedMarks: () => marks.reviewed(),
      lastRuns: () => runs.lastRuns(),
    })
    const opened = await OpenWorkspace.open({
      folder,
      deviceId,
      state,
      settings,
      workspaces,
      documents,
      account,
      server: calls,
      client: wire,
      versions: versionCache,
      publisher,
      marks,
      overviews,
      bus,
      clock,
      log,
      onCaughtUp: back => {
        runs.synced()
        if (back) runs.online()
        agent.online()
      },
      onRun: runId => runs.heard(runId),
      onSchedule: () => agent.wake(),
    })
    workspace = opened
    closers.push(() => opened.close())
    const agent: ScheduleAgent = await ScheduleAgent.open({
      deviceId,
      settings,
      clock,
      log,
      client: () => (account.token && opened.reachable && !opened.paused ? wire() : null),
      workspaceId: () => (opened.reachable ? opened.id : null),
      own: workspaceId => opened.isOwn(workspaceId),
      knows: pipelineId => documents.has(pipelineId),
      runs,
    })
    closers.push(() => agent.close())

    const versions = new Versions(documents, versionCache, {
      marks: pipelineId => opened.marks(pipelineId),
      compileProblems: async pipelineId => {
        const { problems } = await runs.compile(pipelineId)
        // Where a source lies is a matter of this machine, not of the pipeline.
        return problems.filter(problem => !problem.code.startsWith('source.'))
      },
      stepFacts: (pipelineId, definition) => runs.stepFacts(pipelineId, definition),
      sync: async () => {
        await opened.syncNow()
      },
      publish: request => publisher.publish(request, () => opened.connected),
      toProblem: toContractProblem,
    })
    const drafts = new Drafts({
      documents,
      server: calls,
      versions: versionCache,
      workspaceId: () => opened.id,
      sync: async () => {
        await opened.syncNow()
      },
      stepFacts: (pipelineId, definition) => runs.stepFacts(pipelineId, definition),
      toMarks: (documentId, found) => opened.marksOfServer(documentId, found),
    })
    const localDrafts = new LocalDrafts({
      documents,
      versions,
      recordsOf: (documentId, hashes) => opened.recordsOf(documentId, hashes),
    })
    await runs.resume()

    const handlers = createHandlers({
      about: { version, duckdb: duckdbVersion(), folder, deviceId },
      account,
      documents,
      drafts,
      localDrafts,
      pipelines,
      versions,
      versionCache,
      publisher,
      runs,
      workspace: opened,
      secrets,
      server: calls,
    })
    return {
      handlers,
      bus,
      log,
      announce: info => state.announce(info),
      startBackground: async () => {
        await opened.startBackground()
        agent.start()
      },
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

const TOKEN = 'session'

const tokenStore = (secrets: SecretStore, given: string | undefined, log: Logger): TokenStore => ({
  given: given !== undefined,
  // Without a keychain that answers nobody is signed in; `pluto login` says why.
  get: async () =>
    given ??
    (await secrets.get(TOKEN).catch((error: unknown) => {
      log.warn({ err: error }, 'the keychain did not say whether somebody is signed in')
      return null
    })),
  check: () => secrets.check(),
  set: token => secrets.set(TOKEN, token),
  erase: () => secrets.remove(TOKEN),
})
