/** Traces columns in a process of its own: it parses a user's SQL, so it may hang or die. Started by lineage.ts only. */
import { type LineageNode, lineageWithSchema, type Schema } from '@polyglot-sql/sdk'
import { z } from 'zod'

const request = z.object({
  id: z.number(),
  sql: z.string(),
  column: z.string(),
  tables: z.array(
    z.object({
      schema: z.string().nullable(),
      name: z.string(),
      columns: z.array(z.object({ name: z.string(), type: z.string() })),
    }),
  ),
})

type Ask = z.infer<typeof request>

function trace({ sql, column, tables }: Ask): Array<{ table: string; column: string }> | null {
  const schema: Schema = {
    tables: tables.map(({ schema: inSchema, ...table }) => ({
      ...table,
      ...(inSchema ? { schema: inSchema } : {}),
    })),
    strict: false,
  }
  const { success, lineage } = lineageWithSchema(column, sql, schema, 'duckdb')
  if (!success || !lineage) return null
  const found: Array<{ table: string; column: string }> = []
  const visit = (node: LineageNode) => {
    if (node.source_kind === 'table' && node.downstream.length === 0) {
      found.push({
        table: node.source_name.toLowerCase(),
        column: node.name.slice(node.name.lastIndexOf('.') + 1),
      })
    }
    for (const next of node.downstream) visit(next)
  }
  visit(lineage)
  return found
}

process.on('message', message => {
  const ask = request.parse(message)
  let origins: ReturnType<typeof trace>
  try {
    origins = trace(ask)
  } catch {
    // SQL that this parser does not know is an answer: this step's columns cannot be traced.
    origins = null
  }
  process.send?.({ id: ask.id, origins })
})
process.on('disconnect', () => process.exit(0))
