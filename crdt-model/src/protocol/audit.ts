import { z } from 'zod'
import { hash, id, seq, timestamp } from './ids.ts'
import { route } from './route.ts'

/** One row of the audit: append-only, each with the hash of the one before, so that a missing or changed row shows. */
export const auditEntry = z.strictObject({
  seq,
  at: timestamp,
  actor_user_id: z.string().nullable(),
  device_id: id.nullable(),
  /** Remote address as the server saw it. */
  origin: z.string().nullable(),
  /** `version.publish`, `member.set_role`, `change.refused`, … */
  action: z.string(),
  object_kind: z.string(),
  object_id: z.string().nullable(),
  details: z.record(z.string(), z.unknown()),
  previous_hash: hash,
  hash,
})
export type AuditEntry = z.infer<typeof auditEntry>

export const auditRoutes = {
  list: route({
    id: 'audit.list',
    method: 'GET',
    path: '/v1/workspaces/:workspace_id/audit',
    summary: 'The audit of a workspace, oldest first',
    access: 'audit.read',
    workspace: { in: 'params', field: 'workspace_id' },
    params: z.strictObject({ workspace_id: id }),
    query: z.strictObject({
      after: z.coerce.number().int().nonnegative().default(0),
      limit: z.coerce.number().int().min(1).max(1000).default(200),
    }),
    reply: z.strictObject({ entries: z.array(auditEntry), more: z.boolean() }),
  }),
} as const
