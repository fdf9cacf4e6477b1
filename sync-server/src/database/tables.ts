import type { ColumnType, Generated } from 'kysely'
import type { ArtifactTables } from '../artifacts/tables.ts'
import type { DraftTables } from '../drafts/tables.ts'
import type { RunTables } from '../runs/tables.ts'
import type { ScheduleTables } from '../schedules/tables.ts'
import type { VersionTables } from '../versions/tables.ts'

/** `timestamptz`: read as a Date, written as a Date or ISO text. */
export type Time = ColumnType<Date, Date | string, Date | string>
/** A column that the database fills in when it is not given. */
export type TimeByDefault = ColumnType<Date, Date | string | undefined, Date | string>
/** `jsonb`: read as a value, written as JSON text. */
export type Json<T> = ColumnType<T, string, string>

interface Users {
  id: string
  name: string
  email: string
  email_verified: boolean
  image: string | null
  created_at: TimeByDefault
  updated_at: TimeByDefault
}
interface Sessions {
  id: string
  user_id: string
  token: string
  expires_at: Time
  ip_address: string | null
  user_agent: string | null
  created_at: TimeByDefault
  updated_at: TimeByDefault
}
interface Workspaces {
  id: string
  name: string
  created_at: TimeByDefault
  created_by: string
}
type RoleColumn = 'owner' | 'editor' | 'viewer'
interface Members {
  workspace_id: string
  user_id: string
  role: RoleColumn
  joined_at: TimeByDefault
}
interface Invitations {
  id: string
  workspace_id: string | null
  email: string | null
  role: RoleColumn
  token_hash: Buffer
  created_by: string | null
  created_at: TimeByDefault
  expires_at: Time
  accepted_at: Time | null
  accepted_by: string | null
  revoked_at: Time | null
}
interface Devices {
  id: string
  user_id: string
  name: Generated<string>
  created_at: TimeByDefault
  last_seen_at: TimeByDefault
}
interface AuditHeads {
  workspace_id: string
  seq: number
  hash: string
  /** The workspace was purged. */
  closed: Generated<boolean>
}
interface AuditRows {
  workspace_id: string
  seq: number
  at: Time
  actor_user_id: string | null
  device_id: string | null
  origin: string | null
  action: string
  object_kind: string
  object_id: string | null
  details: Json<Record<string, unknown>>
  previous_hash: string
  hash: string
}

/** The change log's tables, as far as other features read them; `changes/` alone writes them. */
interface Documents {
  workspace_id: string
  id: string
  kind: 'pipeline' | 'comments'
  base: string | null
  title: string
  heads: string[]
  created_at: TimeByDefault
  seq: number
  snapshot: Buffer | null
  snapshot_seq: number
}
interface Changes {
  workspace_id: string
  seq: number
  document_id: string
  hash: Buffer
  author_id: string
  received_at: Time
  live: boolean
  bytes: Buffer
}

export interface IdentityTables {
  users: Users
  sessions: Sessions
  workspaces: Workspaces
  members: Members
  invitations: Invitations
  devices: Devices
}
export interface ChangeTables {
  documents: Documents
  changes: Changes
}
export interface AuditTables {
  audit_heads: AuditHeads
  audit: AuditRows
}

/** The server's schema as Kysely sees it; each feature adds its tables. `bigint` is read as a number. */
export interface Database
  extends IdentityTables,
    ChangeTables,
    AuditTables,
    VersionTables,
    DraftTables,
    RunTables,
    ArtifactTables,
    ScheduleTables {}
