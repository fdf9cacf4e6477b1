import { z } from 'zod'
import { fingerprintParts, planInput, planSource } from '../plan/plan-types.ts'
import { columnSchema } from './column-types.ts'

export const testOutcome = z.strictObject({
  test_id: z.string(),
  type: z.string(),
  severity: z.enum(['warn', 'error']),
  state: z.enum(['passed', 'failed', 'error']),
  failing_rows: z.number().int().nonnegative(),
})
export type TestOutcome = z.infer<typeof testOutcome>

/** `results/<workspace>/<fingerprint>.json`, beside the file it describes. Its presence says that the file is whole. */
export const resultRecord = z.strictObject({
  format: z.literal('pluto-result/1'),
  fingerprint: z.string(),
  /** Exact types, which the Parquet file alone does not have. */
  columns: z.array(columnSchema),
  rows: z.number().int().nonnegative(),
  bytes: z.number().int().nonnegative(),
  created_at: z.string(),
  run_id: z.string(),
  step: z.string(),
  /** What its tests said when it was made. None of severity `error` failed, else it would not be here. */
  tests: z.array(testOutcome),
})
export type ResultRecord = z.infer<typeof resultRecord>

const pointer = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('table'),
    step_id: z.string(),
    fingerprint: z.string(),
    run_id: z.string(),
    parts: fingerprintParts.nullable().default(null),
  }),
  z.strictObject({
    kind: z.literal('view'),
    step_id: z.string(),
    fingerprint: z.string(),
    run_id: z.string(),
    parts: fingerprintParts.nullable().default(null),
    /** One SELECT, params written out; reads the pipeline's other steps by name. */
    sql: z.string(),
    columns: z.array(columnSchema),
  }),
])
export type Pointer = z.infer<typeof pointer>

/** `catalog/<workspace>/<pipeline>.json`: what is current, replaced as one. */
export const catalogRecord = z.strictObject({
  format: z.literal('pluto-catalog/1'),
  workspace_id: z.string(),
  pipeline_id: z.string(),
  pipeline_name: z.string(),
  run_id: z.string(),
  swapped_at: z.string(),
  sources: z.array(planSource),
  inputs: z.array(planInput),
  /** In an order in which every step comes after what it reads. */
  steps: z.array(z.strictObject({ name: z.string(), pointer })),
})
export type CatalogRecord = z.infer<typeof catalogRecord>
