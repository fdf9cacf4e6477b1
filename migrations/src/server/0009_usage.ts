import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/** How much a workspace has, counted with each append, so that a limit can be kept without reading the log. */
export const usage: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`
      alter table workspace_counters
        -- bytes of all changes, and documents, drafts and comments included
        add column bytes bigint not null default 0,
        add column documents integer not null default 0`.execute(db)
    await sql`
      update workspace_counters c set
        bytes = coalesce((select sum(octet_length(bytes)) from changes where workspace_id = c.workspace_id), 0),
        documents = (select count(*) from documents where workspace_id = c.workspace_id)`.execute(db)
  },
}
