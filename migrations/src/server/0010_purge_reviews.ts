import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/** A review of a draft may lose its message, beside the audit's row about a purge, as versions may lose their content. */
export const purgeReviews: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`
      create function keep_draft_reviews() returns trigger language plpgsql as $$
      begin
        if tg_op = 'UPDATE' then
          if new.message = ''
            and (new.workspace_id, new.draft_id, new.id, new.place, new.reviewer, new.verdict, new.heads, new.at)
              is not distinct from
                (old.workspace_id, old.draft_id, old.id, old.place, old.reviewer, old.verdict, old.heads, old.at)
            and audited_now(new.workspace_id)
          then return new;
          end if;
        end if;
        raise exception '% on % is refused: its rows are append-only', tg_op, tg_table_name
          using errcode = 'restrict_violation';
      end $$`.execute(db)
    await sql`drop trigger draft_reviews_keep_rows on draft_reviews`.execute(db)
    await sql`
      create trigger draft_reviews_keep_rows before update or delete on draft_reviews
        for each row execute function keep_draft_reviews()`.execute(db)
  },
}
