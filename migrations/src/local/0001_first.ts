import type { LocalMigration } from './index.ts'

/**
 * The first schema of `state.duckdb`. Tables that grow with every keystroke carry no index: they are read by scans that zone
 * maps keep short, and an index would cost every commit. Their host keeps them free of doubles.
 */
export const first: LocalMigration = {
  id: '0001_first',
  statements: [
    'create table meta (key varchar primary key, value varchar not null)',
    `create table workspaces (
       workspace_id varchar primary key,
       name varchar not null,
       role varchar not null,
       remote boolean not null,
       -- The server's seq up to which everything is stored here; null before the first sync.
       cursor bigint,
       last_synced_at varchar
     )`,
    `create table documents (
       document_id varchar primary key,
       workspace_id varchar not null,
       kind varchar not null,
       subject_kind varchar,
       subject_id varchar,
       base varchar,
       title varchar not null,
       updated_at varchar not null
     )`,
    // A document is its snapshot and its changes. A snapshot holds nothing that the server has not acknowledged.
    `create table snapshots (
       document_id varchar primary key,
       ord bigint not null,
       heads varchar not null,
       bytes blob not null
     )`,
    `create table changes (
       ord bigint not null,
       document_id varchar not null,
       hash varchar not null,
       deps varchar not null,
       bytes blob not null
     )`,
    // What the server has not acknowledged, in the order in which it was written; the bytes are in changes, by ord.
    `create table outbox (
       ord bigint not null,
       workspace_id varchar not null,
       document_id varchar not null,
       hash varchar not null,
       live boolean not null
     )`,
    `create table records (
       document_id varchar not null,
       hash varchar not null,
       seq bigint not null,
       received_at bigint not null,
       live boolean not null,
       author_id varchar not null
     )`,
    `create table local_drafts (
       draft_id varchar primary key,
       workspace_id varchar not null,
       document_id varchar not null,
       kind varchar not null,
       title varchar not null,
       code varchar not null,
       reason varchar not null,
       changes bigint not null,
       created_at varchar not null,
       -- The document with the refused changes, and what the server had then.
       bytes blob not null,
       base_bytes blob
     )`,
    'create table publishes (pipeline_id varchar primary key, workspace_id varchar not null, state varchar not null)',
    `create table reviewed_marks (
       pipeline_id varchar not null,
       mark_id varchar not null,
       reviewed_at varchar not null,
       primary key (pipeline_id, mark_id)
     )`,
    // Records of the host's other features: JSON by key, listed by parent and time.
    ...['runs', 'grants', 'ledger', 'versions', 'uploads'].map(
      table =>
        `create table ${table} (key varchar primary key, parent varchar not null, created_at varchar not null, body varchar not null)`,
    ),
  ],
}
