import type { Time } from '../database/tables.ts'

interface Schedules {
  workspace_id: string
  id: string
  pipeline_id: string
  cron: string
  timezone: string
  missed: 'skip' | 'latest' | 'all'
  window_s: number
  enabled: boolean
  version: number | null
  agents: string[]
  created_by: string
  created_at: Time
  since: Time
  settled_until: Time
}
interface Occurrences {
  schedule_id: string
  due_at: Time
  state: 'claimed' | 'started' | 'completed' | 'skipped'
  agent_id: string | null
  fencing_token: number | null
  lease_until: Time | null
  run_id: string | null
  reason: string | null
  updated_at: Time
}
export interface ScheduleTables {
  schedules: Schedules
  occurrences: Occurrences
}
