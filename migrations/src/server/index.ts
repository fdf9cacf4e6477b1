import type { Migration } from 'kysely/migration'
import { identity } from './0001_identity.ts'
import { changes } from './0002_changes.ts'
import { audit } from './0003_audit.ts'
import { versions } from './0004_versions.ts'
import { runs } from './0005_runs.ts'
import { drafts } from './0006_drafts.ts'
import { voids } from './0007_voids.ts'
import { snapshotPages } from './0008_snapshot_pages.ts'
import { usage } from './0009_usage.ts'
import { purgeReviews } from './0010_purge_reviews.ts'
import { purgedWorkspaces } from './0011_purged_workspaces.ts'
import { mergeIds } from './0012_merge_ids.ts'

/** The server's schema, by name in their order. Frozen once landed: a change is a new migration at the end. */
export const serverMigrations: Record<string, Migration> = {
  '0001_identity': identity,
  '0002_changes': changes,
  '0003_audit': audit,
  '0004_versions': versions,
  '0005_runs': runs,
  '0006_drafts': drafts,
  '0007_voids': voids,
  '0008_snapshot_pages': snapshotPages,
  '0009_usage': usage,
  '0010_purge_reviews': purgeReviews,
  '0011_purged_workspaces': purgedWorkspaces,
  '0012_merge_ids': mergeIds,
}
