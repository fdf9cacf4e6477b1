import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'
import { appendOnly } from './0003_audit.ts'

/** Pipelines that were published, and their versions: immutable, numbered without gaps. */
export const versions: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    // Locked by each publish, so that versions of a pipeline have one order.
    await sql`
      create table pipelines (
        workspace_id uuid not null references workspaces (id),
        id uuid primary key,
        current integer,
        created_at timestamptz not null,
        updated_at timestamptz not null
      )`.execute(db)
    await sql`create index pipelines_workspace on pipelines (workspace_id)`.execute(db)
    await sql`
      create table versions (
        workspace_id uuid not null,
        pipeline_id uuid not null references pipelines (id),
        number integer not null check (number > 0),
        id uuid not null unique,
        content_hash text not null,
        heads text[] not null,
        parent integer,
        message text not null,
        published_by text not null,
        published_at timestamptz not null,
        authors text[] not null,
        resolved text[] not null,
        restores integer,
        -- canonical JSON: exactly the bytes that content_hash is of
        definition text not null,
        -- path -> text
        files json not null,
        primary key (pipeline_id, number)
      )`.execute(db)
    await sql`create index versions_content on versions (pipeline_id, content_hash)`.execute(db)
    await appendOnly(db, 'versions')
  },
}
