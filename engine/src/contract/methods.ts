import { z } from 'zod'
import { comparison, side } from './comparison.ts'
import { draftMethods } from './drafts.ts'
import { method } from './method.ts'
import {
  base64,
  column,
  columnSummary,
  documentEntry,
  errorBody,
  logLine,
  mark,
  pipelineEntry,
  problem,
  rowsPage,
  runView,
  syncState,
  workspaceEntry,
} from './state.ts'
import { artifact, author, hash, id, pipelineName, timestamp, version, versionSummary } from './wire.ts'

const none = z.strictObject({})
const done = z.strictObject({ ok: z.literal(true) })
const pipeline = z.strictObject({ pipeline_id: id })
const serverAddress = z.url({ protocol: /^https?$/ })
const params = z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])).default({})

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

/** What became of a publish. */
const publishOutcome = z.discriminatedUnion('state', [
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
])

export const METHODS = {
  'app.info': method({
    summary: 'What this installation is and where it keeps things',
    input: none,
    output: z.strictObject({
      version: z.string(),
      duckdb: z.string(),
      data_dir: z.string(),
      device_id: id,
      server: z.string().nullable(),
      user: z.strictObject({ id: z.string(), name: z.string(), email: z.string() }).nullable(),
    }),
  }),
  'app.connect': method({
    summary: 'Name the server to sync with',
    input: z.strictObject({ server: serverAddress }),
    output: done,
  }),
  'auth.start': method({
    summary: 'Begin signing in: open the address, enter the code',
    input: z.strictObject({ server: serverAddress.optional() }),
    output: z.strictObject({
      verification_url: z.string(),
      user_code: z.string(),
      device_code: z.string(),
      interval_s: z.number(),
      expires_at: timestamp,
    }),
  }),
  'auth.poll': method({
    summary: 'Whether the sign-in was approved',
    input: z.strictObject({ device_code: z.string() }),
    output: z.discriminatedUnion('state', [
      z.strictObject({ state: z.literal('pending'), interval_s: z.number() }),
      z.strictObject({ state: z.literal('signed_in') }),
      z.strictObject({ state: z.literal('denied') }),
      z.strictObject({ state: z.literal('expired') }),
    ]),
  }),
  'auth.sign_out': method({ summary: 'Sign out and erase the token', input: none, output: done }),

  'workspace.list': method({
    summary: 'Your workspaces',
    input: none,
    output: z.strictObject({ workspaces: z.array(workspaceEntry) }),
  }),
  'workspace.select': method({
    summary: 'Open a workspace',
    input: z.strictObject({ workspace_id: id }),
    output: done,
  }),
  'workspace.create': method({
    summary: 'Make a workspace',
    input: z.strictObject({ workspace_id: id, name: z.string().min(1).max(100) }),
    output: workspaceEntry,
  }),
  'workspace.members': method({
    summary: 'Who is in the workspace',
    input: none,
    output: z.strictObject({
      members: z.array(
        z.strictObject({ user_id: z.string(), name: z.string(), email: z.string(), role: z.string() }),
      ),
    }),
  }),
  'workspace.invite': method({
    summary: 'Invite somebody; the link is shown once',
    input: z.strictObject({ email: z.email(), role: z.enum(['owner', 'editor', 'viewer']) }),
    output: z.strictObject({ url: z.string() }),
  }),

  'sync.state': method({ summary: 'The sync state', input: none, output: syncState }),
  'sync.now': method({ summary: 'Sync now and wait for the outcome', input: none, output: syncState }),
  'sync.repair': method({
    summary: 'Read every document on this machine, and fetch anew what cannot be read',
    input: none,
    output: z.strictObject({
      state: syncState,
      documents: z.number().int(),
      /** Names of those that could not be read. */
      unreadable: z.array(z.string()),
      /** Names of those that still cannot: unsent work is in them, or the server does not answer. */
      left: z.array(z.string()),
    }),
  }),
  'sync.pause': method({
    summary: 'Work offline on purpose, or go online again',
    input: z.strictObject({ paused: z.boolean() }),
    output: syncState,
  }),

  'document.list': method({
    summary: 'Documents of the workspace',
    input: none,
    output: z.strictObject({ documents: z.array(documentEntry) }),
  }),
  /** The UI keeps its own replica: it takes the bytes, makes changes with its own actor and hands each one back. */
  'document.open': method({
    summary: 'A document’s bytes, and an actor id to write with',
    input: z.strictObject({ document_id: id }),
    output: z.strictObject({
      document_id: id,
      bytes: base64,
      /** A fresh actor for this view; never used by anybody else. */
      actor: z.string().regex(/^[0-9a-f]{32,}$/),
      read_only: z.boolean(),
      read_only_reason: z.string().nullable(),
    }),
  }),
  'document.append': method({
    summary: 'Store changes; answers when they are durable on this machine',
    input: z.strictObject({ document_id: id, changes: z.array(base64).min(1).max(1000) }),
    output: z.strictObject({ heads: z.array(hash) }),
  }),
  'document.authors': method({
    summary: 'Who wrote which change, by the server’s record; null while it is not stored yet',
    input: z.strictObject({ document_id: id, hashes: z.array(hash).max(10_000) }),
    output: z.strictObject({ authors: z.record(hash, author.nullable()) }),
  }),
  'document.presence': method({
    summary: 'Say where you are',
    input: z.strictObject({ document_id: id.nullable(), at: z.string().max(500).nullable() }),
    output: done,
  }),

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
  'version.restore': method({
    summary: 'Make the working state equal to a version and publish it as a new one',
    input: pipeline.extend({
      number: z.number().int().positive(),
      message: z.string().max(10_000).default(''),
    }),
    output: publishOutcome,
  }),

  ...draftMethods,

  'schedule.list': method({
    summary: 'Schedules of the workspace',
    input: none,
    output: z.strictObject({
      schedules: z.array(
        z.strictObject({
          schedule_id: id,
          pipeline_id: id,
          cron: z.string(),
          timezone: z.string(),
          enabled: z.boolean(),
          next_due_at: timestamp.nullable(),
        }),
      ),
    }),
  }),
  'schedule.create': method({
    summary: 'Run a pipeline’s current version by the clock',
    input: pipeline.extend({ schedule_id: id, cron: z.string(), timezone: z.string() }),
    output: done,
  }),
  'schedule.set_enabled': method({
    summary: 'Switch a schedule on or off; nothing past is replayed',
    input: z.strictObject({ schedule_id: id, enabled: z.boolean() }),
    output: done,
  }),

  'ledger.list': method({
    summary: 'Every byte that ever left this machine, by run',
    input: none,
    output: z.strictObject({
      entries: z.array(
        z.strictObject({
          at: timestamp,
          run_id: id.nullable(),
          what: z.string(),
          name: z.string(),
          destination: z.string(),
          bytes: z.number().int(),
          sha256: z.string().nullable(),
        }),
      ),
    }),
  }),
  'secret.list': method({
    summary: 'Names of stored secrets',
    input: none,
    output: z.strictObject({ names: z.array(z.string()) }),
  }),
  'secret.set': method({
    summary: 'Store a secret in the keychain',
    input: z.strictObject({ name: z.string().regex(/^[A-Z][A-Z0-9_]{0,62}$/), value: z.string().min(1) }),
    output: done,
  }),
  'secret.remove': method({
    summary: 'Erase a secret',
    input: z.strictObject({ name: z.string() }),
    output: done,
  }),
} as const

export type Methods = typeof METHODS
export type MethodName = keyof Methods
export type InputOf<M extends MethodName> = z.input<Methods[M]['input']>
export type ParsedInputOf<M extends MethodName> = z.output<Methods[M]['input']>
export type OutputOf<M extends MethodName> = z.output<Methods[M]['output']>
