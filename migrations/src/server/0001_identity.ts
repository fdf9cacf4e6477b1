import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

/**
 * People, sessions, workspaces and devices.
 *
 * `users`, `sessions`, `accounts`, `verifications`, `device_codes` and `rate_limits` are better-auth's (1.7), with its field
 * names in snake case; ids there are text. Tokens of invitations are kept as their SHA-256 only.
 */
export const identity: Migration = {
  async up(db: Kysely<unknown>): Promise<void> {
    await sql`
      create table users (
        id text primary key,
        name text not null,
        email text not null unique,
        email_verified boolean not null default false,
        image text,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now()
      )`.execute(db)
    await sql`
      create table sessions (
        id text primary key,
        user_id text not null references users (id) on delete cascade,
        token text not null unique,
        expires_at timestamptz not null,
        ip_address text,
        user_agent text,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now()
      )`.execute(db)
    await sql`create index sessions_user on sessions (user_id)`.execute(db)
    await sql`
      create table accounts (
        id text primary key,
        account_id text not null,
        provider_id text not null,
        user_id text not null references users (id) on delete cascade,
        access_token text,
        refresh_token text,
        id_token text,
        access_token_expires_at timestamptz,
        refresh_token_expires_at timestamptz,
        scope text,
        password text,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now()
      )`.execute(db)
    await sql`create index accounts_user on accounts (user_id)`.execute(db)
    await sql`
      create table verifications (
        id text primary key,
        identifier text not null,
        value text not null,
        expires_at timestamptz not null,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now()
      )`.execute(db)
    await sql`create index verifications_identifier on verifications (identifier)`.execute(db)
    await sql`
      create table device_codes (
        id text primary key,
        device_code text not null unique,
        user_code text not null unique,
        user_id text references users (id) on delete cascade,
        expires_at timestamptz not null,
        status text not null,
        last_polled_at timestamptz,
        polling_interval integer,
        client_id text,
        scope text
      )`.execute(db)
    await sql`
      create table rate_limits (
        id text primary key,
        key text not null unique,
        count integer not null,
        last_request bigint not null
      )`.execute(db)

    await sql`
      create table workspaces (
        id uuid primary key,
        name text not null,
        created_at timestamptz not null default now(),
        created_by text not null references users (id)
      )`.execute(db)
    await sql`
      create table members (
        workspace_id uuid not null references workspaces (id),
        user_id text not null references users (id) on delete cascade,
        role text not null check (role in ('owner', 'editor', 'viewer')),
        joined_at timestamptz not null default now(),
        primary key (workspace_id, user_id)
      )`.execute(db)
    await sql`create index members_user on members (user_id)`.execute(db)
    // Without a workspace it is the first owner's link: it lets somebody sign up, who then makes a workspace.
    await sql`
      create table invitations (
        id uuid primary key,
        workspace_id uuid references workspaces (id),
        email text,
        role text not null check (role in ('owner', 'editor', 'viewer')),
        token_hash bytea not null unique,
        created_by text references users (id) on delete set null,
        created_at timestamptz not null default now(),
        expires_at timestamptz not null,
        accepted_at timestamptz,
        accepted_by text references users (id) on delete set null,
        revoked_at timestamptz,
        check ((workspace_id is null) = (email is null))
      )`.execute(db)
    await sql`create index invitations_workspace on invitations (workspace_id)`.execute(db)
    await sql`
      create table devices (
        id uuid primary key,
        user_id text not null references users (id) on delete cascade,
        name text not null default '',
        created_at timestamptz not null default now(),
        last_seen_at timestamptz not null default now()
      )`.execute(db)
    await sql`create index devices_user on devices (user_id)`.execute(db)
  },
}
