import type { LocalMigration } from './index.ts'

/** As whom this installation was last a member of a workspace; null while nobody knows. An id of a person is of one server. */
export const workspaceMembers: LocalMigration = {
  id: '0003_workspace_members',
  statements: ['alter table workspaces add column user_id varchar'],
}
