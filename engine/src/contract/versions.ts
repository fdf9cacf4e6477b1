import { z } from 'zod'
import { comparison, side } from './comparison.ts'
import { pipeline } from './inputs.ts'
import { method } from './method.ts'
import { errorBody, mark, problem } from './state.ts'
import { author, hash, timestamp, version, versionSummary } from './wire.ts'

const publishOutcomes = [
  z.strictObject({ state: z.literal('published'), version: versionSummary, created: z.boolean() }),
  z.strictObject({ state: z.literal('queued') }),
  z.strictObject({ state: z.literal('marks'), marks: z.array(mark) }),
  z.strictObject({
    state: z.literal('moved'),
    current: versionSummary,
    comparison: comparison.nullable(),
  }),
  z.strictObject({ state: z.literal('invalid'), problems: z.array(problem) }),
  z.strictObject({ state: z.literal('refused'), error: errorBody }),
] as const
/** What became of a publish. */
const publishOutcome = z.discriminatedUnion('state', publishOutcomes)
/** What became of a restore. */
const restoreOutcome = z.discriminatedUnion('state', [
  ...publishOutcomes,
  /** Nothing was changed: so many unpublished changes would be replaced, and nobody has said that they may. */
  z.strictObject({ state: z.literal('unpublished'), changes: z.number().int().positive() }),
])

/** What is published: history, comparison, who wrote what. */
export const versionMethods = {
  'version.list': method({
    summary: 'Versions, newest first',
    input: pipeline,
    output: z.strictObject({ versions: z.array(versionSummary) }),
  }),
  'version.read': method({
    summary: 'One version, whole',
    input: pipeline.extend({ number: z.number().int().positive() }),
    output: version,
  }),
  'version.compare': method({
    summary: 'Two versions, or a version and the working state',
    input: pipeline.extend({ before: side, after: side }),
    output: comparison,
  }),
  'version.blame': method({
    summary: 'Who wrote each line, in which version and why; of the working state, or of a version',
    input: pipeline.extend({
      /** A step's name, or `report`; null: every step and the report. */
      target: z.string().nullable().default(null),
      version: z.number().int().positive().nullable().default(null),
    }),
    output: z.strictObject({
      texts: z.array(
        z.strictObject({
          /** A step's name, or `report`. */
          target: z.string(),
          lines: z.array(
            z.strictObject({
              text: z.string(),
              change: hash.nullable(),
              /** By the server's record; null for what it does not have yet. */
              author: author.nullable(),
              at: timestamp.nullable(),
              /** Null for what is not published. */
              version: z.number().int().positive().nullable(),
              message: z.string().nullable(),
              /** Threads whose range begins in this line, removed messages left out. */
              comments: z.array(
                z.strictObject({
                  thread_id: z.string(),
                  resolved: z.boolean(),
                  messages: z.array(
                    z.strictObject({
                      author: author.nullable(),
                      at: timestamp.nullable(),
                      body: z.string(),
                    }),
                  ),
                }),
              ),
            }),
          ),
        }),
      ),
    }),
  }),
  'version.publish': method({
    summary: 'Publish the working state; queued when offline',
    input: pipeline.extend({ message: z.string().max(10_000).default('') }),
    output: publishOutcome,
  }),
  'version.dismiss': method({
    summary: 'Put aside a publish that waits for a person: it is not sent, and the work stays as it is',
    input: pipeline,
    /** Whether one waited. */
    output: z.strictObject({ dismissed: z.boolean() }),
  }),
  'version.restore': method({
    summary: 'Make the working state equal to a version and publish it as a new one',
    input: pipeline.extend({
      number: z.number().int().positive(),
      message: z.string().max(10_000).default(''),
      /** How many unpublished changes, everybody's, may be replaced: no version has them, and nothing brings them back. */
      replace_unpublished: z.number().int().nonnegative().default(0),
    }),
    output: restoreOutcome,
  }),
} as const
