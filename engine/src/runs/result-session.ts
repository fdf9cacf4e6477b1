import type { PlanParam, PlanSource } from '../plan/plan-types.ts'
import { DEFAULT_SETTINGS } from '../run/index.ts'
import type { CallOptions, Queried, Runner, RunnerPool } from '../runner/index.ts'
import type { Column } from '../warehouse/index.ts'

/** What can be read by name: a stored result, or a view over what comes before it. */
export type Relation =
  | { readonly kind: 'table'; readonly name: string; readonly path: string; readonly columns: readonly Column[] }
  | {
      readonly kind: 'view'
      readonly name: string
      readonly sql: string
      readonly params: Readonly<Record<string, PlanParam>>
    }

export interface SessionInput {
  readonly sources: readonly PlanSource[]
  /** Each after what it reads. */
  readonly relations: readonly Relation[]
  /** Files that may be written. */
  readonly outputs?: readonly string[]
}

/** A sandbox over results that are there: for pages of rows, summaries, reports, snapshots and previews. */
export class ResultSession {
  readonly #runner: Runner

  private constructor(runner: Runner) {
    this.#runner = runner
  }

  static async open(pool: RunnerPool, input: SessionInput, options: CallOptions = {}): Promise<ResultSession> {
    const runner = pool.take()
    try {
      await runner.configure(
        {
          limits: DEFAULT_SETTINGS.limits,
          allowed_paths: [
            ...input.sources.flatMap(source => source.paths),
            ...input.relations.flatMap(relation => (relation.kind === 'table' ? [relation.path] : [])),
            ...(input.outputs ?? []),
          ],
          connections: 2,
        },
        options,
      )
      for (const source of input.sources) await runner.defineSource(source, options)
      for (const relation of input.relations) {
        if (relation.kind === 'table') {
          const { name, path, columns } = relation
          await runner.defineResult({ schema: null, name, path, columns: [...columns] }, options)
        } else {
          const { name, sql, params } = relation
          await runner.defineView({ name, sql, params: { ...params } }, options)
        }
      }
      return new ResultSession(runner)
    } catch (error) {
      await runner.kill()
      throw error
    }
  }

  get alive(): boolean {
    return this.#runner.alive
  }

  query(
    sql: string,
    page: { readonly offset: number; readonly limit: number },
    params: Readonly<Record<string, PlanParam>> = {},
    options: CallOptions = {},
  ): Promise<Queried> {
    return this.#runner.query({ sql, params: { ...params }, ...page }, options)
  }

  /** Writes the rows of a SELECT into one of the outputs, as Parquet. */
  async write(sql: string, path: string, options: CallOptions = {}): Promise<{ rows: number }> {
    const made = await this.#runner.materialize({ sql, params: {}, path }, options)
    return { rows: made.rows }
  }

  close(): Promise<void> {
    return this.#runner.kill()
  }
}
