import pg from 'pg'

/** Every row of every table, as Postgres prints it: what a dump of the database holds. */
export type Dump = ReadonlyMap<string, readonly string[]>

/** What changes by being looked at: the rate limit's counters, when a device or session was last seen, who had a lease. */
const VOLATILE = new Set([
  'rate_limits',
  'devices',
  'sessions',
  'verifications',
  'device_codes',
  // The end of the audit, which also tells what was refused.
  'audit_heads',
])
const REFUSED = /,(change|request)\.refused,/

/** The server's database, looked at from outside. */
export class Tables {
  readonly #pool: pg.Pool

  constructor(databaseUrl: string) {
    this.#pool = new pg.Pool({ connectionString: databaseUrl, max: 1 })
    // A database that is dropped at the end of a test cuts idle connections.
    this.#pool.on('error', () => {})
  }

  async query(sql: string, values: readonly unknown[] = []): Promise<Record<string, unknown>[]> {
    return (await this.#pool.query(sql, [...values])).rows
  }

  async dump(): Promise<Dump> {
    const tables = await this.query(
      `select table_name as name from information_schema.tables
       where table_schema = 'public' and table_type = 'BASE TABLE' order by 1`,
    )
    const all = new Map<string, string[]>()
    for (const { name } of tables) {
      const rows = await this.query(`select t::text as row from "${String(name)}" t order by 1`)
      all.set(
        String(name),
        rows.map(row => String(row.row)),
      )
    }
    return all
  }

  /** The dump without what changes by being looked at, and without the audit of what was refused (AUD3), which is meant to grow. */
  async kept(): Promise<Dump> {
    const dump = [...(await this.dump())].filter(([name]) => !VOLATILE.has(name))
    return new Map(
      dump.map(([name, rows]) => [name, name === 'audit' ? rows.filter(row => !REFUSED.test(row)) : rows]),
    )
  }

  async close(): Promise<void> {
    await this.#pool.end()
  }
}
