import type { Run } from '@pluto-duck/crdt-model/protocol'
import type { Kysely } from 'kysely'
import type { Database } from '../database/index.ts'

const iso = (time: Date | null): string | null => time?.toISOString() ?? null

const selectRuns = (db: Kysely<Database>) =>
  db
    .selectFrom('runs')
    .leftJoin('users', 'users.id', 'runs.run_by')
    .selectAll('runs')
    .select('users.name as runner')

type Row = Awaited<ReturnType<ReturnType<typeof selectRuns>['executeTakeFirstOrThrow']>>

const asRun = ({ id, runner, run_by, fencing_token: _, purged: __, ...row }: Row): Run => ({
  ...row,
  run_id: id,
  due_at: iso(row.due_at),
  created_at: row.created_at.toISOString(),
  started_at: iso(row.started_at),
  finished_at: iso(row.finished_at),
  run_by: { user_id: run_by, name: runner ?? '' },
})

export const readRun = async (db: Kysely<Database>, id: string): Promise<Run> =>
  asRun(await selectRuns(db).where('runs.id', '=', id).executeTakeFirstOrThrow())

export interface RunFilter {
  readonly workspaceId: string
  readonly pipelineId: string | undefined
  /** Only those made before this one. */
  readonly before: string | undefined
  readonly limit: number
}

export const listRuns = async (
  db: Kysely<Database>,
  { workspaceId, pipelineId, before, limit }: RunFilter,
): Promise<{ runs: Run[]; more: boolean }> => {
  const rows = await selectRuns(db)
    .where('runs.workspace_id', '=', workspaceId)
    .$if(pipelineId !== undefined, query => query.where('runs.pipeline_id', '=', pipelineId as string))
    .$if(before !== undefined, query => query.where('runs.id', '<', before as string))
    .orderBy('runs.id', 'desc')
    .limit(limit + 1)
    .execute()
  return { runs: rows.slice(0, limit).map(asRun), more: rows.length > limit }
}
