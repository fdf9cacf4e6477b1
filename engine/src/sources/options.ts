import type { SourceDefinition } from '@pluto-duck/crdt-model'

type Kind = SourceDefinition['kind']
type OptionValue = SourceDefinition['options'][string]
type Shape = 'text' | 'boolean' | 'integer' | 'text_or_list' | 'types'

const EVERY: Record<string, Shape> = { union_by_name: 'boolean' }
const TEXT_FILES: Record<string, Shape> = {
  ...EVERY,
  columns: 'types',
  compression: 'text',
  dateformat: 'text',
  timestampformat: 'text',
  sample_size: 'integer',
  ignore_errors: 'boolean',
}

/**
 * The reader options that a source may set. Left out on purpose: `filename` (results would name a person's folders) and
 * whatever writes, logs or opens another file (`store_rejects`, `rejects_table`).
 */
const ALLOWED: Record<Kind, Record<string, Shape>> = {
  csv: {
    ...TEXT_FILES,
    auto_detect: 'boolean',
    delim: 'text',
    sep: 'text',
    header: 'boolean',
    quote: 'text',
    escape: 'text',
    comment: 'text',
    nullstr: 'text_or_list',
    types: 'types',
    names: 'text_or_list',
    all_varchar: 'boolean',
    skip: 'integer',
    decimal_separator: 'text',
    thousands: 'text',
    encoding: 'text',
    new_line: 'text',
    null_padding: 'boolean',
    strict_mode: 'boolean',
    max_line_size: 'integer',
  },
  parquet: { ...EVERY, binary_as_string: 'boolean' },
  json: {
    ...TEXT_FILES,
    format: 'text',
    records: 'text',
    maximum_depth: 'integer',
    maximum_object_size: 'integer',
    convert_strings_to_integers: 'boolean',
  },
}

export interface OptionProblem {
  readonly option: string
  readonly reason: string
}

export const allowedOptions = (kind: Kind): string[] => Object.keys(ALLOWED[kind]).sort()

/** What is wrong with a source's options; empty when they can be written into SQL. */
export function checkOptions(kind: Kind, options: SourceDefinition['options']): OptionProblem[] {
  return Object.entries(options).flatMap(([option, value]) => {
    const shape = Object.hasOwn(ALLOWED[kind], option) ? ALLOWED[kind][option] : undefined
    if (!shape) return [{ option, reason: `is not an option of ${kind} sources` }]
    return fits(shape, value) ? [] : [{ option, reason: `has to be ${DESCRIBED[shape]}` }]
  })
}

const DESCRIBED: Record<Shape, string> = {
  text: 'text',
  boolean: 'true or false',
  integer: 'a whole number',
  text_or_list: 'text or a list of texts',
  types: 'a map of column to DuckDB type',
}
/** A type is an identifier with parameters, brackets and nested fields: nothing that could end the literal it stands in. */
const TYPE = /^[A-Za-z][A-Za-z0-9_ (),[\]"]{0,500}$/

function fits(shape: Shape, value: OptionValue): boolean {
  switch (shape) {
    case 'text':
      return typeof value === 'string'
    case 'boolean':
      return typeof value === 'boolean'
    case 'integer':
      return typeof value === 'number' && Number.isSafeInteger(value) && value >= -1
    case 'text_or_list':
      return (
        typeof value === 'string' || (Array.isArray(value) && value.every(item => typeof item === 'string'))
      )
    case 'types':
      if (isTyped(value)) return value.every(({ name, type }) => !/^\d+$/.test(name) && TYPE.test(type))
      return isRecord(value) && Object.values(value).every(type => TYPE.test(type))
  }
}

const isTyped = (value: OptionValue): value is Array<{ name: string; type: string }> =>
  Array.isArray(value) && value.length > 0 && value.every(item => typeof item === 'object' && item !== null)

const isRecord = (value: OptionValue): value is Record<string, string> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Column types as the runner takes them: a map. A list of `{name, type}` is how they are written when the order matters. */
export function runnerOptions(options: SourceDefinition['options']): Record<string, RunnerOption> {
  return Object.fromEntries(Object.entries(options).map(([option, value]) => [option, asRunnerOption(value)]))
}

type Scalars = string | number | boolean | null
type RunnerOption = Scalars | Scalars[] | Record<string, string>

function asRunnerOption(value: OptionValue): RunnerOption {
  if (isTyped(value)) return Object.fromEntries(value.map(column => [column.name, column.type]))
  return value as RunnerOption
}
