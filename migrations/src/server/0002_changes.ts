import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/**
 * The change log: numbered for each workspace without gaps, append-only by triggers.
 *
 * It may run before or after 0003, so it brings a trigger function of its own.
 */
export const changes: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    // The row that every append locks: commits of a workspace have one order, which is the order of their numbers.
    await sql`
      create table workspace_counters (
        workspace_id uuid primary key references workspaces (id),
        seq bigint not null check (seq >= 0)
      )`.execute(db)
    await sql`
      create table documents (
        workspace_id uuid not null references workspaces (id),
        id uuid not null,
        kind text not null check (kind in ('pipeline', 'comments')),
        subject_kind text,
        subject_id uuid,
        base uuid,
        title text not null default '',
        -- hex, sorted
        heads text[] not null,
        created_at timestamptz not null default now(),
        created_seq bigint not null,
        -- the number of its last change
        seq bigint not null,
        snapshot bytea,
        -- what the snapshot reaches; changes above it are its tail
        snapshot_seq bigint not null default 0,
        snapshot_at timestamptz,
        -- why it takes no more changes; null while it does
        corrupt text,
        primary key (workspace_id, id),
        check ((subject_kind is null) = (subject_id is null))
      )`.execute(db)
    // An id is unique on a server, whatever the workspace.
    await sql`create unique index documents_id on documents (id)`.execute(db)
    await sql`create index documents_seq on documents (workspace_id, seq)`.execute(db)
    await sql`
      create table changes (
        workspace_id uuid not null,
        seq bigint not null,
        document_id uuid not null,
        hash bytea not null check (length(hash) = 32),
        actor text not null,
        actor_seq integer not null,
        author_id text not null,
        device_id uuid not null,
        received_at timestamptz not null,
        live boolean not null,
        bytes bytea not null,
        primary key (workspace_id, seq)
      )`.execute(db)
    await sql`create unique index changes_hash on changes (workspace_id, document_id, hash)`.execute(db)
    await sql`create index changes_document on changes (workspace_id, document_id, seq)`.execute(db)
    await sql`
      create table actors (
        workspace_id uuid not null references workspaces (id),
        actor text not null,
        device_id uuid not null,
        bound_at timestamptz not null default now(),
        primary key (workspace_id, actor)
      )`.execute(db)
    await sql`
      create or replace function refuse_change_rewrite() returns trigger language plpgsql as $$
      begin
        raise exception '% on % is refused: its rows are append-only', tg_op, tg_table_name
          using errcode = 'restrict_violation';
      end $$`.execute(db)
    await sql`
      create trigger changes_keep_rows before update or delete on changes
        for each row execute function refuse_change_rewrite()`.execute(db)
    await sql`
      create trigger changes_keep_table before truncate on changes
        for each statement execute function refuse_change_rewrite()`.execute(db)
  },
}
