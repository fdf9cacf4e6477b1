import { z } from 'zod'
import { hash, id, seq, timestamp, userId } from './ids.ts'
import { LIMITS } from './limits.ts'
import { documentKind } from './roles.ts'
import { route } from './route.ts'

const params = z.strictObject({ workspace_id: id })
const workspace = { in: 'params', field: 'workspace_id' } as const

/** `pack=zstd`: the answer's items may come in packs and runs (frames.ts). */
const pack = z.literal('zstd').optional()

/** The server's record of a stored change: who, when and whether it was written live. Never taken from the change itself. */
export const changeRecord = z.strictObject({
  hash,
  seq,
  received_at: timestamp,
  live: z.boolean(),
  author_id: userId,
})

/** What `GET …/events` sends as `data:`; the SSE event's name is `type`, its id the workspace's seq at that moment. */
export const liveEvent = z.discriminatedUnion('type', [
  /** `items`: base64 of a CBOR sequence of log items `from` < seq <= `to`; null when too much: read the log. */
  z.strictObject({ type: z.literal('changes'), from: seq, to: seq, items: z.string().nullable() }),
  z.strictObject({ type: z.literal('version'), pipeline_id: id, number: z.number().int() }),
  z.strictObject({ type: z.literal('draft'), draft_id: id, pipeline_id: id, state: z.string() }),
  z.strictObject({ type: z.literal('run'), run_id: id, pipeline_id: id, state: z.string() }),
  z.strictObject({ type: z.literal('schedule'), schedule_id: id }),
  z.strictObject({ type: z.literal('member'), user_id: userId }),
  z.strictObject({
    type: z.literal('presence'),
    device_id: id,
    user_id: userId,
    name: z.string(),
    document_id: id.nullable(),
    /** Opaque to the server: the step and cursor, as the app writes them. */
    at: z.string().max(500).nullable(),
    left: z.boolean(),
  }),
])
export type LiveEvent = z.infer<typeof liveEvent>

export const changeRoutes = {
  append: route({
    id: 'changes.append',
    method: 'POST',
    path: '/v1/workspaces/:workspace_id/changes',
    summary:
      'Append changes: CBOR sequence of appendHeader, (appendItem | appendRun)*; answers appendVerdict*, endItem after the commit',
    access: 'change.append',
    workspace,
    params,
    query: z.strictObject({ pack }),
    body: 'cbor',
    maxBody: LIMITS.pushBytes,
    reply: 'cbor',
  }),
  read: route({
    id: 'changes.read',
    method: 'GET',
    path: '/v1/workspaces/:workspace_id/changes',
    summary: 'The log after a seq: CBOR sequence of logItem* (with pack also logRun*), endItem',
    access: 'change.read',
    workspace,
    params,
    query: z.strictObject({
      after: z.coerce.number().int().nonnegative().default(0),
      /** Seconds to wait for something new; 0 answers at once. */
      wait: z.coerce.number().int().min(0).max(LIMITS.waitSeconds).default(0),
      limit: z.coerce.number().int().min(1).max(LIMITS.logPage).default(LIMITS.logPage),
      pack,
    }),
    etag: true,
    reply: 'cbor',
  }),
  snapshot: route({
    id: 'changes.snapshot',
    method: 'GET',
    path: '/v1/workspaces/:workspace_id/snapshot',
    summary:
      'Every document, compacted: CBOR sequence of snapshotItem*, endItem with the seq that they reach; the first item of a document counts',
    access: 'change.read',
    workspace,
    params,
    query: z.strictObject({ pack }),
    reply: 'cbor',
  }),
  records: route({
    id: 'changes.records',
    method: 'GET',
    path: '/v1/workspaces/:workspace_id/documents/:document_id/records',
    summary: 'Who wrote the changes of a document and when they were stored',
    access: 'change.read',
    workspace,
    params: params.extend({ document_id: id }),
    query: z.strictObject({ after: z.coerce.number().int().nonnegative().default(0) }),
    reply: z.strictObject({ document_id: id, kind: documentKind, records: z.array(changeRecord) }),
  }),
  events: route({
    id: 'changes.events',
    method: 'GET',
    path: '/v1/workspaces/:workspace_id/events',
    summary: 'Live events (SSE, Last-Event-ID): liveEvent',
    access: 'change.read',
    workspace,
    params,
    reply: 'sse',
  }),
  presence: route({
    id: 'presence.write',
    method: 'POST',
    path: '/v1/workspaces/:workspace_id/presence',
    summary: 'Say where this device is; never stored, forgotten after 45 s',
    access: 'presence.write',
    workspace,
    params,
    body: z.strictObject({ document_id: id.nullable(), at: z.string().max(500).nullable() }),
    reply: z.strictObject({ ok: z.literal(true) }),
  }),
} as const
