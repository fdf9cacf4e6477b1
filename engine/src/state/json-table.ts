import { AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import type { z } from 'zod'
import type { State } from './state.ts'
import type { Statements } from './transaction.ts'

export type JsonTableName = 'runs' | 'grants' | 'ledger' | 'versions' | 'uploads' | 'overviews'

/** What is said of a record of the local state that this program cannot read. */
export const unreadable = (table: string, key: string, cause: unknown): AppError =>
  new AppError('state.corrupt', `Record ${key} of ${table} in state.duckdb cannot be read.`, {
    details: { table, key },
    cause,
  })

/**
 * Records of one feature, each a JSON value by key, listed by parent (a pipeline, a run, a workspace) and time. Parsed when
 * written and when read, so a record from an older program is refused instead of misread.
 */
export class JsonTable<S extends z.ZodType> {
  readonly #state: State
  readonly #table: JsonTableName
  readonly #schema: S

  constructor(state: State, table: JsonTableName, schema: S) {
    this.#state = state
    this.#table = table
    this.#schema = schema
  }

  /** Adds or replaces; durable when it resolves. `at` is ISO 8601 and orders lists. */
  put(
    key: string,
    place: { readonly parent: string; readonly at: string },
    value: z.input<S>,
  ): Promise<void> {
    return this.#state.write(tx => this.putIn(tx, key, place, value))
  }

  /** The same inside a transaction of the caller's. */
  async putIn(
    tx: Statements,
    key: string,
    place: { readonly parent: string; readonly at: string },
    value: z.input<S>,
  ): Promise<void> {
    const body = JSON.stringify(this.#schema.parse(value))
    await tx.run(
      `insert or replace into ${this.#table} values ($1, $2, $3, $4)`,
      key,
      place.parent,
      place.at,
      body,
    )
  }

  async get(key: string): Promise<z.output<S> | null> {
    const row = await this.#state.read.first<{ body: string }>(
      `select body from ${this.#table} where key = $1`,
      key,
    )
    return row ? this.#parse(key, row.body) : null
  }

  /** Every key with its parent: what there is, without reading any of it. */
  async keys(): Promise<{ key: string; parent: string }[]> {
    return await this.#state.read.all(`select key, parent from ${this.#table}`)
  }

  /** The values of many keys, in one statement; a key that is not there is left out. */
  async getAll(keys: readonly string[]): Promise<Map<string, z.output<S>>> {
    const rows = await this.#state.read.all<{ key: string; body: string }>(
      `select key, body from ${this.#table} where key in (select unnest(from_json($1, '["varchar"]')))`,
      JSON.stringify(keys),
    )
    return new Map(rows.map(row => [row.key, this.#parse(row.key, row.body)]))
  }

  /** Every value by its key. */
  async entries(): Promise<Map<string, z.output<S>>> {
    const rows = await this.#state.read.all<{ key: string; body: string }>(
      `select key, body from ${this.#table}`,
    )
    return new Map(rows.map(row => [row.key, this.#parse(row.key, row.body)]))
  }

  /** The newest value of each parent. A parent whose newest cannot be read is left out when `broken` is there to hear of it. */
  async newest(broken?: (error: AppError) => void): Promise<Map<string, z.output<S>>> {
    const rows = await this.#state.read.all<{ key: string; parent: string; body: string }>(
      `select key, parent, body from ${this.#table}
       qualify row_number() over (partition by parent order by created_at desc, key desc) = 1`,
    )
    return new Map(this.#parseAll(rows, broken).map(([row, value]) => [row.parent, value]))
  }

  /**
   * Newest first; `limit` defaults to 1,000, `since` (inclusive, ISO 8601) to everything. What cannot be read is left out when `broken` is
   * there to hear of it.
   */
  async list(
    filter: { readonly parent?: string; readonly since?: string; readonly limit?: number } = {},
    broken?: (error: AppError) => void,
  ): Promise<z.output<S>[]> {
    const rows = await this.#state.read.all<{ key: string; body: string }>(
      `select key, body from ${this.#table} where ($1 is null or parent = $1) and ($2 is null or created_at >= $2)
       order by created_at desc, key desc limit $3`,
      filter.parent ?? null,
      filter.since ?? null,
      filter.limit ?? 1_000,
    )
    return this.#parseAll(rows, broken).map(([, value]) => value)
  }

  /** A part of each value of a parent (`$.summary`), newest first: the rest is neither read out of the database nor parsed. */
  async parts<P extends z.ZodType>(parent: string, path: string, schema: P): Promise<z.output<P>[]> {
    const rows = await this.#state.read.all<{ key: string; part: string | null }>(
      `select key, try(json_extract(body, $2))::varchar as part from ${this.#table} where parent = $1 order by created_at desc, key desc`,
      parent,
      path,
    )
    return rows.map(row => this.#parse(row.key, row.part ?? '', schema))
  }

  #parseAll<R extends { readonly key: string; readonly body: string }>(
    rows: readonly R[],
    broken: ((error: AppError) => void) | undefined,
  ): (readonly [R, z.output<S>])[] {
    return rows.flatMap(row => {
      try {
        return [[row, this.#parse(row.key, row.body)] as const]
      } catch (error) {
        if (!broken) throw error
        broken(toAppError(error))
        return []
      }
    })
  }

  /** Throws `state.corrupt`, which names the record, for one that this program cannot read. */
  #parse(key: string, body: string): z.output<S>
  #parse<P extends z.ZodType>(key: string, body: string, schema: P): z.output<P>
  #parse(key: string, body: string, schema: z.ZodType = this.#schema): unknown {
    try {
      return schema.parse(JSON.parse(body))
    } catch (cause) {
      throw unreadable(this.#table, key, cause)
    }
  }

  remove(key: string): Promise<void> {
    return this.#state.write(tx => tx.run(`delete from ${this.#table} where key = $1`, key))
  }
}
