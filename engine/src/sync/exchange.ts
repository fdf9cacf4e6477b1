import { AppError } from '@pluto-duck/crdt-model/errors'
import {
  type AppendVerdict,
  appendVerdict,
  changeRoutes,
  decodeBundle,
  type EndItem,
  encodeBundle,
  encodeItem,
  endItem,
  LIMITS,
  type LogItem,
  type LogRun,
  logItem,
  logRun,
  SequenceReader,
  type SnapshotItem,
  type StoredRun,
  type Subject,
  snapshotItem,
  storedRun,
  unpacked,
} from '@pluto-duck/crdt-model/protocol'
import type { z } from 'zod'
import { packItemOf, sha256, unpack } from './packs.ts'
import type { WireClient } from './wire-client.ts'

/** The three exchanges of the change log, as values. A sequence without its end was cut: what came whole counts. */

export interface LogPage {
  readonly items: readonly LogItem[]
  /** Null when the answer was cut. */
  readonly end: EndItem | null
}

/** One page of the log after `cursor`, of `limit` changes at most. Throws only when nothing whole came. */
export async function readLog(
  client: WireClient,
  workspaceId: string,
  cursor: number,
  signal: AbortSignal,
  limit = Number.POSITIVE_INFINITY,
): Promise<LogPage> {
  const items: LogItem[] = []
  let end: EndItem | null = null
  const stream = client.stream(
    changeRoutes.read,
    {
      params: { workspace_id: workspaceId },
      query: { after: cursor, limit: Math.min(PAGE, limit), pack: 'zstd' },
    },
    { signal },
  )
  try {
    for await (const item of sequence(stream)) {
      if ('end' in item) end = parse(endItem, item)
      else if ('bundle' in item) items.push(...itemsOf(parse(logRun, item)))
      else items.push(parse(logItem, item))
    }
  } catch (error) {
    if (items.length === 0) throw error
  }
  return { items, end }
}

function itemsOf({ bundle, ...of }: LogRun): LogItem[] {
  const limits = { changes: LIMITS.logPage, bytes: Number.POSITIVE_INFINITY, sha256 }
  return decodeBundle(bundle, limits).map((change, i) => ({ ...of, ...change, seq: of.seq + i }))
}

/** Changes in one page: what a page touches is loaded together. */
const PAGE = 2_000

/**
 * Every document of the workspace once, in parts that fit memory, the last one with the end; returns that. A cut answer throws `server.unreachable`. A document's
 * first item counts: the server sends what changed before the ready pages in which it is older.
 */
export async function readSnapshot(
  client: WireClient,
  workspaceId: string,
  signal: AbortSignal,
  take: (items: readonly SnapshotItem[], end: EndItem | null) => Promise<void>,
): Promise<EndItem> {
  const seen = new Set<string>()
  let part: SnapshotItem[] = []
  let bytes = 0
  let end: EndItem | null = null
  const stream = client.stream(
    changeRoutes.snapshot,
    { params: { workspace_id: workspaceId }, query: { pack: 'zstd' } },
    { signal },
  )
  for await (const item of sequence(stream)) {
    if ('end' in item) {
      end = parse(endItem, item)
      continue
    }
    const document = parse(snapshotItem, item)
    if (seen.has(document.document_id)) continue
    seen.add(document.document_id)
    part.push(document)
    bytes += document.bytes.length
    if (bytes > PART_BYTES) {
      await take(part, null)
      part = []
      bytes = 0
    }
  }
  if (end === null) throw cut()
  await take(part, end)
  return end
}

/** Bytes of documents that are taken in together, in one transaction. */
const PART_BYTES = 16 * 1024 * 1024

export interface PushItem {
  readonly documentId: string
  readonly kind: 'pipeline' | 'comments'
  readonly subject: Subject | null
  readonly base: string | null
  readonly hash: string
  readonly bytes: Uint8Array
}

/** Pushes changes in order. Verdicts that came are answered even when the answer was cut (`end` is null then). */
export async function push(
  client: WireClient,
  workspaceId: string,
  header: { readonly deviceId: string; readonly live: boolean },
  items: readonly PushItem[],
  signal: AbortSignal,
): Promise<{ verdicts: AppendVerdict[]; end: EndItem | null }> {
  const body = Buffer.concat([
    encodeItem({ v: 1, device_id: header.deviceId, live: header.live }),
    packItemOf(Buffer.concat(runsOf(items).flatMap(encodeRun))),
  ])
  const verdicts: AppendVerdict[] = []
  let end: EndItem | null = null
  const stream = client.stream(
    changeRoutes.append,
    { params: { workspace_id: workspaceId }, query: { pack: 'zstd' }, body: new Uint8Array(body) },
    { signal },
  )
  try {
    for await (const item of sequence(stream)) {
      if ('end' in item) end = parse(endItem, item)
      else if ('count' in item) verdicts.push(...verdictsOf(parse(storedRun, item), items))
      else verdicts.push(parse(appendVerdict, item))
    }
  } catch (error) {
    if (verdicts.length === 0) throw error
  }
  if (verdicts.length === 0 && end === null) throw cut()
  return { verdicts, end }
}

/** Changes of one document that follow each other. */
function runsOf(items: readonly PushItem[]): PushItem[][] {
  const runs: PushItem[][] = []
  for (const item of items) {
    const run = runs.at(-1)
    if (run?.[0]?.documentId === item.documentId) run.push(item)
    else runs.push([item])
  }
  return runs
}

function encodeRun(run: readonly PushItem[]): Uint8Array[] {
  const [first] = run as [PushItem]
  const of = { document_id: first.documentId, kind: first.kind, subject: first.subject, base: first.base }
  const bundle = run.length < 2 ? null : encodeBundle(run)
  if (bundle !== null) return [encodeItem({ ...of, bundle })]
  return run.map(({ bytes }) => encodeItem({ ...of, bytes }))
}

/** One verdict for each change, as if none had come in a run. */
function verdictsOf({ count, ...of }: StoredRun, items: readonly PushItem[]): AppendVerdict[] {
  return items
    .slice(of.index, of.index + count)
    .map(({ hash }, i) => ({ ...of, hash, index: of.index + i, seq: of.seq + i }))
}

/** The items of a live event; throws when they are none of ours. */
export const logItems = (base64: string): LogItem[] => {
  const reader = new SequenceReader()
  return reader.push(new Uint8Array(Buffer.from(base64, 'base64'))).map(item => parse(logItem, item))
}

async function* sequence(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Record<string, unknown>> {
  const reader = new SequenceReader()
  for await (const chunk of stream) yield* unpacked(reader.push(chunk), unpack)
}

function parse<S extends z.ZodType>(schema: S, item: unknown): z.output<S> {
  const parsed = schema.safeParse(item)
  if (parsed.success) return parsed.data
  throw new AppError('server.unreachable', 'The answer of the server is none of ours.', {
    cause: parsed.error,
  })
}

const cut = () => new AppError('server.unreachable', 'The answer of the server was cut.')
