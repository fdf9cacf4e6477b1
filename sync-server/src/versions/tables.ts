import type { ColumnType, Generated } from 'kysely'
import type { Time } from '../database/tables.ts'

interface Pipelines {
  workspace_id: string
  id: string
  /** The number of the current version. */
  current: number | null
  created_at: Time
  updated_at: Time
}
interface Versions {
  workspace_id: string
  pipeline_id: string
  number: number
  id: string
  content_hash: string
  heads: string[]
  parent: number | null
  message: string
  published_by: string
  published_at: Time
  authors: string[]
  resolved: string[]
  restores: number | null
  /** Canonical JSON. */
  definition: string
  files: ColumnType<Record<string, string>, string, never>
  /** Its content is gone: `definition` and `message` are empty. */
  purged: Generated<boolean>
}

export interface VersionTables {
  pipelines: Pipelines
  versions: Versions
}
