/**
 * Reads DuckDB's syntax tree (`json_serialize_sql`). It is walked generically, so a kind of node that a later DuckDB adds is
 * looked through, not skipped: what it refers to is still found.
 */

/** A table named in a FROM. `byte` counts in UTF-8; null when the engine gives no place. */
export interface TableRef {
  readonly catalog: string
  readonly schema: string
  readonly name: string
  readonly byte: number | null
}

export interface SqlFacts {
  readonly tables: readonly TableRef[]
  readonly params: readonly string[]
  /** What makes two runs over the same input differ, in the words of the SQL: `random()`, `TABLESAMPLE`. */
  readonly volatile: readonly string[]
  /** The tree without places: equal for texts that differ in formatting, comments and keyword case only. */
  readonly normalized: string
}

/** Functions whose value is not decided by their arguments. Clocks count: a result that holds one is of its moment. */
const VOLATILE = new Set(
  `random setseed uuid gen_random_uuid uuidv4 uuidv7 now today get_current_time get_current_timestamp current_localtime
  current_localtimestamp transaction_timestamp current_date current_time current_timestamp localtime localtimestamp nextval
  currval txid_current current_setting getenv pg_backend_pid get_current_date`.split(/\s+/),
)
/** SQL's clock values are written without parentheses and parsed as columns. */
const CLOCK_COLUMNS = new Set([
  'current_date',
  'current_time',
  'current_timestamp',
  'localtime',
  'localtimestamp',
])

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }
type Node = { readonly [key: string]: Json }
const isNode = (value: Json | undefined): value is Node =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const text = (value: Json | undefined): string => (typeof value === 'string' ? value : '')

/** Everything that a statement names. `astJson` is the text that `json_serialize_sql` gave. */
export function readFacts(astJson: string): SqlFacts {
  const found: Found = {
    tables: [],
    params: new Set(),
    volatile: new Set(),
  }
  walk(JSON.parse(astJson) as Json, new Set(), found)
  return {
    tables: found.tables,
    params: [...found.params].sort(),
    volatile: [...found.volatile].sort(),
    normalized: normalizeAst(astJson),
  }
}

/**
 * Cut from the text, not from the parsed tree: JSON numbers beyond 2^53 would fall together, and with them two different
 * queries. A string constant cannot match, since its quotes are escaped.
 */
export function normalizeAst(astJson: string): string {
  return astJson.replaceAll(/,?"query_location":\d+/g, '')
}

interface Found {
  tables: TableRef[]
  params: Set<string>
  volatile: Set<string>
}

function walk(value: Json | undefined, scope: ReadonlySet<string>, found: Found): void {
  if (Array.isArray(value)) {
    for (const item of value) walk(item, scope, found)
    return
  }
  if (!isNode(value)) return
  let inner = scope
  const ctes = cteEntries(value)
  if (ctes.length > 0) inner = walkCtes(ctes, scope, found)
  if (isSample(value.sample)) found.volatile.add('TABLESAMPLE')
  note(value, inner, found)
  for (const [key, child] of Object.entries(value)) if (key !== 'cte_map') walk(child, inner, found)
}

/** A sample with a seed (`REPEATABLE`) gives the same rows again. */
function isSample(value: Json | undefined): boolean {
  return isNode(value) && 'sample_size' in value && value.seed === -1
}

function cteEntries(node: Node): Array<{ key: string; value: Json }> {
  const map = isNode(node.cte_map) ? node.cte_map.map : undefined
  if (!Array.isArray(map)) return []
  return map.filter(isNode).map(entry => ({ key: text(entry.key).toLowerCase(), value: entry.value ?? null }))
}

/** A CTE sees those before it, and itself only when it is recursive; its own name otherwise means the table outside. */
function walkCtes(
  ctes: ReadonlyArray<{ key: string; value: Json }>,
  scope: ReadonlySet<string>,
  found: Found,
) {
  const names = new Set(scope)
  for (const { key, value } of ctes) {
    const seen = isRecursive(value) ? new Set([...names, key]) : new Set(names)
    walk(value, seen, found)
    names.add(key)
  }
  return names
}

function isRecursive(value: Json): boolean {
  if (!isNode(value)) return false
  const query = value.query
  const node = isNode(query) ? query.node : undefined
  return isNode(node) && node.type === 'RECURSIVE_CTE_NODE'
}

function note(node: Node, scope: ReadonlySet<string>, found: Found): void {
  const byte = typeof node.query_location === 'number' ? node.query_location : null
  if (node.type === 'BASE_TABLE') {
    const ref = {
      catalog: text(node.catalog_name),
      schema: text(node.schema_name),
      name: text(node.table_name),
      byte,
    }
    if (ref.schema || ref.catalog || !scope.has(ref.name.toLowerCase())) found.tables.push(ref)
  } else if (node.type === 'SHOW_REF' && text(node.table_name)) {
    found.tables.push({
      catalog: text(node.catalog_name),
      schema: text(node.schema_name),
      name: text(node.table_name),
      byte,
    })
  } else if (node.class === 'FUNCTION' || node.class === 'WINDOW') {
    const name = text(node.function_name).toLowerCase()
    if (VOLATILE.has(name)) found.volatile.add(`${name}()`)
  } else if (node.class === 'COLUMN_REF') {
    const names = node.column_names
    const only = Array.isArray(names) && names.length === 1 ? text(names[0]).toLowerCase() : ''
    if (CLOCK_COLUMNS.has(only)) found.volatile.add(only)
  } else if (node.class === 'PARAMETER') {
    found.params.add(text(node.identifier))
  }
}
