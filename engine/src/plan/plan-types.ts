import { dataTest, paramType, scalar, severity, sourceKind } from '@pluto-duck/crdt-model/definition'
import { z } from 'zod'

/**
 * What a run will do, decided before anything runs. Compile and plan make it, `executePlan` carries it out and the manifest keeps it.
 *
 * A step's `sql` is the user's own text: names are resolved by views that the runner makes (`source.<name>`, `<step>`,
 * `<pipeline>.<step>`), never by rewriting the text.
 */

/** A value bound to `$name`. Dates and timestamps are ISO 8601 text; integers outside ±2^53 are decimal text. */
export const planParam = z.strictObject({ type: paramType, value: scalar })

export const planSource = z.strictObject({
  name: z.string().min(1),
  kind: sourceKind,
  /** Absolute paths of files that exist, globs and folders already expanded by the host. */
  paths: z.array(z.string().min(1)).min(1),
  options: z
    .record(z.string(), z.union([scalar, z.array(scalar), z.record(z.string(), z.string())]))
    .default({}),
})

/** A result of another pipeline that steps read as `<pipeline>.<step>`. */
export const planInput = z.strictObject({
  pipeline: z.string().min(1),
  step: z.string().min(1),
  fingerprint: z.string().min(1),
})

export const planTest = z.strictObject({
  test_id: z.string().min(1),
  type: z.enum(dataTest.options.map(option => option.shape.type.value)),
  severity,
  /** One SELECT that returns the failing rows; reads the step by its name. No row means passed. */
  sql: z.string().min(1),
})

/** What decided a fingerprint, part by part, each as a short hash: comparing two tells why a step has to run. */
export const fingerprintParts = z.strictObject({
  sql: z.string(),
  /** By name of the step: the data fingerprint of what it reads. */
  upstream: z.record(z.string(), z.string()),
  params: z.record(z.string(), z.string()),
  /** By name: kind, reader options and content of the source. */
  sources: z.record(z.string(), z.string()),
  settings: z.string(),
  tests: z.string(),
  /** The run that made it, when something in the SQL makes each run differ; else null. */
  run: z.string().nullable(),
})
export type FingerprintParts = z.infer<typeof fingerprintParts>

export const planStep = z.strictObject({
  step_id: z.string().min(1),
  name: z.string().min(1),
  sql: z.string().min(1),
  materialize: z.enum(['table', 'view']),
  /** Covers normalised SQL, upstream fingerprints, params and source state. Safe as a file name: `[A-Za-z0-9_-]+`. */
  fingerprint: z.string().regex(/^[A-Za-z0-9_-]{8,128}$/),
  /** Kept beside the pointer, for the next plan's reasons. */
  parts: fingerprintParts.nullable().default(null),
  /** Names of the steps of this pipeline that it reads. */
  depends_on: z.array(z.string()),
  /** A result of this fingerprint exists and is taken as it is (its tests passed when it was made). */
  reuse: z.boolean(),
  tests: z.array(planTest).default([]),
  /** Seconds for one attempt; null takes the run's limit. */
  timeout_s: z.number().positive().nullable().default(null),
  retry: z
    .strictObject({ attempts: z.number().int().min(1).max(10), backoff_s: z.number().min(0).max(3600) })
    .nullable()
    .default(null),
})

export const plan = z.strictObject({
  run_id: z.string().min(1),
  workspace_id: z.string().min(1),
  pipeline_id: z.string().min(1),
  pipeline_name: z.string().min(1),
  params: z.record(z.string(), planParam).default({}),
  sources: z.array(planSource).default([]),
  inputs: z.array(planInput).default([]),
  /** In an order in which every step comes after what it depends on. */
  steps: z.array(planStep),
  /** False runs only a part (a selection) and leaves the pointers of the others as they are. Default true. */
  complete: z.boolean().default(true),
})

export type Plan = z.infer<typeof plan>
export type PlanStep = z.infer<typeof planStep>
export type PlanTest = z.infer<typeof planTest>
export type PlanSource = z.infer<typeof planSource>
export type PlanInput = z.infer<typeof planInput>
export type PlanParam = z.infer<typeof planParam>
