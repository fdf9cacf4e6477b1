import { ALLOWED_FUNCTIONS, ALLOWED_TABLE_FUNCTIONS } from './functions.ts'

/**
 * Decides on the syntax tree whether a SELECT may be bound and run: everything that is not known to be harmless is refused.
 *
 * Pure: takes what DuckDB's `json_serialize_sql` gave. It is the second wall; the sandbox of the process (no external access,
 * exact paths) is the first, and the child process, which may die, the third.
 */
export interface Violation {
  readonly reason: 'function' | 'table_function' | 'relation' | 'construct'
  /** What was refused, as written (a function's or table's name, or the kind of node). */
  readonly name: string
  /** Byte offset into the SQL; null where the parser gives none. */
  readonly offset: number | null
  readonly message: string
  readonly hint: string
}

export interface RelationName {
  readonly catalog: string
  readonly schema: string
  readonly name: string
}

/** Says whether a table name (not that of a CTE in scope) may be read. */
export type RelationCheck = (relation: RelationName) => boolean

type Node = { readonly [key: string]: unknown }

const EXPRESSIONS = new Set([
  'BETWEEN',
  'CASE',
  'CAST',
  'COLLATE',
  'COLUMN_REF',
  'COMPARISON',
  'CONJUNCTION',
  'CONSTANT',
  'DEFAULT',
  'FUNCTION',
  'LAMBDA',
  'LAMBDA_REF',
  'OPERATOR',
  'PARAMETER',
  'POSITIONAL_REFERENCE',
  'STAR',
  'SUBQUERY',
  'TYPE',
  'WINDOW',
])
const TABLE_REFS = new Set([
  'BASE_TABLE',
  'EMPTY',
  'EXPRESSION_LIST',
  'JOIN',
  'PIVOT',
  'SHOW_REF',
  'SUBQUERY',
  'TABLE_FUNCTION',
])
const QUERY_NODES = new Set(['SELECT_NODE', 'SET_OPERATION_NODE', 'RECURSIVE_CTE_NODE', 'CTE_NODE'])
/** A table name with one of these can only be a file. */
const FILE_LIKE = /[./\\:*?[\]{}]/

/**
 * Every reason why `statement` (one element of `statements[]`) may not run; empty means that it may.
 *
 * @param mayRead null leaves names of tables to the caller (compile resolves them itself); names that look like files are
 *   refused in any case.
 */
export function checkStatement(statement: unknown, mayRead: RelationCheck | null): Violation[] {
  const found: Violation[] = []
  const deny = (reason: Violation['reason'], name: string, node: Node, message: string, hint: string) =>
    found.push({ reason, name, offset: offsetOf(node), message, hint })

  const checkFunction = (node: Node) => {
    const name = text(node.function_name).toLowerCase()
    if (!ALLOWED_FUNCTIONS.has(name))
      deny('function', name, node, `The function ${name} may not be used in a step.`, functionHint(name))
  }

  const checkTable = (node: Node, ctes: ReadonlySet<string>) => {
    const relation = {
      catalog: text(node.catalog_name),
      schema: text(node.schema_name),
      name: text(node.table_name),
    }
    const shown = [relation.catalog, relation.schema, relation.name].filter(part => part !== '').join('.')
    if (FILE_LIKE.test(relation.name))
      deny(
        'relation',
        shown,
        node,
        'A step cannot read a file by its path.',
        'Declare the file as a source and read it as `source.<name>`.',
      )
    else if (relation.catalog === '' && relation.schema === '' && ctes.has(relation.name.toLowerCase()))
      return
    else if (mayRead && !mayRead(relation))
      deny(
        'relation',
        shown,
        node,
        `There is no step or source named ${shown} that this step may read.`,
        'Steps are read by name, sources as `source.<name>`, other pipelines as `<pipeline>.<step>`.',
      )
  }

  const visitTableRef = (node: Node, ctes: ReadonlySet<string>) => {
    const type = text(node.type)
    if (!TABLE_REFS.has(type)) {
      deny('construct', type, node, `This construct is not allowed in a step (${type}).`, SELECT_HINT)
    } else if (type === 'BASE_TABLE') {
      checkTable(node, ctes)
    } else if (type === 'SHOW_REF' && !isNode(node.query)) {
      deny('construct', 'SHOW', node, 'SHOW and DESCRIBE of a name are not allowed in a step.', SELECT_HINT)
    } else if (type === 'TABLE_FUNCTION') {
      const call = isNode(node.function) ? node.function : {}
      const name = text(call.function_name).toLowerCase()
      if (!ALLOWED_TABLE_FUNCTIONS.has(name))
        deny(
          'table_function',
          name,
          call,
          `The table function ${name} may not be used in a step.`,
          functionHint(name),
        )
      // The call itself is allowed or refused here; its arguments are ordinary expressions.
      visitAll(call.children, ctes)
      visitAll(node.sample, ctes)
      return
    }
    visitFields(node, ctes)
  }

  const visitQuery = (node: Node, outer: ReadonlySet<string>) => {
    if (!QUERY_NODES.has(text(node.type)))
      deny(
        'construct',
        text(node.type),
        node,
        `This construct is not allowed in a step (${text(node.type)}).`,
        SELECT_HINT,
      )
    visitFields(node, withCtes(node, outer))
  }

  const visitFields = (node: Node, ctes: ReadonlySet<string>) => {
    for (const value of Object.values(node)) visitAll(value, ctes)
  }

  const visitAll = (value: unknown, ctes: ReadonlySet<string>): void => {
    if (Array.isArray(value)) {
      for (const item of value) visitAll(item, ctes)
      return
    }
    if (!isNode(value)) return
    if (typeof value.class === 'string') {
      if (!EXPRESSIONS.has(value.class))
        deny(
          'construct',
          value.class,
          value,
          `This construct is not allowed in a step (${value.class}).`,
          SELECT_HINT,
        )
      if (value.class === 'FUNCTION' || value.class === 'WINDOW') checkFunction(value)
      visitFields(value, ctes)
    } else if ('cte_map' in value) {
      visitQuery(value, ctes)
    } else if ('sample' in value && typeof value.type === 'string') {
      visitTableRef(value, ctes)
    } else {
      visitFields(value, ctes)
    }
  }

  visitAll(statement, new Set())
  return found
}

const SELECT_HINT = 'A step is one SELECT over steps and sources.'
const isNode = (value: unknown): value is Node => typeof value === 'object' && value !== null
const text = (value: unknown): string => (typeof value === 'string' ? value : '')

function withCtes(node: Node, outer: ReadonlySet<string>): ReadonlySet<string> {
  const map = isNode(node.cte_map) && Array.isArray(node.cte_map.map) ? node.cte_map.map : []
  const names = map.flatMap(entry => (isNode(entry) ? [text(entry.key).toLowerCase()] : []))
  const recursive = text(node.cte_name)
  if (recursive !== '') names.push(recursive.toLowerCase())
  return names.length === 0 ? outer : new Set([...outer, ...names])
}

function offsetOf(node: Node): number | null {
  const at = node.query_location
  return typeof at === 'number' && Number.isSafeInteger(at) ? at : null
}

function functionHint(name: string): string {
  if (/^(read_|parquet_|sniff_|glob$)|_scan$/.test(name))
    return 'Declare the file as a source and read it as `source.<name>`.'
  if (name === 'getenv' || name === 'getvariable') return 'Declare a param and use it as `$name`.'
  return 'Only functions that compute on their arguments are allowed.'
}
