import type { DocumentKind, Role, Subject } from '@pluto-duck/crdt-model/protocol'
import type { ChangeLimits, Refusal } from './admission/limits.ts'
import type { Trial } from './admission/trial.ts'
import type { OpenDocument } from './open-documents.ts'
import type { LogDatabase } from './store.ts'
import type { WorkspaceLimits } from './usage.ts'

export interface PushedChange {
  readonly documentId: string
  readonly kind: DocumentKind
  readonly subject: Subject | null
  readonly base: string | null
  readonly bytes: Uint8Array
}

export interface Push {
  readonly workspaceId: string
  readonly userId: string
  readonly role: Role
  readonly deviceId: string
  /** The device was connected and caught up while these changes were written. */
  readonly live: boolean
  readonly changes: readonly PushedChange[]
}

/** What the log says of a stored change. */
export interface StoredRecord {
  readonly seq: number
  readonly authorId: string
  readonly receivedAt: Date
  readonly live: boolean
}

export type Verdict =
  | ({ readonly status: 'stored'; readonly hash: string } & StoredRecord)
  | ({ readonly status: 'refused'; readonly hash: string | null } & Refusal)

export interface Appended {
  /** One for each change of the push, in its order. */
  readonly verdicts: readonly Verdict[]
  /** The workspace's number after the push. */
  readonly seq: number
}

/** What was committed together: `changes` have the numbers `after` + 1 and on. */
export interface Commit {
  readonly workspaceId: string
  readonly after: number
  readonly seq: number
  readonly receivedAt: Date
  readonly changes: readonly CommittedChange[]
}

export interface CommittedChange {
  readonly document: Pick<OpenDocument, 'id' | 'kind' | 'subject' | 'base'>
  readonly hash: string
  readonly authorId: string
  readonly deviceId: string
  readonly live: boolean
  readonly bytes: Uint8Array
}

export interface AppenderOptions {
  readonly db: LogDatabase
  readonly trial: Trial
  readonly now?: () => Date
  readonly limits?: ChangeLimits
  /** What a workspace may have. What is above it is refused as `quota`. */
  readonly workspaceLimits?: WorkspaceLimits
  /**
   * Bytes of pushes to one workspace that may wait for their answer. Another push is `request.rate_limited` then, unless it would be
   * the only one. Default 32 MiB.
   */
  readonly maxWaitingBytes?: number
  /** Called after each commit, before its pushes are answered. */
  readonly onCommit?: (commit: Commit) => void
  /** The log was found to hold a change that could not have been admitted: its document takes no more changes. */
  readonly onCorrupt?: (workspaceId: string, documentId: string, reason: string) => void
  /** Operations that the indexes of one workspace may hold. Default 4 million, about 40 MB. */
  readonly maxIndexedOps?: number
  /** Workspaces whose indexes are kept between pushes. Default 200. */
  readonly maxWorkspaces?: number
}
