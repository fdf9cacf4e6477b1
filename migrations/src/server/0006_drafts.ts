import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'
import { appendOnly } from './0003_audit.ts'

/**
 * Drafts as forks: what people said about them. The draft itself is a document with a base; a row is here once somebody asked
 * for a review, merged or closed it.
 */
export const drafts: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`
      create table drafts (
        workspace_id uuid not null references workspaces (id),
        id uuid primary key,
        pipeline_id uuid not null,
        state text not null check (state in ('open', 'review', 'merged', 'closed')),
        message text not null default '',
        requested_by text,
        requested_at timestamptz,
        settled_by text,
        settled_at timestamptz,
        -- the version that it became
        version integer
      )`.execute(db)
    await sql`create index drafts_pipeline on drafts (pipeline_id)`.execute(db)
    await sql`
      create table draft_reviews (
        workspace_id uuid not null,
        draft_id uuid not null references drafts (id),
        id uuid primary key,
        place integer not null,
        reviewer text not null,
        verdict text not null check (verdict in ('approved', 'changes_requested')),
        message text not null,
        heads text[] not null,
        at timestamptz not null,
        unique (draft_id, place)
      )`.execute(db)
    await appendOnly(db, 'draft_reviews')
    await sql`create index documents_base on documents (base) where base is not null`.execute(db)
  },
}
