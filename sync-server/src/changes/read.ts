import type { DocumentKind, LogItem, SnapshotItem } from '@pluto-duck/crdt-model/protocol'
import { sql } from 'kysely'
import { type Executor, readSeq, subjectOf } from './store.ts'

/** Bytes of changes in one page, so that a page of large changes stays small. The first change is always in it. */
const PAGE_BYTES = 8 * 1024 * 1024
/** Documents that one query of a snapshot reads. */
const SNAPSHOT_PAGE = 100
export const FIRST_ID = '00000000-0000-0000-0000-000000000000'
export const LAST_ID = 'ffffffff-ffff-ffff-ffff-ffffffffffff'

export interface LogPage {
  readonly items: readonly LogItem[]
  /** The number that the page reaches: the log's own when there is no more. */
  readonly seq: number
  readonly more: boolean
}

interface RawLogItem {
  seq: string
  record: 'change' | 'void'
  document_id: string
  kind: DocumentKind
  subject_kind: string | null
  subject_id: string | null
  base: string | null
  hash: string
  author_id: string
  device_id: string
  received_at: Date
  live: boolean
  bytes: Uint8Array<ArrayBuffer>
}

/** The changes that count and the void records with seq > `after`, in order, at most `limit`. */
export async function readLog(
  db: Executor,
  workspaceId: string,
  { after, limit }: { after: number; limit: number },
): Promise<LogPage> {
  const end = await readSeq(db, workspaceId)
  if (end <= after) return { items: [], seq: end, more: false }
  const { rows } = await sql<RawLogItem>`
    select c.seq, c.record, c.document_id, d.kind, d.subject_kind, d.subject_id, d.base, encode(c.hash, 'hex') as hash,
      c.author_id, c.device_id, c.received_at, c.live, c.bytes
    from (
      select *, sum(octet_length(bytes)) over (order by seq) - octet_length(bytes) as before from (
        select * from log_records
        where workspace_id = ${workspaceId} and seq > ${after} and seq <= ${end} and void_seq is null
        order by seq limit ${limit}
      ) as page
    ) as c
    join documents d on d.workspace_id = ${workspaceId} and d.id = c.document_id
    where c.before < ${PAGE_BYTES}
    order by c.seq`.execute(db)
  const items = rows.map(
    (row): LogItem => ({
      seq: Number(row.seq),
      ...(row.record === 'void' ? { record: row.record } : {}),
      document_id: row.document_id,
      kind: row.kind,
      subject: subjectOf(row),
      base: row.base,
      hash: row.hash,
      author_id: row.author_id,
      device_id: row.device_id,
      received_at: row.received_at.getTime(),
      live: row.live,
      bytes: row.bytes,
    }),
  )
  const last = items.at(-1)?.seq ?? end
  return { items, seq: last, more: last < end }
}

interface RawSnapshotItem {
  id: string
  kind: DocumentKind
  subject_kind: string | null
  subject_id: string | null
  base: string | null
  title: string
  heads: string[]
  seq: string
  snapshot: Uint8Array | null
  tail: Uint8Array | null
  tail_changes: string
}

export interface SnapshotDocument {
  readonly item: SnapshotItem
  /** Changes behind the compacted bytes: when there are many it is time to compact again. */
  readonly tailChanges: number
}

export interface SnapshotRange {
  /** Only documents behind this id … */
  readonly after?: string
  /** … and up to this one. */
  readonly upTo?: string
  /** Only those that changed since their page of these was made. In order of `lastId`, the last one being `LAST_ID`; none: all. */
  readonly outside?: readonly { readonly lastId: string; readonly seq: number }[]
}

/**
 * The documents of a workspace in order of id: snapshot and the changes behind it. Loads none. A document that changes
 * while this runs may reach further than the log did when it began.
 */
export async function* readSnapshot(
  db: Executor,
  workspaceId: string,
  { after = FIRST_ID, upTo = LAST_ID, outside = [] }: SnapshotRange = {},
): AsyncGenerator<SnapshotDocument> {
  // The first condition is looked up in an index and leaves few for the second one.
  const changed =
    outside.length > 0
      ? sql`and d.seq > ${Math.min(...outside.map(page => page.seq))} and d.seq > (
          select p.seq from unnest(${outside.map(page => page.lastId)}::uuid[], ${outside.map(page => page.seq)}::bigint[])
            as p (last_id, seq)
          where p.last_id >= d.id order by p.last_id limit 1
        )`
      : sql``
  for (let from = after; ; ) {
    const { rows } = await sql<RawSnapshotItem>`
      select d.id, d.kind, d.subject_kind, d.subject_id, d.base, d.title, d.heads, d.seq, d.snapshot,
        t.bytes as tail, t.changes as tail_changes
      from documents d cross join lateral (
        select string_agg(c.bytes, ''::bytea order by c.seq) as bytes, count(*) as changes from changes c
        where c.workspace_id = d.workspace_id and c.document_id = d.id and c.seq > d.snapshot_seq
      ) t
      where d.workspace_id = ${workspaceId} and d.id > ${from} and d.id <= ${upTo} ${changed}
        and cardinality(d.heads) > 0
      order by d.id limit ${SNAPSHOT_PAGE}`.execute(db)
    for (const row of rows) {
      yield {
        tailChanges: Number(row.tail_changes),
        item: {
          document_id: row.id,
          kind: row.kind,
          subject: subjectOf(row),
          base: row.base,
          title: row.title,
          heads: row.heads,
          seq: Number(row.seq),
          bytes: Buffer.concat([row.snapshot ?? Buffer.alloc(0), row.tail ?? Buffer.alloc(0)]),
        },
      }
    }
    const last = rows.at(-1)
    if (!last || rows.length < SNAPSHOT_PAGE) return
    from = last.id
  }
}

export interface ChangeRecordRow {
  readonly hash: string
  readonly seq: number
  readonly received_at: string
  readonly live: boolean
  readonly author_id: string
}

/** Who wrote the changes of a document above `after`; null when the workspace has no such document. */
export async function readRecords(
  db: Executor,
  workspaceId: string,
  documentId: string,
  after: number,
): Promise<{ kind: DocumentKind; records: ChangeRecordRow[] } | null> {
  const found = await sql<{ kind: DocumentKind }>`
    select kind from documents where workspace_id = ${workspaceId} and id = ${documentId}`.execute(db)
  const [document] = found.rows
  if (!document) return null
  const { rows } = await sql<{
    hash: string
    seq: string
    received_at: Date
    live: boolean
    author_id: string
  }>`
    select encode(hash, 'hex') as hash, seq, received_at, live, author_id from changes
    where workspace_id = ${workspaceId} and document_id = ${documentId} and seq > ${after}
    order by seq`.execute(db)
  return {
    kind: document.kind,
    records: rows.map(row => ({ ...row, seq: Number(row.seq), received_at: row.received_at.toISOString() })),
  }
}
