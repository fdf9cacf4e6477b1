import { AppError } from '@pluto-duck/crdt-model/errors'
import { changeRoutes, type LiveEvent, liveEvent } from '@pluto-duck/crdt-model/protocol'
import { createParser } from 'eventsource-parser'
import type { WireClient } from './wire-client.ts'

export interface LiveEventsOptions {
  readonly workspaceId: string
  /** The seq up to which everything is here: the server tells what came after it. */
  readonly cursor: number
  readonly signal: AbortSignal
  readonly onOpen: () => void
  readonly onEvent: (event: LiveEvent) => void
}

/** Silence after which the stream counts as dead; the server says something at least every 20 s. */
const IDLE_MS = 60_000

/** Reads live events until the stream ends, which it says by throwing `server.unreachable` or the server's own refusal. */
export async function readLiveEvents(client: WireClient, options: LiveEventsOptions): Promise<never> {
  const parser = createParser({
    onEvent({ data }) {
      const parsed = liveEvent.safeParse(json(data))
      // A kind of event that a newer server knows and this program does not.
      if (parsed.success) options.onEvent(parsed.data)
    },
  })
  const decoder = new TextDecoder()
  const bytes = client.stream(
    changeRoutes.events,
    { params: { workspace_id: options.workspaceId } },
    {
      signal: options.signal,
      idleMs: IDLE_MS,
      onOpen: options.onOpen,
      headers: { accept: 'text/event-stream', 'last-event-id': String(options.cursor) },
    },
  )
  for await (const chunk of bytes) parser.feed(decoder.decode(chunk, { stream: true }))
  throw new AppError('server.unreachable', 'The stream of live events ended.')
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Not ours; the log is read anyway.
    return undefined
  }
}
