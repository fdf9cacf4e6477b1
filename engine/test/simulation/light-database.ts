import { join } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import type { Appender, Connection, Database, Prepared } from '../../src/state/index.ts'

/** The file of a light state, with its log beside it. */
export const LIGHT_FILE = 'state.sqlite'

type Value = string | bigint | null | Uint8Array

/**
 * SQLite under the engine's own state: a statement costs a fortieth of what it costs in DuckDB, and a new file a hundredth. The statements, transactions, shared commits,
 * faults of the disk and deaths stay what they are; that DuckDB carries them out as SQLite does is what the other simulations are for.
 */
export async function openLight(folder: string): Promise<Database> {
  const file = join(folder, LIGHT_FILE)
  const connections = new Set<LightConnection>()
  return {
    keepsDeleted: false,
    connect: async () => {
      const one = new LightConnection(file)
      connections.add(one)
      return one
    },
    closeSync: () => {
      for (const one of connections) one.closeSync()
    },
  }
}

class LightConnection implements Connection {
  readonly #sql: DatabaseSync
  readonly #statements = new Map<string, StatementSync>()

  constructor(file: string) {
    this.#sql = new DatabaseSync(file)
    // Readers see what is committed while a transaction is open, and a copy of both files is the last commit.
    this.#sql.exec(
      'pragma journal_mode = wal; pragma synchronous = off; pragma wal_autocheckpoint = 0; pragma secure_delete = on',
    )
  }

  async run(sql: string): Promise<void> {
    this.#sql.exec(translated(sql))
  }

  async prepare(sql: string): Promise<Prepared> {
    let statement = this.#statements.get(sql)
    if (!statement) {
      statement = this.#sql.prepare(translated(sql))
      this.#statements.set(sql, statement)
    }
    return new LightStatement(statement)
  }

  async createAppender(table: string): Promise<Appender> {
    return new LightAppender(this.#sql, table)
  }

  closeSync(): void {
    if (this.#sql.isOpen) this.#sql.close()
  }
}

class LightStatement implements Prepared {
  readonly #statement: StatementSync
  readonly #values: Record<string, Value> = {}
  /** Columns that are true or false: SQLite has numbers for them. */
  readonly #truths: readonly string[]

  constructor(statement: StatementSync) {
    this.#statement = statement
    this.#truths = statement
      .columns()
      .filter(column => column.type?.toLowerCase() === 'boolean')
      .map(column => column.name)
  }

  bindNull(at: number): void {
    this.#values[`$${at}`] = null
  }

  bindVarchar(at: number, value: string): void {
    this.#values[`$${at}`] = value
  }

  bindBigInt(at: number, value: bigint): void {
    this.#values[`$${at}`] = value
  }

  bindBoolean(at: number, value: boolean): void {
    this.#values[`$${at}`] = value ? 1n : 0n
  }

  bindBlob(at: number, value: Uint8Array): void {
    this.#values[`$${at}`] = value
  }

  async run(): Promise<void> {
    await turn()
    this.#statement.run(this.#values)
  }

  async runAndReadAll(): Promise<{ getRowObjectsJS(): Record<string, unknown>[] }> {
    await turn()
    const rows = this.#statement.all(this.#values) as Record<string, unknown>[]
    for (const row of rows)
      for (const name of this.#truths) if (row[name] !== null) row[name] = row[name] === 1
    return { getRowObjectsJS: () => rows }
  }

  /** SQLite's statements end with their connection. */
  destroySync(): void {}
}

class LightAppender implements Appender {
  readonly #sql: DatabaseSync
  readonly #table: string
  #statement: StatementSync | null = null
  #row: Value[] = []

  constructor(sql: DatabaseSync, table: string) {
    this.#sql = sql
    this.#table = table
  }

  appendNull(): void {
    this.#row.push(null)
  }

  appendVarchar(value: string): void {
    this.#row.push(value)
  }

  appendBigInt(value: bigint): void {
    this.#row.push(value)
  }

  appendBoolean(value: boolean): void {
    this.#row.push(value ? 1n : 0n)
  }

  appendBlob(value: Uint8Array): void {
    this.#row.push(value)
  }

  endRow(): void {
    this.#statement ??= this.#sql.prepare(
      `insert into ${this.#table} values (${this.#row.map(() => '?').join(', ')})`,
    )
    this.#statement.run(...this.#row)
    this.#row = []
  }

  closeSync(): void {
    this.#statement = null
  }
}

/** Others get their turn at each statement, as they do while DuckDB is at work. */
const turn = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

/** The few words of DuckDB's that SQLite says otherwise. */
function translated(sql: string): string {
  return sql
    .replace('now()::timestamp', 'current_timestamp')
    .replace(/select unnest\(from_json\((\$\d+), '\["varchar"\]'\)\)/, 'select value from json_each($1)')
    .replace(
      /try\(json_extract\(body, (\$\d+)\)\)::varchar/,
      'case when json_valid(body) then json_extract(body, $1) end',
    )
}
