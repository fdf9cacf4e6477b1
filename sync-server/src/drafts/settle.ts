import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Draft } from '@pluto-duck/crdt-model/protocol'
import type { Transaction } from 'kysely'
import { lockSeq } from '../changes/store.ts'
import type { Database } from '../database/index.ts'
import type { Publishing } from '../versions/publish.ts'

/** Who asks for something to be done to a draft. */
export interface Asked {
  readonly userId: string
  readonly deviceId: string | null
  readonly origin: string
}

type Row = Pick<Draft, 'state'> & { readonly id: string }

/** The draft's row, made when there is none, locked until the transaction ends. */
export const lockDraft = async (tx: Transaction<Database>, draft: Draft): Promise<Row> => {
  await tx
    .insertInto('drafts')
    .values({
      workspace_id: draft.workspace_id,
      id: draft.draft_id,
      pipeline_id: draft.pipeline_id,
      state: 'open',
      message: '',
    })
    .onConflict(conflict => conflict.column('id').doNothing())
    .execute()
  return await tx
    .selectFrom('drafts')
    .select(['id', 'state'])
    .where('id', '=', draft.draft_id)
    .forUpdate()
    .executeTakeFirstOrThrow()
}

/** Throws `draft.settled` for a draft that was merged or closed. */
export const assertOpen = ({ state }: Row): void => {
  if (state === 'merged' || state === 'closed')
    throw new AppError('draft.settled', `The draft is ${state}.`, { details: { state } })
}

/**
 * Ends a draft, in the transaction of what ends it. Until that is committed nothing is appended to the workspace: what others write
 * into the draft is stored before, and seen by `check`, or refused.
 */
export const settle = async (
  ctx: Publishing,
  tx: Transaction<Database>,
  draft: Draft,
  asked: Asked,
  end:
    | {
        readonly state: 'merged'
        readonly version: number
        /** What the merge was asked with: by it the same request is known again, whatever version it was answered with. */
        readonly versionId: string
      }
    | { readonly state: 'closed' },
  check?: () => Promise<void>,
): Promise<void> => {
  await lockSeq(tx, draft.workspace_id)
  assertOpen(await lockDraft(tx, draft))
  await check?.()
  const [version, versionId] = end.state === 'merged' ? [end.version, end.versionId] : [null, null]
  await tx
    .updateTable('drafts')
    .set({
      state: end.state,
      version,
      version_id: versionId,
      settled_by: asked.userId,
      settled_at: ctx.clock.now(),
    })
    .where('id', '=', draft.draft_id)
    .execute()
  await told(ctx, tx, draft, asked, end.state, end.state === 'merged' ? 'draft.merge' : 'draft.close', {
    version,
  })
}

/** Tells everybody, and writes the audit's row: last in its transaction. */
export const told = async (
  ctx: Publishing,
  tx: Transaction<Database>,
  draft: Draft,
  asked: Asked,
  state: Draft['state'],
  action: string,
  details: Record<string, unknown>,
): Promise<void> => {
  const { workspace_id, draft_id, pipeline_id } = draft
  await ctx.bus.publish(workspace_id, { type: 'draft', draft_id, pipeline_id, state }, tx)
  await ctx.audit.record(tx, {
    workspaceId: workspace_id,
    actorUserId: asked.userId,
    deviceId: asked.deviceId,
    origin: asked.origin,
    action,
    objectKind: 'draft',
    objectId: draft_id,
    details: { pipeline_id, ...details },
  })
}
