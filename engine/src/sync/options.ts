import type { ErrorBody } from '@pluto-duck/crdt-model/errors'
import type { LiveEvent } from '@pluto-duck/crdt-model/protocol'
import type { Clock } from '../clock.ts'
import type { Documents } from '../documents/index.ts'
import type { State } from '../state/index.ts'
import type { WireClient } from './wire-client.ts'

export interface SyncOptions {
  readonly workspaceId: string
  readonly deviceId: string
  readonly client: WireClient
  readonly state: State
  readonly documents: Documents
  readonly clock: Clock
  /** Is there a token? Asked before each action. */
  readonly signedIn: () => Promise<boolean>
  readonly log: (level: 'info' | 'warn' | 'error', message: string, facts: Record<string, unknown>) => void
}

/** The part of the contract's sync state that sync itself knows. */
export interface SyncStatus {
  readonly state: 'in_sync' | 'syncing' | 'offline' | 'signed_out'
  readonly waiting: number
  readonly paused: boolean
  readonly seq: number
  readonly last_synced_at: string | null
  readonly devices_online: number
  readonly error: ErrorBody | null
  /** Documents that differ from the server's after healing. */
  readonly diverged: readonly string[]
}

export type SyncNews =
  | { readonly kind: 'status'; readonly status: SyncStatus }
  /** Connected, nothing to pull and nothing to push: what is here is there. */
  | { readonly kind: 'caught_up' }
  /** What the server tells beside changes: versions, runs, schedules, members, presence. */
  | { readonly kind: 'live'; readonly event: LiveEvent }
  | { readonly kind: 'refused'; readonly documentId: string; readonly draftId: string }
