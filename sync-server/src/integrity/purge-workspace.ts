import { AppError } from '@pluto-duck/crdt-model/errors'
import { sql } from 'kysely'
import type { StoredFiles } from '../artifacts/index.ts'
import { closeCounter, type Executor } from '../changes/store.ts'
import { appendVoid } from '../changes/void.ts'
import { transact } from '../database/index.ts'
import { lockDrafts, type PurgeParts, purgeReviews, readChanges } from './purge.ts'

export interface WorkspacePurge {
  readonly workspace_id: string
  readonly documents: number
  readonly changes: number
  readonly versions: number
  readonly members: number
  /** Files in the storage that runs have listed. */
  readonly artifacts: number
}

/** What a purge of the workspace would remove. */
export async function planWorkspacePurge(db: Executor, workspaceId: string): Promise<WorkspacePurge> {
  const { rows } = await sql<WorkspacePurge>`
    select w.id as workspace_id,
      (select count(*)::int from documents where workspace_id = w.id) as documents,
      (select count(*)::int from changes where workspace_id = w.id) as changes,
      (select count(*)::int from versions where workspace_id = w.id and not purged) as versions,
      (select count(*)::int from members where workspace_id = w.id) as members,
      (select count(*)::int from artifacts where workspace_id = w.id) as artifacts
    from workspaces w where w.id = ${workspaceId}`.execute(db)
  if (!rows[0]) throw new AppError('workspace.not_found', 'There is no such workspace.')
  return rows[0]
}

/**
 * Removes a workspace: the bytes of every change, the content of every version, what was said about drafts, logs and manifests of
 * runs, all names, invitations and members; then its files in the storage. What stays are ids, numbers, hashes, times and the
 * audit. What is on its way meanwhile is removed too, or finds that the workspace is gone: it takes nothing more. When the storage
 * does not answer, the same call again removes what is left there.
 */
export async function purgeWorkspace(
  parts: PurgeParts & { readonly files: Pick<StoredFiles, 'removeAll'> },
  workspaceId: string,
  reason: string,
): Promise<WorkspacePurge> {
  const plan = await eraseWorkspace(parts, workspaceId, reason)
  await parts.files.removeAll(workspaceId)
  return plan
}

async function eraseWorkspace(
  { db, audit, clock }: PurgeParts,
  workspaceId: string,
  reason: string,
): Promise<WorkspacePurge> {
  return await transact(db, async tx => {
    const now = clock.now()
    // Who publishes locks the pipeline, then the counter. Those of pipelines that were new in between come after it.
    await lockPipelines(tx, workspaceId, now)
    if (!(await closeCounter(tx, workspaceId)))
      throw new AppError('workspace.not_found', 'There is no such workspace.')
    await lockPipelines(tx, workspaceId, now)
    const { rows: documents } = await sql<{ id: string; is_draft: boolean }>`
      select id, base is not null as is_draft from documents where workspace_id = ${workspaceId} order by base nulls last, id desc`.execute(
      tx,
    )
    const drafts = documents.filter(one => one.is_draft).map(one => one.id)
    await lockDrafts(tx, workspaceId, drafts)
    // Who changes one of these locks it before the audit's head, and who accepts an invitation refers to the workspace after it.
    for (const [table, key] of [
      ['invitations', 'id'],
      ['members', 'user_id'],
      ['schedules', 'id'],
    ] as const)
      await sql`
        select 1 from ${sql.table(table)} where workspace_id = ${workspaceId} order by ${sql.ref(key)} for update`.execute(
        tx,
      )
    // Nothing new refers to the workspace from here on: no run that is not among these.
    await sql`select id from workspaces where id = ${workspaceId} for update`.execute(tx)
    // Before their logs are deleted: who waits for one of them to add to its log finds it purged.
    await sql`
      update runs set manifest = null, failed_step = null, purged = true where workspace_id = ${workspaceId}`.execute(
      tx,
    )
    const plan = await planWorkspacePurge(tx, workspaceId)
    // And what the audit tells of was done before this, or is not done.
    await audit.record(tx, {
      workspaceId,
      actorUserId: null,
      action: 'workspace.purge',
      objectKind: 'workspace',
      objectId: workspaceId,
      details: { reason, ...plan },
    })
    await sql`update audit_heads set closed = true where workspace_id = ${workspaceId}`.execute(tx)
    for (const { id } of documents) {
      const log = await readChanges(tx, workspaceId, id)
      if (log.length === 0) continue
      await appendVoid(tx, {
        workspaceId,
        documentId: id,
        hashes: log.map(change => change.hash),
        erase: true,
        reason,
        at: now,
        record: async () => {},
      })
    }
    // What was taken out before, and kept its bytes then.
    await sql`
      select void_changes(${workspaceId}::uuid, document_id, array_agg(hash), 0, true) from log_records
      where workspace_id = ${workspaceId} and record = 'change' and void_seq is not null and octet_length(bytes) > 0
      group by document_id`.execute(tx)
    const { rows: pipelines } = await sql<{ pipeline_id: string; numbers: number[] }>`
      select pipeline_id, array_agg(number) as numbers from versions
      where workspace_id = ${workspaceId} and not purged group by pipeline_id`.execute(tx)
    for (const { pipeline_id, numbers } of pipelines)
      await sql`select purge_versions(${workspaceId}::uuid, ${pipeline_id}::uuid, ${numbers}::integer[])`.execute(
        tx,
      )
    await sql`
      delete from run_log_chunks where run_id in (select id from runs where workspace_id = ${workspaceId})`.execute(
      tx,
    )
    await purgeReviews(tx, workspaceId, drafts, now)
    await sql`update artifacts set name = '' where workspace_id = ${workspaceId}`.execute(tx)
    await sql`update schedules set enabled = false where workspace_id = ${workspaceId}`.execute(tx)
    for (const table of ['invitations', 'members', 'snapshot_pages'])
      await sql`delete from ${sql.table(table)} where workspace_id = ${workspaceId}`.execute(tx)
    await sql`update workspaces set name = '' where id = ${workspaceId}`.execute(tx)
    return plan
  })
}

/** All that have a row, or could have one: nobody publishes until the transaction ends. */
async function lockPipelines(tx: Executor, workspaceId: string, now: Date): Promise<void> {
  await sql`
    insert into pipelines (workspace_id, id, current, created_at, updated_at)
    select workspace_id, id, null, ${now}, ${now} from documents
    where workspace_id = ${workspaceId} and kind = 'pipeline' and base is null
    order by id on conflict (id) do nothing`.execute(tx)
  await sql`select id from pipelines where workspace_id = ${workspaceId} order by id for update`.execute(tx)
}
