import type { PlanSource } from '../plan/plan-types.ts'
import { quoteName, quoteText } from '../warehouse/column-types.ts'
import { RunnerError } from './failures.ts'

/** Reader options that a source may set. They change how bytes are read, never which file is opened or what is written. */
const OPTIONS: Readonly<Record<PlanSource['kind'], ReadonlySet<string>>> = {
  csv: new Set([
    'all_varchar',
    'auto_detect',
    'columns',
    'comment',
    'compression',
    'dateformat',
    'decimal_separator',
    'delim',
    'encoding',
    'escape',
    'header',
    'ignore_errors',
    'max_line_size',
    'names',
    'new_line',
    'null_padding',
    'nullstr',
    'quote',
    'sample_size',
    'sep',
    'skip',
    'strict_mode',
    'thousands',
    'timestampformat',
    'types',
    'union_by_name',
  ]),
  parquet: new Set(['binary_as_string', 'union_by_name']),
  json: new Set([
    'columns',
    'compression',
    'convert_strings_to_integers',
    'dateformat',
    'format',
    'ignore_errors',
    'maximum_depth',
    'maximum_object_size',
    'records',
    'sample_size',
    'timestampformat',
    'union_by_name',
  ]),
}

const READERS = { csv: 'read_csv', parquet: 'read_parquet', json: 'read_json' } as const

/** The SELECT over a source's files, with literal paths. Throws `run.source` for an option that is not allowed. */
export function selectFromSource(source: PlanSource): string {
  const allowed = OPTIONS[source.kind]
  const options = Object.entries(source.options).map(([name, value]) => {
    if (!allowed.has(name))
      throw new RunnerError({
        class: 'source',
        message: `The source ${source.name} has an option that is not allowed: ${name}.`,
        hint: `Allowed for ${source.kind}: ${[...allowed].join(', ')}.`,
      })
    return `, ${name} = ${literal(value)}`
  })
  // Hive partitioning would read values from the names of folders, and those are nobody's declared columns.
  options.push(', hive_partitioning = false')
  return `SELECT * FROM ${READERS[source.kind]}([${source.paths.map(quoteText).join(', ')}]${options.join('')})`
}

function literal(value: unknown): string {
  if (value === null) return 'NULL'
  if (typeof value === 'boolean') return String(value)
  if (typeof value === 'number' && Number.isFinite(value)) return String(value)
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`
  if (typeof value === 'object')
    return `{${Object.entries(value)
      .map(([key, item]) => `${quoteName(key)}: ${literal(item)}`)
      .join(', ')}}`
  return quoteText(String(value))
}
