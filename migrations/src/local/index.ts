import { first } from './0001_first.ts'
import { overviews } from './0002_overviews.ts'
import { workspaceMembers } from './0003_workspace_members.ts'

export interface LocalMigration {
  /** Sorts in the order in which migrations run; never changed once landed. */
  readonly id: string
  readonly statements: readonly string[]
}

/** The history of `state.duckdb`'s schema. Frozen: what landed is never edited, a change is a new entry at the end. */
export const LOCAL_MIGRATIONS: readonly LocalMigration[] = [first, overviews, workspaceMembers]
