import { z } from 'zod'

/**
 * The canonical form of a pipeline: what a version stores, what compile reads, what export writes.
 *
 * It is the document with its tombstones left out, lists in their order and every default filled in, so two documents
 * that mean the same have the same canonical JSON and the same content hash. Field names are snake_case because it leaves
 * the process (wire, files, tables).
 */

/** Names of pipelines, in file names and references. */
export const pipelineName = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9_-]{0,62}$/,
    'a name is 1 to 63 of a-z, 0-9, _ and -, and starts with a letter or digit',
  )

/** Names of steps, sources and params: they are written in SQL, so they are plain identifiers. */
export const identifierName = z
  .string()
  .regex(/^[a-z_][a-z0-9_]{0,62}$/, 'a name is 1 to 63 of a-z, 0-9 and _, and does not start with a digit')
  // A key of that name would set a JavaScript object's prototype and vanish.
  .refine(name => name !== '__proto__', 'this name is reserved')

export const tagList = z.array(z.string())

export const paramType = z.enum(['text', 'integer', 'number', 'boolean', 'date', 'timestamp'])
export const scalar = z.union([z.string(), z.number(), z.boolean(), z.null()])

export const paramDefinition = z.strictObject({
  type: paramType,
  description: z.string().default(''),
  /** Used when a run gives no value; null makes the param required. Dates and timestamps are ISO 8601 text. */
  default: scalar.default(null),
  /** The only values a run may give; empty allows any of the type. */
  allowed: z.array(scalar).default([]),
})

export const sourceKind = z.enum(['csv', 'parquet', 'json'])

/**
 * A value of a reader's option. `columns` is a list of name and type: a map's keys have no order in canonical JSON, and a
 * CSV without a header takes its columns by position.
 */
export const readerOption = z.union([
  scalar,
  z.array(scalar),
  z.array(z.strictObject({ name: z.string().min(1), type: z.string().min(1) })),
  z.record(z.string(), z.string()),
])

export const sourceDefinition = z.strictObject({
  kind: sourceKind,
  description: z.string().default(''),
  /**
   * A file, a folder (all files of the kind below it) or a glob. A relative path is resolved on each machine against that
   * machine's files folder of the workspace, so that a shared pipeline names no person's home.
   */
  path: z.string().min(1),
  /** Reader options passed to DuckDB's reader (`delim`, `header`, `nullstr`, `columns`, `format`, …), allow-listed by the engine. */
  options: z.record(z.string(), readerOption).default({}),
})

export const severity = z.enum(['warn', 'error'])
const testBase = {
  id: z.string().min(1),
  severity: severity.default('error'),
  description: z.string().default(''),
}

export const dataTest = z.discriminatedUnion('type', [
  z.strictObject({ ...testBase, type: z.literal('not_null'), column: z.string().min(1) }),
  z.strictObject({ ...testBase, type: z.literal('unique'), columns: z.array(z.string().min(1)).min(1) }),
  z.strictObject({
    ...testBase,
    type: z.literal('accepted_values'),
    column: z.string().min(1),
    values: z.array(scalar).min(1),
  }),
  /** A SELECT that returns the failing rows; it may refer to the step by its name. */
  z.strictObject({ ...testBase, type: z.literal('custom'), sql: z.string().min(1) }),
])

export const materialization = z.enum(['table', 'view', 'incremental', 'snapshot'])

export const stepDefinition = z.strictObject({
  /** Stable for the life of the step: a rename keeps it. */
  id: z.string().min(1),
  name: identifierName,
  description: z.string().default(''),
  /** One SELECT of DuckDB SQL. Other steps by name, sources as `source.<name>`, params as `$name`. */
  sql: z.string(),
  materialize: materialization.default('table'),
  unique_key: z.array(z.string()).default([]),
  time_column: z.string().nullable().default(null),
  /** How far back an incremental run looks again, as a DuckDB interval such as `3 days`. */
  lookback: z.string().nullable().default(null),
  tests: z.array(dataTest).default([]),
  /** Seconds; null takes the run's limit. */
  timeout_s: z.number().positive().nullable().default(null),
  retry: z
    .strictObject({ attempts: z.number().int().min(1).max(10), backoff_s: z.number().min(0).max(3600) })
    .nullable()
    .default(null),
})

/** What a run of this pipeline may send off the machine beside the report and the redacted log. */
export const publishDefinition = z.strictObject({
  report: z.boolean().default(true),
  snapshots: z
    .array(
      z.strictObject({
        step: identifierName,
        /** Exactly these columns leave; empty means none (never all by omission). */
        columns: z.array(z.string()).default([]),
        max_rows: z.number().int().positive().default(100_000),
      }),
    )
    .default([]),
})

export const pipelineDefinition = z.strictObject({
  schema_version: z.literal(1),
  name: pipelineName,
  description: z.string().default(''),
  tags: tagList.default([]),
  params: z.record(identifierName, paramDefinition).default({}),
  sources: z.record(identifierName, sourceDefinition).default({}),
  steps: z.array(stepDefinition).default([]),
  /** Markdown; fenced ```sql name and ```chart blocks are evaluated at the run (see docs/formats.md). */
  report: z.string().default(''),
  publish: publishDefinition.default({ report: true, snapshots: [] }),
})

export type PipelineDefinition = z.infer<typeof pipelineDefinition>
export type StepDefinition = z.infer<typeof stepDefinition>
export type SourceDefinition = z.infer<typeof sourceDefinition>
export type ParamDefinition = z.infer<typeof paramDefinition>
export type DataTest = z.infer<typeof dataTest>
export type Materialization = z.infer<typeof materialization>
export type PublishDefinition = z.infer<typeof publishDefinition>
export type Severity = z.infer<typeof severity>
export type Scalar = z.infer<typeof scalar>
