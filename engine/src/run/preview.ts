import type { PlanParam, PlanSource } from '../plan/plan-types.ts'
import { type CallOptions, type Limits, type Runner, RunnerError, type RunnerPool } from '../runner/index.ts'
import type { Warehouse } from '../warehouse/index.ts'

export type PreviewRelation =
  | {
      readonly kind: 'result'
      readonly schema: string | null
      readonly name: string
      readonly fingerprint: string
    }
  | { readonly kind: 'view'; readonly name: string; readonly sql: string }

export interface PreviewParts {
  readonly pool: RunnerPool
  readonly warehouse: Warehouse
  readonly limits: Limits
}

export interface PreviewOf {
  readonly workspace_id: string
  readonly sources: readonly PlanSource[]
  /** In an order in which a view comes after what it reads. */
  readonly relations: readonly PreviewRelation[]
  /** Values for `$name` in views and in queries. Default: none. */
  readonly params?: Readonly<Record<string, PlanParam>>
  /** Files that `write` may make. Default: none. */
  readonly outputs?: readonly string[]
}

/**
 * A runner over results and sources, to look at rows and to evaluate a report's blocks. It keeps what it was opened with: a run
 * that makes new results current meanwhile changes nothing here, and what it reads is not collected before `close`.
 */
export class Preview {
  readonly #runner: Runner
  readonly #release: () => void
  readonly #params: Record<string, PlanParam>

  private constructor(runner: Runner, release: () => void, params: Record<string, PlanParam>) {
    this.#runner = runner
    this.#release = release
    this.#params = params
  }

  /** Throws `run.source` when a result is not there any more or a source cannot be read. The options are those of each call to the runner. */
  static async open(parts: PreviewParts, of: PreviewOf, options: CallOptions = {}): Promise<Preview> {
    const results = of.relations.filter(relation => relation.kind === 'result')
    const release = parts.warehouse.lease(
      of.workspace_id,
      results.map(result => result.fingerprint),
    )
    const params = { ...of.params }
    let runner: Runner | null = null
    try {
      runner = parts.pool.take()
      const allowed_paths = [
        ...of.sources.flatMap(source => source.paths),
        ...results.map(result => parts.warehouse.resultPath(of.workspace_id, result.fingerprint)),
        ...(of.outputs ?? []),
      ]
      await runner.configure({ limits: parts.limits, allowed_paths, connections: 2 }, options)
      for (const source of of.sources) await runner.defineSource(source, options)
      for (const relation of of.relations)
        await define(parts, of.workspace_id, runner, relation, params, options)
      return new Preview(runner, release, params)
    } catch (error) {
      release()
      await runner?.kill()
      throw error
    }
  }

  /** Everything that is current in a pipeline, by name; null before its first success. */
  static async openCurrent(
    parts: PreviewParts,
    workspaceId: string,
    pipelineId: string,
    params: Readonly<Record<string, PlanParam>> = {},
  ): Promise<Preview | null> {
    const catalog = await parts.warehouse.catalog(workspaceId, pipelineId)
    if (!catalog) return null
    const inputs = catalog.inputs.map(
      ({ pipeline, step, fingerprint }): PreviewRelation => ({
        kind: 'result',
        schema: pipeline,
        name: step,
        fingerprint,
      }),
    )
    const steps = catalog.steps.map(
      ({ name, pointer }): PreviewRelation =>
        pointer.kind === 'view'
          ? { kind: 'view', name, sql: pointer.sql }
          : { kind: 'result', schema: null, name, fingerprint: pointer.fingerprint },
    )
    // Sources matter to views alone; a file that is gone must not hide results that are there.
    const sources = catalog.steps.some(step => step.pointer.kind === 'view') ? catalog.sources : []
    return Preview.open(parts, {
      workspace_id: workspaceId,
      sources,
      relations: [...inputs, ...steps],
      params,
    })
  }

  /** One SELECT over the relations: a page of rows, JSON-safe and exact. */
  query(sql: string, page: { readonly offset: number; readonly limit: number }, options: CallOptions = {}) {
    return this.#runner.query({ sql, params: this.#params, ...page }, options)
  }

  describe(sql: string, options: CallOptions = {}) {
    return this.#runner.describe({ sql, params: this.#params }, options)
  }

  /** Writes the rows of a SELECT into one of the outputs, which must not exist, as Parquet. */
  write(sql: string, path: string, options: CallOptions = {}) {
    return this.#runner.materialize({ sql, params: this.#params, path }, options)
  }

  /** False once its process is gone: open another. */
  get alive(): boolean {
    return this.#runner.alive
  }

  async close(): Promise<void> {
    this.#release()
    await this.#runner.kill()
  }
}

async function define(
  { warehouse }: PreviewParts,
  workspaceId: string,
  runner: Runner,
  relation: PreviewRelation,
  params: Record<string, PlanParam>,
  options: CallOptions,
): Promise<void> {
  if (relation.kind === 'view') {
    await runner.defineView({ name: relation.name, sql: relation.sql, params }, options)
    return
  }
  const record = await warehouse.result(workspaceId, relation.fingerprint)
  if (!record)
    throw new RunnerError({
      class: 'source',
      message: `The result of ${relation.name} is not on this machine any more.`,
      hint: 'Run the pipeline again.',
    })
  const path = warehouse.resultPath(workspaceId, relation.fingerprint)
  const ask = { schema: relation.schema, name: relation.name, path, columns: record.columns }
  await runner.defineResult(ask, options)
}
