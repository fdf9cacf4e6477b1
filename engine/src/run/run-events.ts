import { z } from 'zod'
import { failure } from '../runner/protocol.ts'

/**
 * What a run tells while it goes on. `private` is for this machine only (it may quote data); everything else may leave it.
 */
export const stepState = z.enum(['waiting', 'running', 'done', 'failed', 'skipped', 'reused', 'cancelled'])
export type StepState = z.infer<typeof stepState>

const common = { ts: z.string(), run_id: z.string() }
const publicFailure = failure.omit({ private: true })

export const runEvent = z.discriminatedUnion('type', [
  z.strictObject({
    ...common,
    type: z.literal('step'),
    step_id: z.string(),
    step: z.string(),
    state: stepState,
    /** Counts from 1; 0 before the first. */
    attempt: z.number().int(),
    rows: z.number().optional(),
    bytes: z.number().optional(),
    duration_ms: z.number().optional(),
    error: publicFailure.optional(),
    /** Why it was skipped, reused or tried again. */
    reason: z.string().optional(),
    private: z.string().optional(),
  }),
  z.strictObject({
    ...common,
    type: z.literal('progress'),
    step_id: z.string(),
    step: z.string(),
    /** 0 to 100; DuckDB's estimate. */
    percent: z.number(),
    /** Rows read so far. */
    rows: z.number(),
    /** Milliseconds, from the share done so far; absent while there is nothing to estimate from. */
    left_ms: z.number().optional(),
  }),
  z.strictObject({
    ...common,
    type: z.literal('test'),
    step_id: z.string(),
    step: z.string(),
    test_id: z.string(),
    test: z.string(),
    severity: z.enum(['warn', 'error']),
    state: z.enum(['passed', 'failed', 'error']),
    failing_rows: z.number().optional(),
    duration_ms: z.number(),
    error: publicFailure.optional(),
    private: z.string().optional(),
  }),
  z.strictObject({
    ...common,
    type: z.literal('run'),
    state: z.enum(['running', 'success', 'failed', 'cancelled']),
    duration_ms: z.number().optional(),
    error: publicFailure.optional(),
  }),
])
export type RunEvent = z.infer<typeof runEvent>

/** A run event without what the executor itself adds. */
type Bare<E> = E extends RunEvent ? Omit<E, 'ts' | 'run_id'> : never
export type BareEvent = Bare<RunEvent>
