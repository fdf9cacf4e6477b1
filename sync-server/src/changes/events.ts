import { once } from 'node:events'
import type { LiveEvent } from '@pluto-duck/crdt-model/protocol'
import { encodeSequence } from '@pluto-duck/crdt-model/protocol'
import type { Response } from 'express'
import type { Commit } from './append.ts'
import type { LogWatcher } from './log-watcher.ts'

const HEARTBEAT_MS = 15_000
const RECONNECT_MS = 2_000
/** A reader that lets more than this wait is cut off; it comes back and reads the log. */
const MAX_WAITING = 1024 * 1024
/** Events that wait for a stream that is just being opened: what is missing is in the log. */
const MAX_EARLY = 1_000
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

/** The JSON of an event, made once for all its readers. */
const texts = new WeakMap<LiveEvent, string>()
function textOf(event: LiveEvent): string {
  let text = texts.get(event)
  if (text === undefined) {
    text = JSON.stringify(event)
    texts.set(event, text)
  }
  return text
}

/** The whole frame of an event as all readers get it that miss nothing before it. */
const frames = new WeakMap<LiveEvent, Buffer>()
function frameOf(event: LiveEvent, id: number): Buffer {
  const known = frames.get(event)
  if (known) return known
  const frame = Buffer.from(`id: ${id}\nevent: ${event.type}\ndata: ${textOf(event)}\n\n`)
  // Of other events the id is where the reader stands.
  if (event.type === 'changes') frames.set(event, frame)
  return frame
}

/** Sends events until the reader goes, lets too much wait, its right ends or the server closes. */
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
  const write = (frame: string | Buffer): void => {
    if (ended.signal.aborted) return
    response.write(frame)
    if (response.writableLength <= MAX_WAITING) return
    end()
    // Not `end`: what waits would wait on for somebody who does not read.
    response.destroy()
  }

  let last = -1
  const early: LiveEvent[] = []
  const send = (event: LiveEvent): void => {
    if (last < 0) {
      if (early.length < MAX_EARLY) early.push(event)
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
    write(frameOf(sent, last))
  }

  const unsubscribe = stream.subscribe(send)
  let unfollow = (): void => {}
  const heartbeat = setInterval(() => write(': still here\n\n'), HEARTBEAT_MS)
  try {
    const now = await watcher.waitBeyond(workspaceId, -1, { signal: ended.signal, timeoutMs: 10_000 })
    last = Math.min(stream.lastSeen ?? now, now)
    write(`retry: ${RECONNECT_MS}\nid: ${last}\n\n`)
    const missed = (seq: number): void => {
      if (seq > last) send({ type: 'changes', from: last, to: seq, items: null })
    }
    missed(now)
    for (const event of early) send(event)
    unfollow = watcher.follow(workspaceId, missed)
    if (!ended.signal.aborted) await once(ended.signal, 'abort')
  } finally {
    clearInterval(heartbeat)
    unsubscribe()
    unfollow()
    signal.removeEventListener('abort', end)
    response.end()
  }
}
