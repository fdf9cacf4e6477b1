import { contentHash, type PipelineDefinition } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import {
  type Version,
  type VersionSummary,
  version,
  versionRoutes,
  versionSummary,
} from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'
import { lastForgotten } from '../documents/index.ts'
import { JsonTable, type State } from '../state/index.ts'
import type { ServerCalls } from './server-calls.ts'

/** A version as far as this machine knows it: its summary, and the whole once it was read. It never changes. */
const cachedVersion = z.object({ summary: versionSummary, whole: version.nullable() })

/** Pages of the server's list. */
const PAGE = 500

/**
 * The versions of pipelines, from the server, kept so that history and comparisons work offline. What is kept is never wrong,
 * only incomplete: versions are immutable.
 */
export class VersionCache {
  readonly #state: State
  readonly #table: JsonTable<typeof cachedVersion>
  readonly #server: ServerCalls
  readonly #current = new Map<string, VersionSummary>()
  #read: Promise<void> | null = null

  constructor(state: State, server: ServerCalls) {
    this.#state = state
    this.#table = new JsonTable(state, 'versions', cachedVersion)
    this.#server = server
  }

  hashOf(definition: PipelineDefinition): string {
    return contentHash(definition)
  }

  /** The newest version known here. */
  async current(pipelineId: string): Promise<VersionSummary | null> {
    this.#read ??= this.#readCurrents()
    await this.#read
    return this.#current.get(pipelineId) ?? null
  }

  /** The newest version of every pipeline, in two statements however many there are. */
  async #readCurrents(): Promise<void> {
    const newest = new Map<string, number>()
    for (const { key, parent } of await this.#table.keys()) {
      const number = Number(key.slice(key.lastIndexOf(':') + 1))
      if (number > (newest.get(parent) ?? 0)) newest.set(parent, number)
    }
    const found = await this.#table.getAll([...newest].map(([parent, number]) => keyOf(parent, number)))
    for (const { summary } of found.values()) this.#keep(summary)
  }

  #keep(summary: VersionSummary): void {
    const current = this.#current.get(summary.pipeline_id)
    if (!current || current.number < summary.number) this.#current.set(summary.pipeline_id, summary)
  }

  /** Versions known here, newest first. */
  async known(pipelineId: string): Promise<VersionSummary[]> {
    const all = await this.#table.parts(pipelineId, '$.summary', versionSummary)
    return all.sort((a, b) => b.number - a.number)
  }

  /** Takes over the current versions of a workspace's pipelines. Answers the pipelines whose current version is new here. */
  async refresh(workspaceId: string): Promise<string[]> {
    const { pipelines } = await this.#server.call(versionRoutes.listPipelines, {
      query: { workspace_id: workspaceId },
    })
    const moved: string[] = []
    for (const { pipeline_id, current } of pipelines) {
      if (!current || (await this.current(pipeline_id))?.number === current.number) continue
      await this.remember(current)
      moved.push(pipeline_id)
    }
    return moved
  }

  /** The whole list from the server when it can be reached, else what is known here. */
  async list(pipelineId: string): Promise<VersionSummary[]> {
    const known = new Set((await this.known(pipelineId)).map(summary => summary.number))
    try {
      for (let before: number | undefined; ; ) {
        const query = before === undefined ? { limit: PAGE } : { before, limit: PAGE }
        const page = await this.#server.call(versionRoutes.listVersions, {
          params: { pipeline_id: pipelineId },
          query,
        })
        for (const summary of page.versions) if (!known.has(summary.number)) await this.remember(summary)
        const last = page.versions.at(-1)
        if (!page.more || !last || page.versions.every(summary => known.has(summary.number))) break
        before = last.number
      }
    } catch (error) {
      if (!isOutOfReach(error)) throw error
    }
    return this.known(pipelineId)
  }

  /** One version, whole. Offline a version that was never read here is `server.unreachable`. */
  async read(pipelineId: string, number: number): Promise<Version> {
    const held = await this.#table.get(keyOf(pipelineId, number))
    if (held?.whole) return held.whole
    const since = await lastForgotten(this.#state.read, pipelineId)
    const whole = await this.#server.call(versionRoutes.readVersion, {
      params: { pipeline_id: pipelineId, number },
    })
    const { definition, files, ...summary } = whole
    await this.#put(summary, { ...summary, definition, files }, since)
    return whole
  }

  /** Keeps a summary that came with an event or a publish. */
  async remember(summary: VersionSummary): Promise<void> {
    const since = await lastForgotten(this.#state.read, summary.pipeline_id)
    const held = await this.#table.get(keyOf(summary.pipeline_id, summary.number))
    await this.#put(summary, held?.whole ?? null, since)
  }

  /** @param since what `lastForgotten` was before the version was read: one that may have been erased meanwhile is not kept. */
  async #put(summary: VersionSummary, whole: Version | null, since: string | null): Promise<void> {
    const kept = await this.#state.write(async tx => {
      if ((await lastForgotten(tx, summary.pipeline_id)) !== since) return false
      await this.#table.putIn(
        tx,
        keyOf(summary.pipeline_id, summary.number),
        { parent: summary.pipeline_id, at: summary.published_at },
        { summary, whole },
      )
      return true
    })
    if (kept) this.#keep(summary)
  }
}

const keyOf = (pipelineId: string, number: number): string => `${pipelineId}:${number}`

/** Errors that only say that nobody can be asked now. */
export const isOutOfReach = (error: unknown): boolean =>
  error instanceof AppError &&
  [
    'server.unreachable',
    'auth.required',
    'auth.expired',
    'pipeline.not_found',
    'request.rate_limited',
  ].includes(error.code)
