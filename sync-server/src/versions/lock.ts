import { sql, type Transaction } from 'kysely'
import type { Database } from '../database/index.ts'

/**
 * The number of the pipeline's current version, which nobody changes until the transaction ends: not even by a first one. It is the
 * first lock of a transaction (LOCK1): the log's counter, drafts and the audit's head come after it.
 */
export const lockCurrent = async (
  tx: Transaction<Database>,
  of: { readonly workspaceId: string; readonly pipelineId: string; readonly now: Date },
): Promise<number | null> => {
  await sql`
    insert into pipelines (workspace_id, id, current, created_at, updated_at)
    values (${of.workspaceId}, ${of.pipelineId}, null, ${of.now}, ${of.now})
    on conflict (id) do nothing`.execute(tx)
  const row = await tx
    .selectFrom('pipelines')
    .select('current')
    .where('id', '=', of.pipelineId)
    .forUpdate()
    .executeTakeFirstOrThrow()
  return row.current
}
