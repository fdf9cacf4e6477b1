import { z } from 'zod'
import { base64, logLine, runView, syncState } from './state.ts'
import { id } from './wire.ts'

/** What the host tells the UI without being asked. Each event is whole: losing one and reading again gives the same picture. */
export const TOPICS = {
  'sync.state': syncState,
  /** Changes that this view does not have yet: from the server, from another view, or from a restore or import. */
  'document.changes': z.strictObject({ document_id: id, changes: z.array(base64), origin: z.string() }),
  /** The document was taken back to what the server has (a refused edit went into a local draft): open it again. */
  'document.reset': z.strictObject({ document_id: id, draft_id: id.nullable() }),
  'document.presence': z.strictObject({
    document_id: id.nullable(),
    device_id: id,
    name: z.string(),
    at: z.string().nullable(),
    left: z.boolean(),
  }),
  /** The list of workspaces, or what this person may do in one, changed: read it again, and open again what is open. */
  'workspaces.changed': z.strictObject({}),
  /** The list of pipelines, versions or local drafts changed: read it again. */
  'pipelines.changed': z.strictObject({ pipeline_id: id.nullable() }),
  'run.changed': runView,
  'run.log': z.strictObject({ run_id: id, lines: z.array(logLine) }),
} as const

export type Topics = typeof TOPICS
export type TopicName = keyof Topics
export type TopicEvent<T extends TopicName> = z.output<Topics[T]>
/** What crosses SSE and IPC. */
export type Event = { [T in TopicName]: { readonly topic: T; readonly event: TopicEvent<T> } }[TopicName]
