import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/** The audit: numbered and hash-chained for each workspace, append-only by triggers. */
export const audit: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`
      create function refuse_rewrite() returns trigger language plpgsql as $$
      begin
        raise exception '% on % is refused: its rows are append-only', tg_op, tg_table_name
          using errcode = 'restrict_violation';
      end $$`.execute(db)
    // The workspace's last row, locked by whoever appends the next: the chain has one order.
    await sql`
      create table audit_heads (
        workspace_id uuid primary key references workspaces (id),
        seq bigint not null,
        hash text not null
      )`.execute(db)
    await sql`
      create table audit (
        workspace_id uuid not null references workspaces (id),
        seq bigint not null,
        at timestamptz not null,
        actor_user_id text,
        device_id uuid,
        origin text,
        action text not null,
        object_kind text not null,
        object_id text,
        details jsonb not null,
        previous_hash text not null,
        hash text not null,
        primary key (workspace_id, seq)
      )`.execute(db)
    await appendOnly(db, 'audit')
  },
}

/** Refuses UPDATE, DELETE and TRUNCATE of a table. */
export const appendOnly = async (db: Kysely<unknown>, table: string): Promise<void> => {
  const name = sql.table(table)
  await sql`
    create trigger ${sql.ref(`${table}_keep_rows`)} before update or delete on ${name}
      for each row execute function refuse_rewrite()`.execute(db)
  await sql`
    create trigger ${sql.ref(`${table}_keep_table`)} before truncate on ${name}
      for each statement execute function refuse_rewrite()`.execute(db)
}
