import type { LocalMigration } from './index.ts'

/** What lists say of each pipeline, so that listing loads no document. Derived: it may be emptied at any time. */
export const overviews: LocalMigration = {
  id: '0002_overviews',
  statements: [
    'create table overviews (key varchar primary key, parent varchar not null, created_at varchar not null, body varchar not null)',
  ],
}
