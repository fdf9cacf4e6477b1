import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/**
 * A purged workspace takes nothing more. The marks are on the rows that whoever writes locks anyway, so that what was on its way while
 * the purge was under way finds them without another query.
 */
export const purgedWorkspaces: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    // Locked by each append to the log, and by each act that the audit tells of.
    await sql`alter table workspace_counters add column closed boolean not null default false`.execute(db)
    await sql`alter table audit_heads add column closed boolean not null default false`.execute(db)
    // Its log and manifest are gone; it takes no more of them, and no files.
    await sql`alter table runs add column purged boolean not null default false`.execute(db)
    // Those that were purged before.
    const before = sql`(select workspace_id from audit where action = 'workspace.purge')`
    await sql`update workspace_counters set closed = true where workspace_id in ${before}`.execute(db)
    await sql`update audit_heads set closed = true where workspace_id in ${before}`.execute(db)
    await sql`update runs set purged = true where workspace_id in ${before}`.execute(db)
  },
}
