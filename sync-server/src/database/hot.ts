import { CompiledQuery, type QueryExecutorProvider, type QueryResult } from 'kysely'
import type pg from 'pg'

/** A statement that is made once and run with every push. */
export interface HotStatement {
  readonly text: string
}

const names = new Map<string, string>()

/** Names a statement of fixed text with `$1` and on, so that each connection parses and plans it once. */
export function hot(text: string): HotStatement {
  if (!names.has(text)) names.set(text, `pluto_${names.size + 1}`)
  return { text }
}

/** Runs it as Kysely would, without building it anew. */
export const runHot = <Row>(
  db: QueryExecutorProvider,
  statement: HotStatement,
  values: readonly unknown[],
): Promise<QueryResult<Row>> =>
  db.getExecutor().executeQuery<Row>(CompiledQuery.raw(statement.text, [...values]))

/**
 * Has a connection keep the plans of hot statements. Without it they run all the same. The server listens for notifications, so no pooler
 * that changes connections between statements can be in front of Postgres, and names hold.
 */
export function keepPlans(client: pg.PoolClient): void {
  const query = client.query.bind(client) as (...given: unknown[]) => unknown
  const named = (text: unknown, values: unknown, ...rest: unknown[]): unknown => {
    const name = typeof text === 'string' ? names.get(text) : undefined
    return name === undefined ? query(text, values, ...rest) : query({ name, text, values }, ...rest)
  }
  client.query = named as typeof client.query
}
