import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/** Runs with their logs, the index of artifacts, and schedules with what became of each occurrence. */
export const runs: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`
      create table runs (
        workspace_id uuid not null references workspaces (id),
        id uuid primary key,
        pipeline_id uuid not null,
        version integer,
        heads text[] not null,
        trigger text not null check (trigger in ('manual', 'schedule', 'replay')),
        schedule_id uuid,
        due_at timestamptz,
        fencing_token bigint,
        device_id uuid not null,
        run_by text not null,
        created_at timestamptz not null,
        state text not null check (state in ('pending', 'running', 'success', 'failed', 'skipped', 'cancelled')),
        cause text,
        failed_step text,
        started_at timestamptz,
        finished_at timestamptz,
        manifest json,
        log_bytes bigint not null default 0
      )`.execute(db)
    await sql`create index runs_workspace on runs (workspace_id, id desc)`.execute(db)
    await sql`create index runs_pipeline on runs (workspace_id, pipeline_id, id desc)`.execute(db)
    await sql`
      create table run_log_chunks (
        run_id uuid not null references runs (id),
        -- bytes before it
        start bigint not null,
        lines text not null,
        primary key (run_id, start)
      )`.execute(db)
    await sql`
      create table artifacts (
        workspace_id uuid not null references workspaces (id),
        id uuid primary key,
        run_id uuid not null references runs (id),
        kind text not null,
        name text not null,
        content_type text not null,
        bytes bigint not null,
        sha256 text not null,
        created_at timestamptz not null
      )`.execute(db)
    await sql`create index artifacts_run on artifacts (run_id, id)`.execute(db)

    await sql`
      create table schedules (
        workspace_id uuid not null references workspaces (id),
        id uuid primary key,
        pipeline_id uuid not null,
        cron text not null,
        timezone text not null,
        missed text not null check (missed in ('skip', 'latest', 'all')),
        window_s integer not null,
        enabled boolean not null,
        version integer,
        agents uuid[] not null,
        created_by text not null,
        created_at timestamptz not null,
        -- when it was made, enabled or given another time: nothing before it is ever due
        since timestamptz not null,
        -- every occurrence up to here has its row
        settled_until timestamptz not null
      )`.execute(db)
    await sql`create index schedules_workspace on schedules (workspace_id, id)`.execute(db)
    await sql`create sequence fencing_tokens`.execute(db)
    await sql`
      create table occurrences (
        schedule_id uuid not null references schedules (id),
        due_at timestamptz not null,
        state text not null check (state in ('claimed', 'started', 'completed', 'skipped')),
        agent_id uuid,
        fencing_token bigint,
        lease_until timestamptz,
        run_id uuid,
        reason text,
        updated_at timestamptz not null,
        primary key (schedule_id, due_at)
      )`.execute(db)
  },
}
