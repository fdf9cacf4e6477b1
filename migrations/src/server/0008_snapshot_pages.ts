import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/**
 * What a new device is sent, ready made: runs of documents in order of id, as compressed pages. Derived from the log: they may be
 * deleted at any time, and are made again.
 */
export const snapshotPages: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`
      create table snapshot_pages (
        workspace_id uuid not null references workspaces (id),
        page_id uuid not null,
        -- the page has every document behind the page before it and up to this id
        last_id uuid not null,
        -- it has their changes up to this number at least
        seq bigint not null,
        documents integer not null,
        -- bytes when unpacked
        size integer not null,
        bytes bytea not null,
        -- when newer pages took its place; it stays a while for who is reading it
        replaced_at timestamptz,
        primary key (workspace_id, page_id)
      )`.execute(db)
    // The bytes are compressed already.
    await sql`alter table snapshot_pages alter column bytes set storage external`.execute(db)
    await sql`
      create unique index snapshot_pages_live on snapshot_pages (workspace_id, last_id)
      where replaced_at is null`.execute(db)

    // Whatever is taken out of the log, or mended beside it, must not live on in a page.
    await sql`
      create function drop_snapshot_pages() returns trigger language plpgsql as $$
      begin
        delete from snapshot_pages where workspace_id in (select distinct workspace_id from gone);
        return null;
      end $$`.execute(db)
    await sql`
      create trigger log_rewritten after update on log_records referencing old table as gone
      for each statement execute function drop_snapshot_pages()`.execute(db)
    await sql`
      create trigger log_removed after delete on log_records referencing old table as gone
      for each statement execute function drop_snapshot_pages()`.execute(db)
    await sql`
      create trigger documents_removed after delete on documents referencing old table as gone
      for each statement execute function drop_snapshot_pages()`.execute(db)
    await sql`
      create function drop_snapshot_pages_of_row() returns trigger language plpgsql as $$
      begin
        delete from snapshot_pages where workspace_id = new.workspace_id;
        return null;
      end $$`.execute(db)
    await sql`
      create trigger documents_mended after update of heads, snapshot, snapshot_seq on documents for each row
      when (
        (new.seq <= old.seq and new.heads is distinct from old.heads)
        or new.snapshot_seq < old.snapshot_seq
        or (new.snapshot_seq = old.snapshot_seq and new.snapshot is distinct from old.snapshot)
      )
      execute function drop_snapshot_pages_of_row()`.execute(db)
  },
}
