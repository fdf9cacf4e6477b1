import { z } from 'zod'
import { hash, id, timestamp, userId } from './ids.ts'
import { LIMITS } from './limits.ts'
import { route } from './route.ts'

export const runState = z.enum(['pending', 'running', 'success', 'failed', 'skipped', 'cancelled'])
export type RunState = z.infer<typeof runState>
export const TERMINAL: ReadonlySet<RunState> = new Set(['success', 'failed', 'skipped', 'cancelled'])
/** The only transitions there are. */
export const TRANSITIONS: Record<RunState, readonly RunState[]> = {
  pending: ['running', 'failed', 'skipped', 'cancelled'],
  running: ['success', 'failed', 'cancelled'],
  success: [],
  failed: [],
  skipped: [],
  cancelled: [],
}

export const cause = z.enum([
  'sql',
  'data_test',
  'source',
  'permission',
  'network',
  'resource',
  'timeout',
  'cancelled',
  'internal',
])
export type Cause = z.infer<typeof cause>

/** What a step did, without any value of its data. */
export const stepOutcome = z.strictObject({
  step_id: z.string(),
  name: z.string(),
  state: z.enum(['success', 'reused', 'failed', 'skipped', 'cancelled']),
  cause: cause.nullable(),
  fingerprint: hash.nullable(),
  rows: z.number().int().nonnegative().nullable(),
  bytes: z.number().int().nonnegative().nullable(),
  started_at: timestamp.nullable(),
  duration_ms: z.number().nonnegative().nullable(),
  attempts: z.number().int().nonnegative(),
  tests: z.array(
    z.strictObject({
      id: z.string(),
      type: z.string(),
      severity: z.enum(['warn', 'error']),
      passed: z.boolean(),
      failing_rows: z.number().int().nonnegative(),
    }),
  ),
})

/** Everything needed to say later which input caused which output. Holds names and hashes, never values or paths of people. */
export const runManifest = z.strictObject({
  engine: z.strictObject({ pluto: z.string(), duckdb: z.string(), os: z.string(), node: z.string() }),
  /** Parameter name -> sha256 of its canonical JSON: comparable, without the value. */
  params: z.record(z.string(), hash),
  sources: z.array(
    z.strictObject({ name: z.string(), kind: z.string(), files: z.number().int(), state: hash }),
  ),
  steps: z.array(stepOutcome),
})

export const runBase = z.strictObject({
  run_id: id,
  workspace_id: id,
  pipeline_id: id,
  /** A published version's number, or null for a draft: then `heads` say what ran. */
  version: z.number().int().positive().nullable(),
  heads: z.array(hash),
  trigger: z.enum(['manual', 'schedule', 'replay']),
  schedule_id: id.nullable(),
  /** The occurrence of the schedule. */
  due_at: timestamp.nullable(),
  device_id: id,
  created_at: timestamp,
})
export const run = runBase.extend({
  state: runState,
  cause: cause.nullable(),
  /** The step at which it failed. */
  failed_step: z.string().nullable(),
  started_at: timestamp.nullable(),
  finished_at: timestamp.nullable(),
  run_by: z.strictObject({ user_id: userId, name: z.string() }),
  manifest: runManifest.nullable(),
  log_bytes: z.number().int().nonnegative(),
})
export type Run = z.infer<typeof run>
export type StepOutcome = z.infer<typeof stepOutcome>
export type RunManifest = z.infer<typeof runManifest>

const params = z.strictObject({ run_id: id })
const ofRun = { of: 'run', param: 'run_id' } as const

export const artifactKind = z.enum(['report', 'report_markdown', 'metadata', 'log', 'snapshot'])
export const artifact = z.strictObject({
  artifact_id: id,
  run_id: id,
  kind: artifactKind,
  /** File name that a download gets. */
  name: z.string(),
  content_type: z.string(),
  bytes: z.number().int().nonnegative(),
  sha256: hash,
  created_at: timestamp,
})
export type Artifact = z.infer<typeof artifact>

const upload = z.strictObject({
  artifact_id: id,
  kind: artifactKind,
  name: z.string().regex(/^[\w][\w. -]{0,150}$/, 'a plain file name'),
  content_type: z.string().regex(/^[\w.+-]+\/[\w.+-]+(; ?charset=[\w-]+)?$/),
  bytes: z.number().int().nonnegative().max(LIMITS.artifactBytes),
  sha256: hash,
})
export const presigned = z.strictObject({
  method: z.enum(['PUT', 'GET']),
  url: z.string(),
  /** Headers that must be sent exactly so; they are part of the signature. */
  headers: z.record(z.string(), z.string()),
  expires_at: timestamp,
})

export const runRoutes = {
  create: route({
    id: 'run.create',
    method: 'POST',
    path: '/v1/runs',
    summary: 'Record a run; repeated posts answer 200',
    access: 'run.write',
    workspace: { in: 'body', field: 'workspace_id' },
    creates: true,
    body: runBase.extend({
      /** For a scheduled run: the fencing token of the claim. */
      fencing_token: z.number().int().positive().nullable().default(null),
    }),
    reply: run,
  }),
  transition: route({
    id: 'run.transition',
    method: 'POST',
    path: '/v1/runs/:run_id/transitions',
    summary: 'Move a run to its next state; the same move again answers 200',
    access: 'run.write',
    workspace: ofRun,
    params,
    body: z.strictObject({
      to: runState,
      at: timestamp,
      cause: cause.nullable().default(null),
      failed_step: z.string().max(200).nullable().default(null),
      manifest: runManifest.nullable().default(null),
      fencing_token: z.number().int().positive().nullable().default(null),
    }),
    maxBody: 4 * 1024 * 1024,
    reply: run,
  }),
  list: route({
    id: 'run.list',
    method: 'GET',
    path: '/v1/runs',
    summary: 'Runs of a workspace or pipeline, newest first',
    access: 'run.read',
    workspace: { in: 'query', field: 'workspace_id' },
    query: z.strictObject({
      workspace_id: id,
      pipeline_id: id.optional(),
      before: id.optional(),
      limit: z.coerce.number().int().min(1).max(200).default(50),
    }),
    etag: true,
    reply: z.strictObject({ runs: z.array(run), more: z.boolean() }),
  }),
  read: route({
    id: 'run.read',
    method: 'GET',
    path: '/v1/runs/:run_id',
    summary: 'One run',
    access: 'run.read',
    workspace: ofRun,
    params,
    etag: true,
    reply: run,
  }),
  appendLog: route({
    id: 'run.append_log',
    method: 'POST',
    path: '/v1/runs/:run_id/logs',
    summary: 'Append a chunk of JSONL at an offset; the same chunk again answers 200',
    access: 'run.write',
    workspace: ofRun,
    params,
    body: z.strictObject({
      /** Bytes already sent. */
      offset: z.number().int().nonnegative(),
      /** Whole lines, each a JSON object as docs/formats.md fixes it, each ended by a newline. */
      lines: z.string().min(1).max(LIMITS.logChunkBytes),
    }),
    maxBody: 2 * LIMITS.logChunkBytes,
    reply: z.strictObject({ next_offset: z.number().int() }),
  }),
  readLog: route({
    id: 'run.read_log',
    method: 'GET',
    path: '/v1/runs/:run_id/logs',
    summary: 'The log of a run as JSONL, from an offset',
    access: 'run.read',
    workspace: ofRun,
    params,
    query: z.strictObject({ offset: z.coerce.number().int().nonnegative().default(0) }),
    reply: 'text',
  }),
  createUpload: route({
    id: 'artifact.create_upload',
    method: 'POST',
    path: '/v1/runs/:run_id/uploads',
    summary: 'A presigned PUT with type, length and sha256 signed; null when the file is there already',
    access: 'artifact.write',
    workspace: ofRun,
    params,
    body: upload,
    reply: z.strictObject({ upload: presigned.nullable() }),
  }),
  registerArtifact: route({
    id: 'artifact.register',
    method: 'POST',
    path: '/v1/runs/:run_id/artifacts',
    summary: 'List an uploaded file; the server checks that it is there with its size',
    access: 'artifact.write',
    workspace: ofRun,
    creates: true,
    params,
    body: upload,
    reply: artifact,
  }),
  listArtifacts: route({
    id: 'artifact.list',
    method: 'GET',
    path: '/v1/runs/:run_id/artifacts',
    summary: 'The artifacts of a run',
    access: 'artifact.read',
    workspace: ofRun,
    params,
    reply: z.strictObject({ artifacts: z.array(artifact) }),
  }),
  downloadArtifact: route({
    id: 'artifact.download',
    method: 'POST',
    path: '/v1/artifacts/:artifact_id/download',
    summary: 'A presigned GET; the downloader verifies the sha256',
    access: 'artifact.read',
    workspace: { of: 'artifact', param: 'artifact_id' },
    params: z.strictObject({ artifact_id: id }),
    reply: z.strictObject({ artifact, download: presigned }),
  }),
} as const
