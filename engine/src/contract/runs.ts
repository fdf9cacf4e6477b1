import { z } from 'zod'
import { done, none, params, pipeline } from './inputs.ts'
import { method } from './method.ts'
import { columnSummary, errorBody, logLine, rowsPage, runView } from './state.ts'
import { artifact, id, timestamp } from './wire.ts'

/** What may be touched on this machine, runs, and what they made. */
export const runMethods = {
  'grant.allow': method({
    summary: 'Allow what a pipeline wants to touch on this machine',
    input: pipeline.extend({
      targets: z.array(z.strictObject({ kind: z.enum(['read', 'publish']), target: z.string() })),
    }),
    output: done,
  }),
  'grant.list': method({
    summary: 'What was allowed on this machine',
    input: none,
    output: z.strictObject({
      grants: z.array(
        z.strictObject({ pipeline_id: id, kind: z.string(), target: z.string(), granted_at: timestamp }),
      ),
    }),
  }),
  'grant.revoke': method({
    summary: 'Take a grant back',
    input: pipeline.extend({ kind: z.string(), target: z.string() }),
    output: done,
  }),

  'run.start': method({
    summary: 'Run a pipeline on this machine: the working state, or a version',
    input: pipeline.extend({
      run_id: id,
      version: z.number().int().positive().nullable().default(null),
      params,
      /** dbt-like selection: `step`, `+step`, `step+`, `tag:x`; null runs everything. */
      select: z.string().nullable().default(null),
      full: z.boolean().default(false),
    }),
    output: runView,
  }),
  'run.cancel': method({ summary: 'Stop a run', input: z.strictObject({ run_id: id }), output: runView }),
  'run.list': method({
    summary: 'Runs, newest first',
    input: z.strictObject({
      pipeline_id: id.optional(),
      limit: z.number().int().min(1).max(200).default(50),
    }),
    output: z.strictObject({ runs: z.array(runView) }),
  }),
  'run.read': method({ summary: 'One run', input: z.strictObject({ run_id: id }), output: runView }),
  'run.log': method({
    summary: 'The log of a run',
    input: z.strictObject({ run_id: id, after_line: z.number().int().nonnegative().default(0) }),
    output: z.strictObject({ lines: z.array(logLine), next_line: z.number().int() }),
  }),
  'run.unsent': method({
    summary: 'Runs of this machine that the server was not told all of yet',
    input: none,
    output: z.strictObject({
      run_ids: z.array(id),
      /** Those whose last attempt failed, with why; they are tried again. */
      held: z.array(z.strictObject({ run_id: id, error: errorBody })),
    }),
  }),
  'run.deliver': method({
    summary:
      'Send what these runs have to send; answers when each was sent, refused or has to wait, at the latest after a minute',
    input: z.strictObject({ run_ids: z.array(id).max(100_000) }),
    output: z.strictObject({
      runs: z.array(
        z.strictObject({
          run_id: id,
          /** `waiting`: it failed and is tried again later, or the run goes on; `sending`: the minute was over before. */
          state: z.enum(['sent', 'refused', 'waiting', 'sending']),
          error: errorBody.nullable(),
        }),
      ),
    }),
  }),
  'run.artifacts': method({
    summary: 'What a run sent',
    input: z.strictObject({ run_id: id }),
    output: z.strictObject({ artifacts: z.array(artifact) }),
  }),
  'run.download': method({
    summary: 'Download an artifact of a run and verify it; answers where it is on this machine',
    input: z.strictObject({ artifact_id: id }),
    output: z.strictObject({ path: z.string(), bytes: z.number().int() }),
  }),
  'result.rows': method({
    summary: 'A page of a step’s current result',
    input: pipeline.extend({
      step_id: z.string(),
      offset: z.number().int().nonnegative().default(0),
      limit: z.number().int().min(1).max(1000).default(200),
    }),
    output: rowsPage,
  }),
  'result.summary': method({
    summary: 'Summaries of the columns of a step’s current result',
    input: pipeline.extend({ step_id: z.string() }),
    output: z.strictObject({ rows: z.number().int(), columns: z.array(columnSummary) }),
  }),
  'report.read': method({
    summary: 'The report of a run as HTML, or of the latest run that has one',
    input: z.union([z.strictObject({ run_id: id }), z.strictObject({ pipeline_id: id })]),
    output: z.discriminatedUnion('state', [
      z.strictObject({
        state: z.literal('report'),
        run_id: id,
        version: z.number().int().nullable(),
        html: z.string(),
        created_at: timestamp,
      }),
      z.strictObject({ state: z.literal('none') }),
    ]),
  }),
} as const
