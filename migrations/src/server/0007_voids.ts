import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/**
 * What is taken out of the log again: void records, and the one way in which rows of the log and versions may lose content.
 *
 * The table is `log_records` now: changes and void records, numbered together. `changes` is a view of it: the changes that
 * count. So whoever reads or inserts changes needs not know of voids.
 */
export const voids: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`alter table changes rename to log_records`.execute(db)
    await sql`
      alter table log_records
        add column record text not null default 'change' check (record in ('change', 'void')),
        -- the number of the void record that excludes it; null for a change that counts
        add column void_seq bigint`.execute(db)
    await sql`
      create view changes as
        select workspace_id, seq, document_id, hash, actor, actor_seq, author_id, device_id, received_at, live, bytes
        from log_records where record = 'change' and void_seq is null`.execute(db)
    // The content is gone; number, hash, heads, authors and times stay.
    await sql`alter table versions add column purged boolean not null default false`.execute(db)

    // The audit's last row of the workspace was written by this very transaction, and says that something is taken out.
    await sql`
      create function audited_now(of_workspace uuid) returns boolean language sql stable as $$
        select exists (
          select 1 from audit_heads h join audit a on a.workspace_id = h.workspace_id and a.seq = h.seq
          where h.workspace_id = of_workspace and a.xmin = pg_current_xact_id()::xid
            and a.action in ('document.void', 'document.purge', 'workspace.purge')
        ) $$`.execute(db)
    await sql`
      create function keep_log_records() returns trigger language plpgsql as $$
      begin
        if tg_op = 'UPDATE' then
          if new.void_seq is not null and (old.void_seq is null or new.void_seq = old.void_seq)
            and (new.bytes = old.bytes or new.bytes = ''::bytea)
            and (new.workspace_id, new.seq, new.document_id, new.hash, new.actor, new.actor_seq, new.author_id,
                 new.device_id, new.received_at, new.live, new.record)
              is not distinct from
                (old.workspace_id, old.seq, old.document_id, old.hash, old.actor, old.actor_seq, old.author_id,
                 old.device_id, old.received_at, old.live, old.record)
            and audited_now(new.workspace_id)
          then return new;
          end if;
        end if;
        raise exception '% on % is refused: its rows are append-only', tg_op, tg_table_name
          using errcode = 'restrict_violation';
      end $$`.execute(db)
    await sql`drop trigger changes_keep_rows on log_records`.execute(db)
    await sql`
      create trigger log_records_keep_rows before update or delete on log_records
        for each row execute function keep_log_records()`.execute(db)
    await sql`
      create function keep_versions() returns trigger language plpgsql as $$
      begin
        if tg_op = 'UPDATE' then
          if new.purged and new.definition = '' and new.files::text = '{}' and new.message = ''
            and (new.workspace_id, new.pipeline_id, new.number, new.id, new.content_hash, new.heads, new.parent,
                 new.published_by, new.published_at, new.authors, new.resolved, new.restores)
              is not distinct from
                (old.workspace_id, old.pipeline_id, old.number, old.id, old.content_hash, old.heads, old.parent,
                 old.published_by, old.published_at, old.authors, old.resolved, old.restores)
            and audited_now(new.workspace_id)
          then return new;
          end if;
        end if;
        raise exception '% on % is refused: its rows are append-only', tg_op, tg_table_name
          using errcode = 'restrict_violation';
      end $$`.execute(db)
    await sql`drop trigger versions_keep_rows on versions`.execute(db)
    await sql`
      create trigger versions_keep_rows before update or delete on versions
        for each row execute function keep_versions()`.execute(db)

    // The one way in: excludes changes by a void record, and erases their bytes when that is asked for.
    await sql`
      create function void_changes(
        of_workspace uuid, of_document uuid, hashes bytea[], at_seq bigint, erase boolean
      ) returns bigint language plpgsql as $$
      declare done bigint;
      begin
        update log_records
          set void_seq = coalesce(void_seq, at_seq), bytes = case when erase then ''::bytea else bytes end
          where workspace_id = of_workspace and document_id = of_document and record = 'change' and hash = any (hashes);
        get diagnostics done = row_count;
        return done;
      end $$`.execute(db)
    await sql`
      create function purge_versions(of_workspace uuid, of_pipeline uuid, numbers integer[]) returns bigint
      language plpgsql as $$
      declare done bigint;
      begin
        update versions set purged = true, definition = '', files = '{}', message = ''
          where workspace_id = of_workspace and pipeline_id = of_pipeline and number = any (numbers) and not purged;
        get diagnostics done = row_count;
        return done;
      end $$`.execute(db)
  },
}
