import type { Time } from '../database/tables.ts'

interface Drafts {
  workspace_id: string
  id: string
  pipeline_id: string
  state: 'open' | 'review' | 'merged' | 'closed'
  message: string
  requested_by: string | null
  requested_at: Time | null
  settled_by: string | null
  settled_at: Time | null
  version: number | null
  /** What the merge was asked with. */
  version_id: string | null
}
interface DraftReviews {
  workspace_id: string
  draft_id: string
  id: string
  place: number
  reviewer: string
  verdict: 'approved' | 'changes_requested'
  message: string
  heads: string[]
  at: Time
}

export interface DraftTables {
  drafts: Drafts
  draft_reviews: DraftReviews
}
