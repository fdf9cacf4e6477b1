import type { DuckDBConnection, DuckDBType, DuckDBValue } from '@duckdb/node-api'
import type { PlanParam } from '../plan/plan-types.ts'
import { quoteText } from '../warehouse/column-types.ts'

/** The DuckDB type of each type of param. */
export const PARAM_TYPES: Readonly<Record<PlanParam['type'], string>> = {
  text: 'VARCHAR',
  integer: 'BIGINT',
  number: 'DOUBLE',
  boolean: 'BOOLEAN',
  date: 'DATE',
  timestamp: 'TIMESTAMP',
}

/** `CAST('…' AS …)`: a param's value written in SQL. */
export const paramLiteral = (param: PlanParam): string =>
  `CAST(${param.value === null ? 'NULL' : quoteText(String(param.value))} AS ${PARAM_TYPES[param.type]})`

export interface Bindings {
  readonly values: Record<string, DuckDBValue> | undefined
  readonly types: Record<string, DuckDBType | undefined> | undefined
}

/** The values for exactly the params that a statement names, typed by DuckDB itself. */
export async function boundParams(
  connection: DuckDBConnection,
  names: readonly string[],
  params: Readonly<Record<string, PlanParam>>,
): Promise<Bindings> {
  if (names.length === 0) return { values: undefined, types: undefined }
  const given = names.map(name => params[name] ?? { type: 'text' as const, value: null })
  const reader = await connection.runAndReadAll(`SELECT ${given.map(paramLiteral).join(', ')}`)
  const row = reader.getRows()[0] ?? []
  const types = reader.columnTypes()
  return {
    values: Object.fromEntries(names.map((name, index) => [name, row[index] ?? null])),
    types: Object.fromEntries(names.map((name, index) => [name, types[index]])),
  }
}

/**
 * The statement's tree (as text) with its params replaced by their values, for where DuckDB takes no bound params (a view).
 * It works on the text, because parsing it would round big numbers; inside a JSON string every quote is escaped, so the pattern
 * can only meet a real node.
 */
export function treeWithParams(astJson: string, params: Readonly<Record<string, PlanParam>>): string {
  return astJson.replace(PARAMETER, (_node, alias: string, identifier: string) => {
    const param = params[String(JSON.parse(identifier))] ?? { type: 'text' as const, value: null }
    const value =
      param.value === null
        ? '"is_null":true'
        : `"is_null":false,"value":${JSON.stringify(String(param.value))}`
    const constant = `{"class":"CONSTANT","type":"VALUE_CONSTANT","alias":"","query_location":0,"value":{"type":{"id":"VARCHAR","type_info":null},${value}}}`
    return `{"class":"CAST","type":"OPERATOR_CAST","alias":${alias},"query_location":0,"child":${constant},"cast_type":{"id":"${PARAM_TYPES[param.type]}","type_info":null},"try_cast":false}`
  })
}

const JSON_STRING = '"(?:[^"\\\\]|\\\\.)*"'
const PARAMETER = new RegExp(
  `\\{"class":"PARAMETER","type":"VALUE_PARAMETER","alias":(${JSON_STRING}),"query_location":\\d+,"identifier":(${JSON_STRING})\\}`,
  'g',
)
