import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/**
 * The id with which a merge was asked for: its answer may be lost, and when it made no version nothing else tells the same request from
 * another one. Null for drafts merged before.
 */
export const mergeIds: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`alter table drafts add column version_id uuid`.execute(db)
  },
}
