import { AppError } from '@pluto-duck/crdt-model/errors'
import type pg from 'pg'

/** What is made again by itself, or is the schema's own. */
const REMADE = ['kysely_migration', 'kysely_migration_lock', 'snapshot_pages', 'rate_limits']

/** What lets whoever reads it act as somebody. Signing in makes it anew. */
export const SIGN_INS: readonly string[] = ['sessions', 'device_codes', 'verifications']

const LEFT_OUT = new Set([...REMADE, ...SIGN_INS])

/** Every table of ours that a backup holds, each after those that it refers to. */
export async function productTables(client: pg.PoolClient): Promise<string[]> {
  const { rows: tables } = await client.query<{ name: string }>(
    `select table_name as name from information_schema.tables
     where table_schema = current_schema() and table_type = 'BASE TABLE' order by table_name`,
  )
  const { rows: references } = await client.query<{ from: string; to: string }>(
    `select c.relname as from, t.relname as to from pg_constraint k
     join pg_class c on c.oid = k.conrelid join pg_class t on t.oid = k.confrelid
     where k.contype = 'f' and k.connamespace = current_schema()::regnamespace and c.oid <> t.oid`,
  )
  const left = new Set(tables.map(table => table.name).filter(name => !LEFT_OUT.has(name)))
  const ordered: string[] = []
  while (left.size > 0) {
    const free = [...left].filter(name => !references.some(one => one.from === name && left.has(one.to)))
    if (free.length === 0)
      throw new AppError(
        'database.schema',
        `Tables refer to each other in a circle: ${[...left].join(', ')}.`,
      )
    for (const name of free) {
      ordered.push(name)
      left.delete(name)
    }
  }
  return ordered
}

/** The sequences with the last value that was given out; null before the first. */
export async function sequences(client: pg.PoolClient): Promise<Record<string, string | null>> {
  const { rows } = await client.query<{ name: string; value: string | null }>(
    `select sequencename as name, last_value::text as value from pg_sequences where schemaname = current_schema()`,
  )
  return Object.fromEntries(rows.map(row => [row.name, row.value]))
}
