import type { DuckDBConnection } from '@duckdb/node-api'
import { z } from 'zod'
import { positionAt } from './failures.ts'
import type { Parsed } from './protocol.ts'

const serialized = z.object({
  error: z.boolean(),
  error_type: z.string().optional(),
  error_message: z.string().optional(),
  position: z.string().optional(),
  statements: z.array(z.record(z.string(), z.unknown())).optional(),
})

/** Parses without binding: no name is looked up, no file opened, no function called. */
export async function parseSelect(connection: DuckDBConnection, sql: string): Promise<Parsed> {
  const reader = await connection.runAndReadAll('SELECT json_serialize_sql($1::VARCHAR)', [sql])
  const astJson = String(reader.value(0, 0))
  const result = serialized.parse(JSON.parse(astJson))
  if (result.error) {
    const notSelect = result.error_type === 'not implemented'
    return {
      ok: false,
      kind: notSelect ? 'not_select' : 'syntax',
      message: notSelect ? NOT_SELECT : (result.error_message ?? 'syntax error'),
      ...(result.position === undefined
        ? {}
        : { position: positionAt(sql, byteOffset(sql, Number(result.position))) }),
    }
  }
  const statements = result.statements ?? []
  if (statements.length === 0) return { ok: false, kind: 'empty', message: 'There is no SQL here.' }
  if (statements.length > 1)
    return { ok: false, kind: 'several', message: 'A step is one statement; this has several.' }
  return { ok: true, ast_json: astJson, statements, params: paramNames(statements[0]) }
}

const NOT_SELECT =
  'A step is one SELECT. PIVOT without IN (…), and statements that change something, cannot be a step.'

/** Syntax errors are placed in characters, everything else of DuckDB in bytes. */
const byteOffset = (sql: string, characters: number): number =>
  Buffer.byteLength([...sql].slice(0, characters).join(''))

function paramNames(statement: unknown): string[] {
  const map = z.object({ named_param_map: z.array(z.object({ key: z.string() })).default([]) })
  const names = new Set<string>()
  const visit = (value: unknown) => {
    if (Array.isArray(value)) value.forEach(visit)
    else if (typeof value === 'object' && value !== null) {
      const node = value as Record<string, unknown>
      if (node.class === 'PARAMETER' && typeof node.identifier === 'string') names.add(node.identifier)
      Object.values(node).forEach(visit)
    }
  }
  visit(statement)
  for (const { key } of map.parse(statement).named_param_map) names.add(key)
  return [...names].sort()
}
