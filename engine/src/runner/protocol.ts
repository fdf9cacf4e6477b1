import { z } from 'zod'
import { planParam, planSource } from '../plan/plan-types.ts'
import { columnSchema } from '../warehouse/column-types.ts'

/**
 * What the host and the runner's child process say to each other. Every message is parsed on both sides.
 *
 * Order of use: `parse` at any time; `configure` once, which opens the working DuckDB and locks its sandbox for the life of
 * the process; then `define_*`, `describe`, `query`, `materialize`, `test`. A child serves one plan or one preview and then dies; only
 * one that may open no file at all is used again, after `forget`.
 */
export const limits = z.strictObject({
  /** Bytes DuckDB may use before it spills. */
  memory_bytes: z.number().int().positive(),
  threads: z.number().int().positive(),
  /** Bytes of spill files in the child's own temporary folder. */
  temp_bytes: z.number().int().nonnegative(),
})
export type Limits = z.infer<typeof limits>

const params = z.record(z.string(), planParam)
const schemaName = z.string().min(1).nullable()

export const request = z.discriminatedUnion('op', [
  z.strictObject({ op: z.literal('parse'), sql: z.string() }),
  z.strictObject({
    op: z.literal('configure'),
    limits,
    /** Exactly the files that DuckDB may open: sources, results and outputs of this plan. */
    allowed_paths: z.array(z.string().min(1)),
    /** How many statements may run at the same time. */
    connections: z.number().int().min(1).max(16),
  }),
  z.strictObject({ op: z.literal('define_source'), source: planSource }),
  z.strictObject({
    op: z.literal('define_result'),
    schema: schemaName,
    name: z.string().min(1),
    path: z.string().min(1),
    columns: z.array(columnSchema),
  }),
  z.strictObject({ op: z.literal('define_view'), name: z.string().min(1), sql: z.string(), params }),
  /** A relation of these columns without rows; each type as DuckDB writes it. */
  z.strictObject({
    op: z.literal('define_shape'),
    schema: schemaName,
    name: z.string().min(1),
    columns: z.array(z.strictObject({ name: z.string(), type: z.string().min(1) })),
  }),
  /** Drops every relation. Refused where a file may be opened: what was read of it could stay. */
  z.strictObject({ op: z.literal('forget') }),
  z.strictObject({ op: z.literal('describe'), sql: z.string(), params }),
  z.strictObject({
    op: z.literal('query'),
    sql: z.string(),
    params,
    offset: z.number().int().nonnegative(),
    limit: z.number().int().nonnegative(),
  }),
  z.strictObject({ op: z.literal('materialize'), sql: z.string(), params, path: z.string().min(1) }),
  z.strictObject({
    op: z.literal('test'),
    sql: z.string(),
    params,
    /** Where at most `keep` failing rows go; null keeps none. */
    path: z.string().min(1).nullable(),
    keep: z.number().int().nonnegative(),
  }),
  z.strictObject({ op: z.literal('cancel'), target: z.number().int() }),
  z.strictObject({ op: z.literal('usage') }),
])
export type Request = z.infer<typeof request>
export const envelope = z.strictObject({ id: z.number().int(), request })

/** Zero-based byte offset into the SQL that was sent, with the line and column (1-based, in characters) it stands for. */
export const position = z.strictObject({ offset: z.number(), line: z.number(), column: z.number() })
export type Position = z.infer<typeof position>

export const ERROR_CLASSES = [
  'sql',
  'data_test',
  'source',
  'permission',
  'network',
  'resource',
  'timeout',
  'cancelled',
  'internal',
] as const
export const errorClass = z.enum(ERROR_CLASSES)
export type ErrorClass = z.infer<typeof errorClass>

export const failure = z.strictObject({
  class: errorClass,
  /** May leave the machine: a template and names from the definition, never a value from the data. */
  message: z.string(),
  hint: z.string().optional(),
  /** DuckDB's own words; they can quote data. Stays on this machine. */
  private: z.string().optional(),
  position: position.optional(),
})
export type Failure = z.infer<typeof failure>

export const parsed = z.discriminatedUnion('ok', [
  z.strictObject({
    ok: z.literal(true),
    /** What DuckDB's `json_serialize_sql` gave, as text: parsing it rounds numbers beyond 2^53. */
    ast_json: z.string(),
    /** The one statement in a list, parsed from `ast_json`. */
    statements: z.array(z.record(z.string(), z.unknown())),
    /** Names of `$name` params, sorted. */
    params: z.array(z.string()),
  }),
  z.strictObject({
    ok: z.literal(false),
    kind: z.enum(['syntax', 'not_select', 'empty', 'several']),
    message: z.string(),
    position: position.optional(),
  }),
])
export type Parsed = z.infer<typeof parsed>

export const described = z.strictObject({ columns: z.array(columnSchema) })
export type Described = z.infer<typeof described>

export const queried = z.strictObject({
  columns: z.array(columnSchema),
  /** JSON-safe and exact: integers beyond 2^53, decimals, dates and the like are text. */
  rows: z.array(z.array(z.unknown())),
  /** More rows follow after these. */
  more: z.boolean(),
})
export type Queried = z.infer<typeof queried>

export const materialized = z.strictObject({ columns: z.array(columnSchema), rows: z.number() })
export type Materialized = z.infer<typeof materialized>

export const tested = z.strictObject({ failing_rows: z.number() })
export type Tested = z.infer<typeof tested>

export const usage = z.strictObject({ max_rss_bytes: z.number(), cpu_ms: z.number() })
export type Usage = z.infer<typeof usage>

export const reply = z.union([
  z.strictObject({ ready: z.literal(true) }),
  z.strictObject({ id: z.number().int(), ok: z.literal(true), value: z.unknown() }),
  z.strictObject({ id: z.number().int(), ok: z.literal(false), error: failure }),
  z.strictObject({
    id: z.number().int(),
    progress: z.strictObject({ percent: z.number(), rows: z.number() }),
  }),
])
export type Reply = z.infer<typeof reply>
export type Progress = { readonly percent: number; readonly rows: number }
