import { AppError } from '@pluto-duck/crdt-model/errors'

/** What a column takes and gives. Integers are numbers (they stay below 2^53), blobs are bytes. */
export type Cell = string | number | boolean | Uint8Array | null
export type Row = Record<string, Cell>

/** A statement that is planned, with places for values. */
export interface Prepared {
  bindNull(at: number): void
  bindVarchar(at: number, value: string): void
  bindBigInt(at: number, value: bigint): void
  bindBoolean(at: number, value: boolean): void
  bindBlob(at: number, value: Uint8Array): void
  run(): Promise<unknown>
  runAndReadAll(): Promise<{ getRowObjectsJS(): Record<string, unknown>[] }>
  /** Gives back what it holds: until then, the database is open. */
  destroySync(): void
}

/** Takes many rows of one table. */
export interface Appender {
  appendNull(): void
  appendVarchar(value: string): void
  appendBigInt(value: bigint): void
  appendBoolean(value: boolean): void
  appendBlob(value: Uint8Array): void
  endRow(): void
  closeSync(): void
}

/** What the state asks of its database. DuckDB's own connection is one; the simulation has a lighter one beside it. */
export interface Connection {
  run(sql: string): Promise<unknown>
  prepare(sql: string): Promise<Prepared>
  createAppender(table: string): Promise<Appender>
  closeSync(): void
}

/** An open database file. */
export interface Database {
  connect(): Promise<Connection>
  /** False for one whose file holds nothing of deleted rows. Default true. */
  readonly keepsDeleted?: boolean
  closeSync(): void
}

/** Statements inside one transaction; or, on the reading side, over what is committed. */
export class Statements {
  #connection: Connection
  readonly #prepared = new Map<string, Prepared>()
  /** Statements that run now; while `#held` is set, others wait for it. */
  #running = 0
  #held: PromiseWithResolvers<void> | null = null
  #idle: (() => void) | null = null
  #ended = false

  constructor(connection: Connection) {
    this.#connection = connection
  }

  async run(sql: string, ...values: readonly Cell[]): Promise<void> {
    await this.#counted(() => this.#with(sql, values, async statement => void (await statement.run())))
  }

  async all<R = Row>(sql: string, ...values: readonly Cell[]): Promise<R[]> {
    return await this.#counted(() =>
      this.#with(sql, values, async statement => {
        const result = await statement.runAndReadAll()
        return result.getRowObjectsJS().map(row => plain(row) as R)
      }),
    )
  }

  /** Resolves when nothing runs; what is asked for from then on waits for `resume`. */
  async hold(): Promise<void> {
    this.#held = Promise.withResolvers()
    await this.#quiet()
  }

  async #quiet(): Promise<void> {
    if (this.#running > 0)
      await new Promise<void>(resolve => {
        this.#idle = resolve
      })
    for (const statement of this.#prepared.values()) statement.destroySync()
    this.#prepared.clear()
  }

  /**
   * Resolves when nothing runs; what is asked for from then on is refused. A connection that is closed under a statement never answers it,
   * or ends the process.
   */
  async end(): Promise<void> {
    this.#ended = true
    await this.#quiet()
  }

  /** Goes on, on another connection to the same content. */
  resume(connection: Connection): void {
    this.#connection = connection
    this.#held?.resolve()
    this.#held = null
  }

  async #counted<T>(work: () => Promise<T>): Promise<T> {
    while (this.#held) await this.#held.promise
    if (this.#ended) throw new AppError('internal', 'The local state is closed.')
    this.#running++
    try {
      return await work()
    } finally {
      if (--this.#running === 0) this.#idle?.()
    }
  }

  async first<R = Row>(sql: string, ...values: readonly Cell[]): Promise<R | null> {
    return (await this.all<R>(sql, ...values))[0] ?? null
  }

  /** Adds rows in the table's column order; many rows go by the appender, which is many times faster than inserts. */
  async insert(table: string, rows: readonly (readonly Cell[])[]): Promise<void> {
    const [head] = rows
    if (!head) return
    if (rows.length <= 4) {
      const sql = `insert into ${table} values (${head.map((_, i) => `$${i + 1}`).join(', ')})`
      for (const row of rows) await this.run(sql, ...row)
      return
    }
    const appender = await this.#connection.createAppender(table)
    for (const row of rows) {
      for (const cell of row) {
        if (cell === null) appender.appendNull()
        else if (typeof cell === 'string') appender.appendVarchar(cell)
        else if (typeof cell === 'number') appender.appendBigInt(BigInt(cell))
        else if (typeof cell === 'boolean') appender.appendBoolean(cell)
        else appender.appendBlob(cell)
      }
      appender.endRow()
    }
    appender.closeSync()
  }

  /**
   * Only what reads no table is kept prepared: inserts, and the ends of transactions. DuckDB (1.5.6) plans a statement by the statistics that its table has at that moment and
   * does not plan it again when rows come: a SELECT … ORDER BY prepared on an empty table gives garbage for texts (STATE6).
   *
   * Everything else is destroyed here. Left to the garbage collector a statement holds its database open after `closeSync`, until some later moment: whoever opens the file
   * before that has the log of his commits taken away by the end of the first (STATE9).
   */
  async #with<T>(
    sql: string,
    values: readonly Cell[],
    work: (statement: Prepared) => Promise<T>,
  ): Promise<T> {
    const statement = this.#prepared.get(sql) ?? (await this.#connection.prepare(sql))
    // Of several that were prepared at once, the first is kept.
    if (KEPT.test(sql) && !this.#prepared.has(sql)) this.#prepared.set(sql, statement)
    const kept = this.#prepared.get(sql) === statement
    try {
      bind(statement, values)
      return await work(statement)
    } finally {
      if (!kept) statement.destroySync()
    }
  }
}

const KEPT = /^\s*(insert|begin|commit|rollback)\b/i

function bind(statement: Prepared, values: readonly Cell[]): void {
  for (const [index, value] of values.entries()) {
    const at = index + 1
    if (value === null) statement.bindNull(at)
    else if (typeof value === 'string') statement.bindVarchar(at, value)
    else if (typeof value === 'number') statement.bindBigInt(at, BigInt(value))
    else if (typeof value === 'boolean') statement.bindBoolean(at, value)
    else statement.bindBlob(at, value)
  }
}

function plain(row: Record<string, unknown>): Row {
  const out: Row = {}
  for (const [key, value] of Object.entries(row)) {
    if (typeof value === 'bigint') out[key] = Number(value)
    // A view on DuckDB's memory: copied, so that it outlives the result.
    else if (value instanceof Uint8Array) out[key] = new Uint8Array(value)
    else out[key] = value as Cell
  }
  return out
}
