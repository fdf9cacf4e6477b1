import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { type PipelineDefinition, pipelineToFiles, type Scalar } from '@pluto-duck/crdt-model'
import { type Compiled, CompileMemory, compile, type Problem, type SqlChild } from '../compile/index.ts'
import { assertGranted, type Grants } from '../grants/grants.ts'
import { type Wanted, wantedBy } from '../grants/wanted.ts'
import { catalogForPlan, makePlan, type PlanResult } from '../plan/index.ts'
import { resolveSources, type SourceResolution } from '../sources/resolve-sources.ts'
import type { SourceHashes, SourceState } from '../sources/source-state.ts'
import type { Warehouse } from '../warehouse/index.ts'

/** What a run, plan, preview or compile is about, as the host resolved it. */
export interface Target {
  readonly definition: PipelineDefinition
  readonly heads: readonly string[]
  /** Null for the working state. */
  readonly version: number | null
  readonly workspaceId: string
  /** The pipeline that it is a draft of; null for a pipeline itself. */
  readonly base: string | null
  readonly pipelineName: string
  readonly filesDir: string
}

export interface Prepared {
  readonly pipelineId: string
  readonly target: Target
  readonly compiled: Compiled
  /** Every source, also one that may not be read yet. */
  readonly sources: Readonly<Record<string, SourceResolution>>
  /** What a person has to allow first. */
  readonly missing: readonly Wanted[]
}

interface Parts {
  readonly sql: SqlChild
  readonly grants: Grants
  readonly hashes: SourceHashes
  readonly warehouse: Warehouse
  remote(workspaceId: string): boolean
}

const KEPT = 16

/** Compiles and plans. A source that nobody allowed on this machine is neither opened nor hashed. */
export class Preparation {
  readonly #parts: Parts
  /** Compiled definitions, by what decides them. */
  readonly #compiled = new Map<string, Promise<Compiled>>()
  readonly #memory = new CompileMemory()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  async prepare(
    pipelineId: string,
    target: Target,
    params: Readonly<Record<string, Scalar>> = {},
  ): Promise<Prepared> {
    const { definition, filesDir } = target
    const sources = await resolveSources(definition, { filesDir })
    const remote = this.#parts.remote(target.workspaceId)
    const missing = await this.#parts.grants.missing(
      { pipelineId, base: target.base },
      wantedBy(definition, sources, { filesDir, remote }),
    )
    const closed = new Set(missing.map(wanted => wanted.source))
    const open = Object.fromEntries(Object.entries(sources).filter(([name]) => !closed.has(name)))
    const compiled = await this.#compile(definition, params, open)
    return { pipelineId, target, compiled, sources, missing }
  }

  /** Throws `grant.required`, `compile.failed`, or what else keeps it from running. */
  async plan(
    prepared: Prepared,
    ask: {
      readonly run_id: string
      readonly select: string | null
      readonly full: boolean
      /** Leave out to fail on every problem; a preview looks at those of its steps itself. */
      readonly problems?: readonly Problem[]
    },
  ): Promise<PlanResult> {
    assertGranted(prepared.missing)
    const { target, pipelineId } = prepared
    const compiled = ask.problems ? { ...prepared.compiled, problems: ask.problems } : prepared.compiled
    return makePlan({
      run_id: ask.run_id,
      workspace_id: target.workspaceId,
      pipeline_id: pipelineId,
      definition: target.definition,
      compiled,
      sources: prepared.sources,
      source_states: await this.#states(prepared.sources),
      catalog: await catalogForPlan(this.#parts.warehouse, target.workspaceId, pipelineId),
      selection: ask.select,
      full_refresh: ask.full,
    })
  }

  async #states(sources: Prepared['sources']): Promise<Record<string, SourceState>> {
    const states: Record<string, SourceState> = {}
    for (const source of Object.values(sources)) {
      if (source.state === 'ready') states[source.name] = await this.#parts.hashes.stateOf(source)
    }
    await this.#parts.hashes.save()
    return states
  }

  async #compile(
    definition: PipelineDefinition,
    params: Readonly<Record<string, Scalar>>,
    sources: Readonly<Record<string, SourceResolution>>,
  ): Promise<Compiled> {
    const key = await keyOf(definition, params, sources)
    const known = this.#compiled.get(key)
    if (known) return known
    const yaml = pipelineToFiles(definition)['pipeline.yaml']
    const made = compile(definition, {
      runner: this.#parts.sql,
      memory: this.#memory,
      params,
      sources,
      ...(yaml === undefined ? {} : { yaml }),
    })
    this.#compiled.set(key, made)
    made.catch(() => this.#compiled.delete(key))
    for (const old of [...this.#compiled.keys()].slice(0, -KEPT)) this.#compiled.delete(old)
    return made
  }
}

async function keyOf(
  definition: PipelineDefinition,
  params: Readonly<Record<string, Scalar>>,
  sources: Readonly<Record<string, SourceResolution>>,
): Promise<string> {
  const files: unknown[] = []
  for (const source of Object.values(sources)) {
    if (source.state === 'failed') files.push([source.name, source.message])
    else
      for (const file of source.files) {
        const { size, mtimeMs, ctimeMs, ino } = await stat(file.path)
        files.push([source.name, file.path, size, mtimeMs, ctimeMs, ino])
      }
  }
  return createHash('sha256')
    .update(JSON.stringify([definition, params, files]))
    .digest('hex')
}
