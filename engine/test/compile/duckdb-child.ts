import { DuckDBInstance, type DuckDBValue } from '@duckdb/node-api'
import type {
  BindReply,
  BindSession,
  Column,
  ParamValues,
  ParseReply,
  SqlChild,
} from '../../src/compile/index.ts'
import { readerSql } from '../../src/sources/options.ts'

interface Serialized {
  readonly error: boolean
  readonly statements?: unknown[]
  readonly error_type?: string
  readonly error_message?: string
  readonly position?: string
}

/** The child's side of compile, run in the test's own process. */
export async function openDuckdbChild(): Promise<SqlChild & { close(): void }> {
  const instance = await DuckDBInstance.create(':memory:')
  const connection = await instance.connect()
  return {
    async parse(sql): Promise<ParseReply> {
      const rows = await connection.runAndReadAll('select json_serialize_sql($1::varchar)', [sql])
      const text = String(rows.getRows()[0]![0])
      const reply = JSON.parse(text) as Serialized
      if (!reply.error) {
        const count = reply.statements!.length
        if (count === 1) return { ok: true, ast_json: text }
        return { ok: false, kind: count === 0 ? 'empty' : 'several', message: '', position: null }
      }
      if (reply.error_type === 'not implemented') {
        return { ok: false, kind: 'not_select', message: reply.error_message ?? '', position: null }
      }
      const before = Buffer.from(sql)
        .subarray(0, Number(reply.position ?? 0))
        .toString()
      const line = before.split('\n').length
      const column = before.length - before.lastIndexOf('\n')
      return { ok: false, kind: 'syntax', message: reply.error_message ?? '', position: { line, column } }
    },
    async open(): Promise<BindSession> {
      const session = await (await DuckDBInstance.create(':memory:')).connect()
      await session.run('create schema source')
      const attempt = async <T>(work: () => Promise<T>): Promise<BindReply<T>> => {
        try {
          return { ok: true, value: await work() }
        } catch (error) {
          const message = (error as Error).message
          const place = /LINE (\d+): (.*)\n( *)\^/.exec(message)
          const lead = `LINE ${place?.[1]}: `.length
          const position = place ? { line: Number(place[1]), column: place[3]!.length - lead + 1 } : null
          return { ok: false, message, position }
        }
      }
      return {
        defineSource: source =>
          attempt(async () => {
            const reader = readerSql(source.kind, source.paths, source.options)
            await session.run(`create view source."${source.name}" as ${reader}`)
            return null
          }),
        defineView: (name, sql) =>
          attempt(async () => {
            await session.run(`create view "${name}" as ${sql}`)
            return null
          }),
        describe: (sql, params: ParamValues) =>
          attempt(async () => {
            const values = Object.fromEntries(
              Object.entries(params).map(([name, param]) => [name, param.value as DuckDBValue]),
            )
            await (await session.prepare(sql)).destroySync()
            const inner = sql.replace(/;\s*$/, '')
            const result = await session.run(`select * from (${inner}\n) limit 0`, values)
            const names = result.columnNames()
            return result
              .columnTypes()
              .map((type, index): Column => ({ name: names[index]!, type: String(type) }))
          }),
        close: async () => session.closeSync(),
      }
    },
    isFunctionAllowed: name =>
      !/^(read_|glob$|enable_logging|query$|query_table|json_execute|duckdb_|pragma_|getenv)/.test(name),
    close: () => connection.closeSync(),
  }
}
