import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import { type Artifact, type Run, runRoutes } from '@pluto-duck/crdt-model/protocol'
import { fetchFile, measure } from '../artifacts/transfer.ts'
import type { LogLine, OutputOf, RunView } from '../contract/index.ts'
import type { ServerCalls } from '../versions/server-calls.ts'
import { linesOf } from './run-journal.ts'
import { remoteRunView } from './run-view.ts'

interface Parts {
  readonly server: ServerCalls
  readonly dataFolder: string
  readonly clock: { now(): number }
  readonly log: { error(context: Record<string, unknown>, message: string): void }
  /** The name of a pipeline on this machine; its id when it is not there. */
  nameOf(pipelineId: string): Promise<string>
}

/** How long a list waits for the server before it shows what was known last, and how long it then doesn't wait at all. */
const PATIENCE_MS = 2_000
const AWAY_MS = 15_000
/** Codes that mean "not now": what is on this machine is shown without what is on the server. */
const AWAY = new Set([
  'server.unreachable',
  'auth.required',
  'auth.expired',
  'service.unavailable',
  'database.unavailable',
])
/** Files of colleagues' runs that a session downloads are kept beside this machine's own reports. */
const folderOf = (dataFolder: string, runId: string): string => join(dataFolder, 'reports', runId)

/** Runs of colleagues and their artifacts, as the server has them. */
export class ServerRuns {
  readonly #parts: Parts
  readonly #last = new Map<string, readonly Run[]>()
  /** The last fetch to each path; none of them rejects. */
  readonly #fetching = new Map<string, Promise<void>>()
  #awayUntil = 0

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Newest first; what was known last when the server does not answer in time. */
  async list(workspaceId: string, pipelineId: string | undefined, limit: number): Promise<RunView[]> {
    const key = `${workspaceId}/${pipelineId ?? ''}/${limit}`
    const query = { workspace_id: workspaceId, limit, ...(pipelineId ? { pipeline_id: pipelineId } : {}) }
    const asked = this.#parts.server.call(runRoutes.list, { query }).then(
      reply => {
        this.#awayUntil = 0
        this.#last.set(key, reply.runs)
      },
      error => {
        const { code } = toAppError(error)
        // The runs of this machine are shown all the same.
        if (!AWAY.has(code)) this.#parts.log.error({ code }, 'the runs of the workspace could not be read')
      },
    )
    const { clock } = this.#parts
    if (clock.now() >= this.#awayUntil) {
      const patience = Promise.withResolvers<void>()
      const timer = setTimeout(() => {
        // A reply that comes too late is shown by the next call.
        this.#awayUntil = clock.now() + AWAY_MS
        patience.resolve()
      }, PATIENCE_MS)
      await Promise.race([asked, patience.promise])
      clearTimeout(timer)
    }
    const runs = this.#last.get(key) ?? []
    return Promise.all(
      runs.map(async run => remoteRunView(run, await this.#parts.nameOf(run.pipeline_id), false)),
    )
  }

  async read(runId: string): Promise<RunView> {
    const run = await this.#parts.server.call(runRoutes.read, { params: { run_id: runId } })
    const report = (await this.artifacts(runId)).artifacts.some(artifact => artifact.kind === 'report')
    return remoteRunView(run, await this.#parts.nameOf(run.pipeline_id), report)
  }

  async log(runId: string): Promise<LogLine[]> {
    const bytes = await this.#parts.server.call(runRoutes.readLog, {
      params: { run_id: runId },
      query: { offset: 0 },
    })
    return linesOf(Buffer.from(bytes).toString('utf8'))
  }

  async artifacts(runId: string): Promise<OutputOf<'run.artifacts'>> {
    return this.#parts.server.call(runRoutes.listArtifacts, { params: { run_id: runId } })
  }

  /** Fetches an artifact and verifies it; one that is there already is only verified. */
  async download(artifactId: string): Promise<{ artifact: Artifact; path: string }> {
    const reply = await this.#parts.server.call(runRoutes.downloadArtifact, {
      params: { artifact_id: artifactId },
    })
    const { artifact } = reply
    const path = join(folderOf(this.#parts.dataFolder, artifact.run_id), plainName(artifact.name))
    await this.#oneByOne(path, async () => {
      const there = await stat(path).then(
        () => measure(path),
        () => null,
      )
      if (there?.sha256 !== artifact.sha256)
        await fetchFile(reply.download, artifact, path, new AbortController().signal)
    })
    return { artifact, path }
  }

  /** Two views of one file would write into the same partial one: the first fetches it, the other then finds it there. */
  async #oneByOne(path: string, fetch: () => Promise<void>): Promise<void> {
    const fetched = (this.#fetching.get(path) ?? Promise.resolve()).then(fetch)
    const settled = fetched.catch(() => undefined)
    this.#fetching.set(path, settled)
    try {
      await fetched
    } finally {
      if (this.#fetching.get(path) === settled) this.#fetching.delete(path)
    }
  }

  /** The report of a run as a file on this machine; null when the run shared none. */
  async report(runId: string): Promise<{ path: string; created_at: string } | null> {
    const { artifacts } = await this.artifacts(runId)
    const report = artifacts.find(artifact => artifact.kind === 'report')
    if (!report) return null
    const { path } = await this.download(report.artifact_id)
    return { path, created_at: report.created_at }
  }
}

/** The server's word for a file becomes a name in a folder of this machine: nothing in it may lead elsewhere. */
function plainName(name: string): string {
  if (/^\w[\w. -]{0,150}$/.test(name) && !name.includes('..')) return name
  throw new AppError('artifact.mismatch', 'The artifact has a name that no file here may have.')
}
