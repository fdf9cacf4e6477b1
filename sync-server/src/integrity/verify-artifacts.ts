import { sql } from 'kysely'
import { keyOf, type StoredFiles } from '../artifacts/index.ts'
import type { Executor } from '../changes/store.ts'
import { type Finding, finding } from './finding.ts'

const PAGE = 500
/** Questions to the storage under way at once. */
const AT_ONCE = 8

export interface ArtifactsReport {
  readonly artifacts: number
  readonly findings: readonly Finding[]
}

/** Asks the storage for every file that runs have listed, but for those of purged workspaces. Its content is not read. */
export async function verifyArtifacts(
  db: Executor,
  files: StoredFiles,
  workspaceId: string | null,
): Promise<ArtifactsReport> {
  const findings: Finding[] = []
  let artifacts = 0
  for (let after = '00000000-0000-0000-0000-000000000000'; ; ) {
    const { rows } = await sql<{
      id: string
      workspace_id: string
      run_id: string
      sha256: string
      bytes: string
    }>`
      select id, workspace_id, run_id, sha256, bytes from artifacts
      where id > ${after} and name <> '' and (${workspaceId}::uuid is null or workspace_id = ${workspaceId}::uuid)
      order by id limit ${PAGE}`.execute(db)
    for (let i = 0; i < rows.length; i += AT_ONCE)
      findings.push(
        ...(
          await Promise.all(
            rows.slice(i, i + AT_ONCE).map(async ({ id, workspace_id, run_id, sha256, bytes }) => {
              const size = await files.size(
                keyOf({ workspaceId: workspace_id, runId: run_id, artifactId: id, sha256 }),
              )
              const of = `artifact ${id} of run ${run_id}`
              if (size === null)
                return [finding('artifact.missing', workspace_id, of, 'Its file is not in the storage.')]
              if (size === Number(bytes)) return []
              const message = `Its file has ${size} bytes, listed are ${bytes}.`
              return [finding('artifact.length', workspace_id, of, message)]
            }),
          )
        ).flat(),
      )
    artifacts += rows.length
    const last = rows.at(-1)
    if (!last || rows.length < PAGE) return { artifacts, findings }
    after = last.id
  }
}
