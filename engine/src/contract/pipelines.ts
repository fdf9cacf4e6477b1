import { z } from 'zod'
import { side } from './comparison.ts'
import { none, params, pipeline } from './inputs.ts'
import { method } from './method.ts'
import { column, mark, pipelineEntry, problem, rowsPage } from './state.ts'
import { id, pipelineName } from './wire.ts'

export const compiled = z.strictObject({
  problems: z.array(problem),
  steps: z.array(
    z.strictObject({
      step_id: z.string(),
      name: z.string(),
      depends_on: z.array(z.string()),
      sources: z.array(z.string()),
      columns: z.array(column).nullable(),
    }),
  ),
  sources: z.array(z.strictObject({ name: z.string(), columns: z.array(column).nullable() })),
})

export const planView = z.strictObject({
  problems: z.array(problem),
  steps: z.array(
    z.strictObject({
      step_id: z.string(),
      name: z.string(),
      action: z.enum(['run', 'reuse', 'skip']),
      reason: z.string(),
      materialize: z.string(),
    }),
  ),
  reads: z.array(
    z.strictObject({
      source: z.string(),
      path: z.string(),
      files: z.number().int(),
      bytes: z.number().int(),
    }),
  ),
  publishes: z.array(
    z.strictObject({ what: z.string(), columns: z.array(z.string()), max_rows: z.number().int().nullable() }),
  ),
  /** What a person must allow on this machine before it may run. */
  grants_needed: z.array(
    z.strictObject({ kind: z.enum(['read', 'publish']), target: z.string(), why: z.string() }),
  ),
})

/** Pipelines: what they hold, what two people changed at once, what they compile to and would do. */
export const pipelineMethods = {
  'pipeline.list': method({
    summary: 'Pipelines of the workspace',
    input: none,
    output: z.strictObject({ pipelines: z.array(pipelineEntry) }),
  }),
  'pipeline.read': method({
    summary: 'One pipeline, or a draft of one',
    input: pipeline,
    output: pipelineEntry,
  }),
  'pipeline.create': method({
    summary: 'Make an empty pipeline',
    input: z.strictObject({ pipeline_id: id, name: pipelineName }),
    output: pipelineEntry,
  }),
  'pipeline.create_sample': method({
    summary: 'Make the sample pipeline with its data',
    input: none,
    output: pipelineEntry,
  }),
  'pipeline.import': method({
    summary: 'Import a folder of files; into a pipeline of the same name when there is one',
    input: z.strictObject({ files: z.record(z.string(), z.string()), pipeline_id: id.optional() }),
    output: z.discriminatedUnion('state', [
      z.strictObject({ state: z.literal('imported'), pipeline: pipelineEntry, created: z.boolean() }),
      z.strictObject({ state: z.literal('problems'), problems: z.array(problem) }),
    ]),
  }),
  'pipeline.export': method({
    summary: 'A pipeline as a folder of files',
    input: pipeline.extend({ side: side.default({ kind: 'working' }) }),
    output: z.strictObject({ files: z.record(z.string(), z.string()) }),
  }),
  'pipeline.comments': method({
    summary: 'The comments document of a subject, made when there is none',
    input: z.strictObject({ kind: z.enum(['pipeline', 'draft', 'run', 'report']), id }),
    output: z.strictObject({ document_id: id }),
  }),
  'pipeline.marks': method({
    summary: 'What two people changed at once',
    input: pipeline,
    output: z.strictObject({ marks: z.array(mark) }),
  }),
  'pipeline.review_mark': method({
    summary: 'Say that you looked at a mark',
    input: pipeline.extend({ mark_id: z.string(), reviewed: z.boolean() }),
    output: z.strictObject({ marks: z.array(mark) }),
  }),
  'pipeline.compile': method({ summary: 'Problems, DAG and columns', input: pipeline, output: compiled }),
  'pipeline.lineage': method({
    summary: 'Where a column comes from',
    input: pipeline.extend({ step_id: z.string(), column: z.string() }),
    output: z.strictObject({
      edges: z.array(
        z.strictObject({ from: z.string(), from_column: z.string(), to: z.string(), to_column: z.string() }),
      ),
    }),
  }),
  'pipeline.plan': method({
    summary: 'What a run would do',
    input: pipeline.extend({
      version: z.number().int().positive().nullable().default(null),
      params,
      select: z.string().nullable().default(null),
      full: z.boolean().default(false),
    }),
    output: planView,
  }),
  'pipeline.preview': method({
    summary: 'Rows of a step as it is written now; runs it in the sandbox on this machine',
    input: pipeline.extend({
      step_id: z.string(),
      limit: z.number().int().min(1).max(10_000).default(500),
      params,
    }),
    output: z.discriminatedUnion('state', [
      z.strictObject({ state: z.literal('rows'), page: rowsPage }),
      z.strictObject({ state: z.literal('problems'), problems: z.array(problem) }),
    ]),
  }),
} as const
