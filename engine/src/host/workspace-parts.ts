import type { Logger } from 'pino'
import type { Clock } from '../clock.ts'
import type { Documents } from '../documents/index.ts'
import type { Marks, Publisher } from '../publish/index.ts'
import type { Settings, State, Workspaces } from '../state/index.ts'
import type { WireClient } from '../sync/index.ts'
import type { ServerCalls } from '../versions/server-calls.ts'
import type { VersionCache } from '../versions/version-cache.ts'
import type { Account } from './account.ts'
import type { TopicBus } from './bus.ts'
import type { Overviews } from './overviews.ts'

/** What the open workspace is made of. */
export interface WorkspaceParts {
  readonly folder: string
  readonly deviceId: string
  readonly state: State
  readonly settings: Settings
  readonly workspaces: Workspaces
  readonly documents: Documents
  readonly account: Account
  readonly server: ServerCalls
  /** Null while no server is named. */
  readonly client: () => WireClient | null
  readonly versions: VersionCache
  readonly publisher: Publisher
  readonly marks: Marks
  readonly overviews: Overviews
  readonly bus: TopicBus
  readonly clock: Clock
  readonly log: Logger
  /** All documents are sent and taken; `back`: for the first time since the connection was away, was paused, or was made. What else waits may go. */
  readonly onCaughtUp: (back: boolean) => void
  /** The server says that a run, or something about schedules, changed. */
  readonly onRun: (runId: string) => Promise<void>
  readonly onSchedule: () => void
}
