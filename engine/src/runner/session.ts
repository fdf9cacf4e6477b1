import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api'
import { type Column, quoteName, quoteText } from '../warehouse/column-types.ts'
import { encodeList, selectFromFile } from '../warehouse/storage-types.ts'
import { type Bindings, boundParams, treeWithParams } from './bound-params.ts'
import { columnsOf } from './duckdb-columns.ts'
import { classify, positionAt, RunnerError, readEngineError } from './failures.ts'
import { checkStatement, type RelationName } from './guard.ts'
import { parseSelect } from './parse.ts'
import type {
  Described,
  Failure,
  Materialized,
  Parsed,
  Progress,
  Queried,
  Request,
  Tested,
} from './protocol.ts'
import { selectFromSource } from './source-sql.ts'
import { withoutTerminator } from './statement-text.ts'

type Ask<Op extends Request['op']> = Omit<Extract<Request, { op: Op }>, 'op'>

/** A statement that passed: one SELECT, allowed functions, only relations that were defined. */
interface Checked {
  readonly sql: string
  readonly astJson: string
  readonly params: readonly string[]
}

/** One running request: what `cancel` and progress need. */
export interface Running {
  onProgress(progress: Progress): void
  /** Called when a connection starts to work for this request, and with null when it stops. */
  onConnection(connection: DuckDBConnection | null): void
}

const PROGRESS_MS = 200

/**
 * The working DuckDB of one runner: in memory, its sandbox locked before the first statement of a user.
 *
 * Guarantees: opens only `allowed_paths`; loads no extension; runs only checked SELECTs, inside statements made here.
 */
export class Session {
  readonly #free: DuckDBConnection[]
  readonly #waiting: ((connection: DuckDBConnection) => void)[] = []
  readonly #relations = new Map<string, { readonly schema: string; readonly name: string }>()
  readonly #schemas = new Set<string>()
  /** May open no file. */
  readonly #closed: boolean

  private constructor(connections: DuckDBConnection[], closed: boolean) {
    this.#free = connections
    this.#closed = closed
  }

  static async open(ask: Ask<'configure'>, tempDirectory: string): Promise<Session> {
    const instance = await openInstance()
    const first = await instance.connect()
    const { limits } = ask
    const settings = [
      `SET memory_limit = '${Math.ceil(limits.memory_bytes / 1024)}KiB'`,
      `SET threads = ${limits.threads}`,
      `SET temp_directory = ${quoteText(tempDirectory)}`,
      `SET max_temp_directory_size = '${Math.ceil(limits.temp_bytes / 1024)}KiB'`,
      "SET TimeZone = 'UTC'",
      'SET preserve_insertion_order = true',
      `SET allowed_paths = [${ask.allowed_paths.map(quoteText).join(', ')}]`,
    ]
    for (const sql of settings) await first.run(sql)
    const connections = [first]
    while (connections.length < ask.connections) connections.push(await instance.connect())
    for (const connection of connections) {
      await connection.run('SET enable_progress_bar = true')
      await connection.run('SET enable_progress_bar_print = false')
      await connection.run('SET progress_bar_time = 0')
    }
    await lock(first)
    return new Session(connections, ask.allowed_paths.length === 0)
  }

  async defineSource({ source }: Ask<'define_source'>): Promise<null> {
    const body = selectFromSource(source)
    await this.#define('source', source.name, body, error => {
      const failure = classify(error, '')
      return {
        ...failure,
        class: 'source',
        message: `The source ${source.name} could not be read.`,
        hint: 'Check that its files are there, readable, and of the kind and options declared.',
      }
    })
    return null
  }

  async defineResult({ schema, name, path, columns }: Ask<'define_result'>): Promise<null> {
    await this.#define(schema ?? 'main', name, selectFromFile(path, columns), error => ({
      ...classify(error, ''),
      message: `The stored result of ${name} could not be read.`,
      hint: 'Run the pipeline again to rebuild it.',
    }))
    return null
  }

  /** Returns the SQL of the view with its params written out, so that it can be kept. */
  async defineView({ name, sql, params }: Ask<'define_view'>, running: Running): Promise<string> {
    const checked = await this.#check(sql)
    const body =
      checked.params.length === 0
        ? checked.sql
        : await this.#use(running, async c => {
            const tree = treeWithParams(checked.astJson, params)
            const reader = await c.runAndReadAll('SELECT json_deserialize_sql($1::JSON)', [tree])
            return String(reader.value(0, 0))
          })
    await this.#define('main', name, body, error =>
      classify(error, sql, Buffer.byteLength(viewHead('main', name))),
    )
    return body
  }

  async defineShape({ schema, name, columns }: Ask<'define_shape'>): Promise<null> {
    const list = columns.map(column => `CAST(NULL AS ${column.type}) AS ${quoteName(column.name)}`)
    const { sql } = await this.#check(`SELECT ${list.join(', ')} WHERE false`)
    await this.#define(schema ?? 'main', name, sql, error => classify(error, ''))
    return null
  }

  async forget(): Promise<null> {
    if (!this.#closed)
      throw new RunnerError({ class: 'internal', message: 'A runner that may open files is used once.' })
    const connection = await this.#take()
    try {
      const names = [...this.#relations.values()].map(
        ({ schema, name }) => `${quoteName(schema)}.${quoteName(name)}`,
      )
      this.#relations.clear()
      for (const name of names) await connection.run(`DROP VIEW ${name}`)
    } finally {
      this.#give(connection)
    }
    return null
  }

  async describe({ sql, params }: Ask<'describe'>, running: Running): Promise<Described> {
    const checked = await this.#check(sql)
    return this.#use(running, async c => ({
      columns: await columnsFor(c, checked, await boundParams(c, checked.params, params)),
    }))
  }

  async query({ sql, params, offset, limit }: Ask<'query'>, running: Running): Promise<Queried> {
    const checked = await this.#check(sql)
    return this.#use(running, async c => {
      const bindings = await boundParams(c, checked.params, params)
      const columns = await columnsFor(c, checked, bindings)
      const list = columns.map((column, i) => shown(column, `c${i}`)).join(', ')
      const head = `SELECT ${list} FROM (\n`
      const text = `${head}${checked.sql}\n) t(${positional(columns)}) LIMIT ${limit + 1} OFFSET ${offset}`
      const reader = await c
        .streamAndReadAll(text, bindings.values, bindings.types)
        .catch(error => raise(error, checked.sql, head))
      const rows = reader.getRowsJson()
      return { columns, rows: rows.slice(0, limit), more: rows.length > limit }
    })
  }

  async materialize(ask: Ask<'materialize'>, running: Running): Promise<Materialized> {
    const checked = await this.#check(ask.sql)
    return this.#use(running, async c => {
      const bindings = await boundParams(c, checked.params, ask.params)
      const columns = await columnsFor(c, checked, bindings)
      const rows = await copyTo(c, checked, columns, bindings, ask.path, '')
      return { columns, rows }
    })
  }

  async test({ sql, params, path, keep }: Ask<'test'>, running: Running): Promise<Tested> {
    const checked = await this.#check(sql)
    return this.#use(running, async c => {
      const bindings = await boundParams(c, checked.params, params)
      const head = 'SELECT count(*) FROM (\n'
      const reader = await c
        .runAndReadAll(`${head}${checked.sql}\n)`, bindings.values, bindings.types)
        .catch(error => raise(error, checked.sql, head))
      const failing = Number(reader.value(0, 0))
      if (failing > 0 && path !== null && keep > 0) {
        const columns = await columnsFor(c, checked, bindings)
        await copyTo(c, checked, columns, bindings, path, ` LIMIT ${keep}`)
      }
      return { failing_rows: failing }
    })
  }

  async #define(schema: string, name: string, body: string, failure: (error: unknown) => Failure) {
    const connection = await this.#take()
    try {
      if (schema !== 'main' && !this.#schemas.has(schema)) {
        await connection.run(`CREATE SCHEMA ${quoteName(schema)}`)
        this.#schemas.add(schema)
      }
      await connection.run(`${viewHead(schema, name)}${body}`)
      this.#relations.set(relationKey(schema, name), { schema, name })
    } catch (error) {
      throw new RunnerError(failure(error), error)
    } finally {
      this.#give(connection)
    }
  }

  async #check(given: string): Promise<Checked> {
    // Both are parsed: what follows the semicolon may be no second statement, and what is run must be what was checked.
    const sql = withoutTerminator(given)
    const connection = await this.#take()
    let parsed: Parsed
    try {
      parsed = await parseSelect(connection, given)
      if (parsed.ok && sql !== given) parsed = await parseSelect(connection, sql)
    } finally {
      this.#give(connection)
    }
    if (!parsed.ok)
      throw new RunnerError({
        class: 'sql',
        message: parsed.message,
        ...(parsed.position ? { position: parsed.position } : {}),
      })
    const [violation] = checkStatement(parsed.statements[0], relation => this.#mayRead(relation))
    if (violation)
      throw new RunnerError({
        class: violation.reason === 'relation' ? 'sql' : 'permission',
        message: violation.message,
        hint: violation.hint,
        ...(violation.offset === null ? {} : { position: positionAt(sql, violation.offset) }),
      })
    return { sql, astJson: parsed.ast_json, params: parsed.params }
  }

  #mayRead({ catalog, schema, name }: RelationName): boolean {
    return catalog === '' && this.#relations.has(relationKey(schema === '' ? 'main' : schema, name))
  }

  async #use<T>(running: Running, work: (connection: DuckDBConnection) => Promise<T>): Promise<T> {
    const connection = await this.#take()
    const timer = setInterval(() => {
      const { percentage, rows_processed } = connection.progress
      running.onProgress({ percent: Math.max(0, percentage), rows: Number(rows_processed) })
    }, PROGRESS_MS)
    try {
      running.onConnection(connection)
      return await work(connection)
    } catch (error) {
      throw error instanceof RunnerError ? error : new RunnerError(classify(error, ''), error)
    } finally {
      clearInterval(timer)
      running.onConnection(null)
      this.#give(connection)
    }
  }

  #take(): Promise<DuckDBConnection> {
    const free = this.#free.pop()
    return free ? Promise.resolve(free) : new Promise(resolve => this.#waiting.push(resolve))
  }

  #give(connection: DuckDBConnection) {
    const next = this.#waiting.shift()
    if (next) next(connection)
    else this.#free.push(connection)
  }
}

/** An in-memory DuckDB; with `latest` every SELECT can be serialised (older formats refuse parameterised types). */
export const openInstance = () =>
  DuckDBInstance.create(':memory:', { storage_compatibility_version: 'latest' })

/** Closes the sandbox for good. Nothing can be set, loaded, attached or opened afterwards but `allowed_paths`. */
export async function lock(connection: DuckDBConnection): Promise<void> {
  for (const sql of [
    'SET errors_as_json = true',
    'SET autoinstall_known_extensions = false',
    'SET autoload_known_extensions = false',
    'SET allow_community_extensions = false',
    'SET allow_unsigned_extensions = false',
    'SET allow_persistent_secrets = false',
    'SET enable_external_access = false',
    'SET lock_configuration = true',
  ])
    await connection.run(sql)
}

const relationKey = (schema: string, name: string) =>
  JSON.stringify([schema.toLowerCase(), name.toLowerCase()])
const viewHead = (schema: string, name: string) =>
  `CREATE OR REPLACE VIEW ${quoteName(schema)}.${quoteName(name)} AS `
const positional = (columns: readonly Column[]) => columns.map((_, i) => quoteName(`c${i}`)).join(', ')

async function columnsFor(
  connection: DuckDBConnection,
  checked: Checked,
  bindings: Bindings,
): Promise<Column[]> {
  const head = 'SELECT * FROM (\n'
  const reader = await connection
    .runAndReadAll(`${head}${checked.sql}\n) LIMIT 0`, bindings.values, bindings.types)
    .catch(error => raise(error, checked.sql, head))
  return columnsOf(reader)
}

/** Writes the statement's rows into `path`, which must not exist. Returns how many. */
async function copyTo(
  connection: DuckDBConnection,
  checked: Checked,
  columns: readonly Column[],
  bindings: Bindings,
  path: string,
  suffix: string,
): Promise<number> {
  const list = encodeList(columns) ?? columns.map((c, i) => `"c${i}" AS ${quoteName(c.name)}`).join(', ')
  const head = `COPY (SELECT ${list} FROM (\n`
  const tail = `\n) t(${positional(columns)})${suffix}) TO ${quoteText(path)} (FORMAT parquet, COMPRESSION snappy, USE_TMP_FILE false)`
  const reader = await connection
    .runAndReadAll(`${head}${checked.sql}${tail}`, bindings.values, bindings.types)
    .catch(error => raise(error, checked.sql, head))
  return Number(reader.value(0, 0))
}

function raise(error: unknown, sql: string, head: string): never {
  const failure = classify(error, sql, Buffer.byteLength(head))
  const full = readEngineError(error)?.exception_message ?? ''
  if (failure.class === 'source' && /No space left|max_temp_directory_size|offload data/i.test(full))
    throw new RunnerError(
      { ...failure, class: 'resource', message: 'There is no room left on the disk.' },
      error,
    )
  throw new RunnerError(failure, error)
}

/** Types whose JSON form would round, or lose infinity: DuckDB writes them as text itself. */
const AS_TEXT = /^(DATE|TIME|TIMESTAMP|INTERVAL|BLOB|BIT|UUID|GEOMETRY|VARIANT|BIGNUM)/

const shown = (column: Column, name: string): string =>
  AS_TEXT.test(column.type.id) ? `CAST(${quoteName(name)} AS VARCHAR)` : quoteName(name)
