import type { LiveEvent } from '@pluto-duck/crdt-model/protocol'
import { encodeSequence } from '@pluto-duck/crdt-model/protocol'
import type { Response } from 'express'
import type { Commit } from './append.ts'
import type { LogWatcher } from './log-watcher.ts'

const HEARTBEAT_MS = 15_000
const RECONNECT_MS = 2_000
/** A reader that lets more than this wait is cut off; it comes back and reads the log. */
const MAX_WAITING = 1024 * 1024
/** Larger commits are announced without their changes. */
const MAX_ITEMS = 50
const MAX_BYTES = 32 * 1024

/** What a commit is to those who listen. */
export function eventOf(commit: Commit): LiveEvent {
  const { changes, after, seq } = commit
  const bytes = changes.reduce((sum, change) => sum + change.bytes.length, 0)
  if (changes.length > MAX_ITEMS || bytes > MAX_BYTES)
    return { type: 'changes', from: after, to: seq, items: null }
  const items = changes.map(({ document, hash, authorId, deviceId, live, bytes: content }, i) => ({
    seq: after + i + 1,
    document_id: document.id,
    kind: document.kind,
    subject: document.subject,
    base: document.base,
    hash,
    author_id: authorId,
    device_id: deviceId,
    received_at: commit.receivedAt.getTime(),
    live,
    bytes: content,
  }))
  return {
    type: 'changes',
    from: after,
    to: seq,
    items: Buffer.from(encodeSequence(items)).toString('base64'),
  }
}

export interface EventStream {
  readonly workspaceId: string
  /** Whose own presence is not sent back. */
  readonly deviceId: string | null
  /** What the reader knows, from `Last-Event-ID`; null for a new one. */
  readonly lastSeen: number | null
  readonly response: Response
  readonly signal: AbortSignal
  readonly watcher: LogWatcher
  readonly subscribe: (listener: (event: LiveEvent) => void) => () => void
}

/** Sends events until the reader goes, its right ends or the server closes. */
export async function streamEvents(stream: EventStream): Promise<void> {
  const { workspaceId, response, signal, watcher } = stream
  response.status(200).set({
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  })
  response.flushHeaders()

  const ended = new AbortController()
  const end = (): void => ended.abort()
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  const write = (text: string): void => {
    if (ended.signal.aborted) return
    response.write(text)
    if (response.writableLength > MAX_WAITING) end()
  }

  let last = -1
  const early: LiveEvent[] = []
  const send = (event: LiveEvent): void => {
    if (last < 0) {
      early.push(event)
      return
    }
    let sent = event
    if (event.type === 'presence' && event.device_id === stream.deviceId) return
    if (event.type === 'changes') {
      if (event.to <= last) return
      // Something in between did not arrive: the reader has to look into the log.
      if (event.from !== last) sent = { type: 'changes', from: last, to: event.to, items: null }
      last = event.to
    }
    write(`id: ${last}\nevent: ${sent.type}\ndata: ${JSON.stringify(sent)}\n\n`)
  }

  const unsubscribe = stream.subscribe(send)
  const heartbeat = setInterval(() => write(': still here\n\n'), HEARTBEAT_MS)
  try {
    const now = await watcher.waitBeyond(workspaceId, -1, { signal: ended.signal, timeoutMs: 10_000 })
    last = Math.min(stream.lastSeen ?? now, now)
    write(`retry: ${RECONNECT_MS}\nid: ${last}\n\n`)
    if (now > last) send({ type: 'changes', from: last, to: now, items: null })
    for (const event of early) send(event)
    while (!ended.signal.aborted) {
      const seen = await watcher.waitBeyond(workspaceId, last, { signal: ended.signal, timeoutMs: 60_000 })
      // The event itself came first, unless its message was lost.
      if (seen > last) send({ type: 'changes', from: last, to: seen, items: null })
    }
  } finally {
    clearInterval(heartbeat)
    unsubscribe()
    signal.removeEventListener('abort', end)
    response.end()
  }
}
