import type { Artifact } from '@pluto-duck/crdt-model/protocol'
import type { Time } from '../database/tables.ts'

interface Artifacts {
  workspace_id: string
  id: string
  run_id: string
  kind: Artifact['kind']
  name: string
  content_type: string
  bytes: number
  sha256: string
  created_at: Time
}
export interface ArtifactTables {
  artifacts: Artifacts
}
