import { createHash } from 'node:crypto'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { AuditEntry } from '@pluto-duck/crdt-model/protocol'
import { sql, type Transaction } from 'kysely'
import type { Clock } from '../app/context.ts'
import type { Database } from '../database/index.ts'

export interface AuditInput {
  readonly workspaceId: string
  readonly actorUserId: string | null
  readonly deviceId?: string | null
  /** The remote address; null for what the server does by itself. */
  readonly origin?: string | null
  /** `version.publish`, `member.set_role`, `change.refused`, … */
  readonly action: string
  readonly objectKind: string
  readonly objectId?: string | null
  /** Never a secret, a token or a value of somebody's data. */
  readonly details?: Record<string, unknown>
}

/** What is still told of a workspace that was purged: that it is purged again, and what was refused. */
const AFTER_PURGE: ReadonlySet<string> = new Set(['workspace.purge', 'change.refused', 'request.refused'])

export const AUDIT_START = '0'.repeat(64)

/**
 * The hash that chains a row to the one before: SHA-256 over the JSON array of its fields in this order. `details` is
 * written with its keys sorted, because the database does not keep their order.
 */
export const auditHash = (entry: Omit<AuditEntry, 'hash'>, workspaceId: string): string =>
  createHash('sha256')
    .update(
      JSON.stringify([
        entry.previous_hash,
        workspaceId,
        entry.seq,
        entry.at,
        entry.actor_user_id,
        entry.device_id,
        entry.origin,
        entry.action,
        entry.object_kind,
        entry.object_id,
        sortKeys(entry.details),
      ]),
    )
    .digest('hex')

const sortKeys = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(sortKeys)
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, inner]) => [key, sortKeys(inner)]),
  )
}

export class Audit {
  readonly #clock: Clock
  constructor(clock: Clock) {
    this.#clock = clock
  }

  /**
   * Appends a row to the workspace's chain, inside the transaction that does what the row tells: both are there or neither.
   * The chain's head stays locked until the transaction ends, so write it last (LOCK1). Throws `workspace.not_found` when the workspace was
   * purged, also while this waited for the head: so nothing that is audited is done in it any more.
   */
  async record(tx: Transaction<Database>, input: AuditInput): Promise<void> {
    await sql`
      insert into audit_heads (workspace_id, seq, hash) values (${input.workspaceId}, 0, ${AUDIT_START})
      on conflict (workspace_id) do nothing`.execute(tx)
    const head = await tx
      .selectFrom('audit_heads')
      .select(['seq', 'hash', 'closed'])
      .where('workspace_id', '=', input.workspaceId)
      .forUpdate()
      .executeTakeFirstOrThrow()
    if (head.closed && !AFTER_PURGE.has(input.action))
      throw new AppError('workspace.not_found', 'The workspace was purged.')
    const entry = {
      seq: head.seq + 1,
      at: this.#clock.now().toISOString(),
      actor_user_id: input.actorUserId,
      device_id: input.deviceId ?? null,
      origin: input.origin ?? null,
      action: input.action,
      object_kind: input.objectKind,
      object_id: input.objectId ?? null,
      // Through JSON once, so that what is hashed is what the database gives back.
      details: JSON.parse(JSON.stringify(input.details ?? {})) as Record<string, unknown>,
      previous_hash: head.hash,
    }
    const hash = auditHash(entry, input.workspaceId)
    await tx
      .insertInto('audit')
      .values({
        ...entry,
        workspace_id: input.workspaceId,
        details: JSON.stringify(entry.details),
        hash,
      })
      .execute()
    await tx
      .updateTable('audit_heads')
      .set({ seq: entry.seq, hash })
      .where('workspace_id', '=', input.workspaceId)
      .execute()
  }
}
