import type { DocumentKind, Subject } from '@pluto-duck/crdt-model/protocol'
import { type QueryExecutorProvider, sql } from 'kysely'
import { hot, runHot } from '../database/hot.ts'
import { arrayOf, joined, numbersOf } from '../database/parameters.ts'
import type { StoredRecord } from './push.ts'

/** The SQL of the change log. Whoever calls it decides on transactions. */
export type Executor = QueryExecutorProvider

/** What is needed of Kysely, so that it does not matter which other tables it knows. */
export interface LogDatabase extends Executor {
  transaction(): { execute<T>(work: (tx: Executor) => Promise<T>): Promise<T> }
}

export interface DocumentRow {
  readonly id: string
  readonly kind: DocumentKind
  readonly subject: Subject | null
  readonly base: string | null
  readonly heads: readonly string[]
  readonly title: string
  /** The number of its last change. */
  readonly seq: number
  /** Why it takes no more changes; null while it does. */
  readonly corrupt: string | null
}

interface RawDocument {
  id: string
  kind: DocumentKind
  subject_kind: string | null
  subject_id: string | null
  base: string | null
  heads: string[]
  title: string
  seq: string | number
  corrupt: string | null
}

export const subjectOf = (row: { subject_kind: string | null; subject_id: string | null }): Subject | null =>
  row.subject_kind === null || row.subject_id === null
    ? null
    : { kind: row.subject_kind as Subject['kind'], id: row.subject_id }

const documentOf = (row: RawDocument): DocumentRow => ({
  id: row.id,
  kind: row.kind,
  subject: subjectOf(row),
  base: row.base,
  heads: row.heads,
  title: row.title,
  seq: Number(row.seq),
  corrupt: row.corrupt,
})

/** The number of the workspace's last change; 0 before its first. */
export async function readSeq(db: Executor, workspaceId: string): Promise<number> {
  const { rows } = await sql<{ seq: string }>`
    select seq from workspace_counters where workspace_id = ${workspaceId}`.execute(db)
  return Number(rows[0]?.seq ?? 0)
}

/** Where a workspace's log ends, and how much is in it. */
export interface Counter {
  readonly seq: number
  /** Of all changes. */
  readonly bytes: number
  /** Drafts and comments included. */
  readonly documents: number
  /** The workspace was purged: nothing is appended any more. */
  readonly closed: boolean
}

/** Makes the workspace's counter if it is not there yet, and reads it. */
export async function openCounter(db: Executor, workspaceId: string): Promise<Counter> {
  await sql`
    insert into workspace_counters (workspace_id, seq) values (${workspaceId}, 0) on conflict do nothing`.execute(
    db,
  )
  return await readCounter(db, workspaceId)
}

/** The counter, which is open. `lock`: nobody else appends to the workspace until the transaction ends. */
export async function readCounter(db: Executor, workspaceId: string, lock = false): Promise<Counter> {
  const { rows } = await sql<{ seq: string; bytes: string; documents: number; closed: boolean }>`
    select seq, bytes, documents, closed from workspace_counters where workspace_id = ${workspaceId}
    ${lock ? sql`for update` : sql``}`.execute(db)
  const row = rows[0]!
  const { documents, closed } = row
  return { seq: Number(row.seq), bytes: Number(row.bytes), documents: Number(documents), closed }
}

/**
 * Locks the counter and closes it: from then on nothing is appended, by whoever waits for it now either. False when there is no such
 * workspace.
 */
export async function closeCounter(tx: Executor, workspaceId: string): Promise<boolean> {
  const { rows } = await sql`
    insert into workspace_counters (workspace_id, seq, closed)
    select id, 0, true from workspaces where id = ${workspaceId}
    on conflict (workspace_id) do update set closed = true returning seq`.execute(tx)
  return rows.length > 0
}

/** The number, when nobody else appends to the workspace until the transaction ends. The counter is open. */
export const lockSeq = async (tx: Executor, workspaceId: string): Promise<number> =>
  (await readCounter(tx, workspaceId, true)).seq

export async function readDocuments(
  db: Executor,
  workspaceId: string,
  ids: readonly string[],
): Promise<DocumentRow[]> {
  const { rows } = await sql<RawDocument>`
    select id, kind, subject_kind, subject_id, base, heads, title, seq, corrupt from documents
    where workspace_id = ${workspaceId} and id = any(${ids}::uuid[])`.execute(db)
  return rows.map(documentOf)
}

/** Which of these ids are documents of another workspace. */
export async function readForeignIds(
  db: Executor,
  workspaceId: string,
  ids: readonly string[],
): Promise<Set<string>> {
  const { rows } = await sql<{ id: string }>`
    select id from documents where id = any(${ids}::uuid[]) and workspace_id <> ${workspaceId}`.execute(db)
  return new Set(rows.map(row => row.id))
}

/** Which of these drafts were merged or closed. */
export async function readSettled(db: Executor, draftIds: readonly string[]): Promise<Set<string>> {
  const { rows } = await sql<{ id: string }>`
    select id from drafts where id = any(${draftIds}::uuid[]) and state in ('merged', 'closed')`.execute(db)
  return new Set(rows.map(row => row.id))
}

export interface StoredChange {
  readonly seq: number
  readonly documentId: string
  readonly hash: string
  readonly authorId: string
  readonly bytes: Uint8Array
  /** `voided`: a change that a void record took out; `void`: such a record. */
  readonly state: 'counts' | 'voided' | 'void'
}

/** Records of these documents with `after` < seq <= `upTo`, in order: changes, those that are voided too, and void records. */
export async function readDocumentChanges(
  db: Executor,
  workspaceId: string,
  ids: readonly string[],
  after: number,
  upTo: number,
): Promise<StoredChange[]> {
  const { rows } = await sql<{
    seq: string
    document_id: string
    hash: string
    author_id: string
    bytes: Uint8Array
    record: string
    voided: boolean
  }>`
    select seq, document_id, encode(hash, 'hex') as hash, author_id, bytes, record, void_seq is not null as voided
    from log_records
    where workspace_id = ${workspaceId} and document_id = any(${ids}::uuid[])
      and seq > ${after} and seq <= ${upTo}
    order by seq`.execute(db)
  return rows.map(row => ({
    seq: Number(row.seq),
    documentId: row.document_id,
    hash: row.hash,
    authorId: row.author_id,
    bytes: row.bytes,
    state: row.record === 'void' ? 'void' : row.voided ? 'voided' : 'counts',
  }))
}

/** What the log says of changes that are in it, by `documentId:hash`. */
export async function readKnown(
  db: Executor,
  workspaceId: string,
  known: readonly { documentId: string; hash: string }[],
): Promise<Map<string, StoredRecord>> {
  if (known.length === 0) return new Map()
  const { rows } = await sql<{
    seq: string
    document_id: string
    hash: string
    author_id: string
    received_at: Date
    live: boolean
  }>`
    select seq, document_id, encode(hash, 'hex') as hash, author_id, received_at, live from changes
    where workspace_id = ${workspaceId}
      and document_id = any(${[...new Set(known.map(one => one.documentId))]}::uuid[])
      and hash = any(${known.map(one => Buffer.from(one.hash, 'hex'))}::bytea[])`.execute(db)
  return new Map(
    rows.map(row => [
      `${row.document_id}:${row.hash}`,
      { seq: Number(row.seq), authorId: row.author_id, receivedAt: row.received_at, live: row.live },
    ]),
  )
}

/** The device to which each of these actors is bound. */
export async function readActors(
  db: Executor,
  workspaceId: string,
  actors: readonly string[],
): Promise<Map<string, string>> {
  const { rows } = await sql<{ actor: string; device_id: string }>`
    select actor, device_id from actors
    where workspace_id = ${workspaceId} and actor = any(${actors}::text[])`.execute(db)
  return new Map(rows.map(row => [row.actor, row.device_id]))
}

/** Whether an actor wrote into drafts of a pipeline: `other` when it said something else there under this number. */
export async function readUsesInDrafts(
  db: Executor,
  workspaceId: string,
  of: {
    readonly family: string
    /** A draft that does not count. */
    readonly except: string
    readonly actor: string
    readonly actorSeq: number
    readonly hash: string
  },
): Promise<'none' | 'same' | 'other'> {
  const { rows } = await sql<{ other: boolean | null }>`
    select bool_or(c.actor_seq = ${of.actorSeq} and c.hash <> decode(${of.hash}, 'hex')) as other
    from documents d join changes c on c.workspace_id = d.workspace_id and c.document_id = d.id
    where d.workspace_id = ${workspaceId} and d.base = ${of.family} and d.id <> ${of.except}
      and c.actor = ${of.actor}`.execute(db)
  const other = rows[0]?.other ?? null
  if (other === null) return 'none'
  return other ? 'other' : 'same'
}

/**
 * What the log has above `after` in these pipelines and their drafts: changes of these actors, and void records (`actor` is null). Reads
 * every record above `after`.
 */
export async function readFamilyNews(
  db: Executor,
  workspaceId: string,
  of: {
    readonly after: number
    readonly families: readonly string[]
    readonly actors: readonly string[]
  },
): Promise<{ seq: number; family: string; actor: string | null }[]> {
  const { rows } = await sql<{ seq: string; family: string; actor: string | null }>`
    select r.seq, coalesce(d.base, d.id) as family, case when r.record = 'change' then r.actor end as actor
    from log_records r join documents d on d.workspace_id = r.workspace_id and d.id = r.document_id
    where r.workspace_id = ${workspaceId} and r.seq > ${of.after}
      and (r.actor = any(${[...new Set(of.actors)]}::text[]) or r.record = 'void')
      and coalesce(d.base, d.id) = any(${[...new Set(of.families)]}::uuid[])`.execute(db)
  return rows.map(row => ({ ...row, seq: Number(row.seq) }))
}

/**
 * The document's snapshot and the changes behind it up to `upTo`: what `Automerge.load` accepts. A snapshot that reaches
 * further than `upTo` is left out, and the changes are read from the start.
 */
export async function readDocumentBytes(
  db: Executor,
  workspaceId: string,
  documentId: string,
  upTo: number,
): Promise<Uint8Array> {
  const { rows } = await sql<{ snapshot: Uint8Array | null; tail: Uint8Array | null }>`
    select case when d.snapshot_seq <= ${upTo} then d.snapshot end as snapshot, (
      select string_agg(c.bytes, ''::bytea order by c.seq) from changes c
      where c.workspace_id = d.workspace_id and c.document_id = d.id and c.seq <= ${upTo}
        and c.seq > case when d.snapshot_seq <= ${upTo} then d.snapshot_seq else 0 end
    ) as tail
    from documents d where d.workspace_id = ${workspaceId} and d.id = ${documentId}`.execute(db)
  const [row] = rows
  return Buffer.concat([row?.snapshot ?? Buffer.alloc(0), row?.tail ?? Buffer.alloc(0)])
}

export interface NewChange {
  readonly documentId: string
  readonly hash: string
  readonly actor: string
  readonly actorSeq: number
  readonly authorId: string
  readonly deviceId: string
  readonly live: boolean
  readonly bytes: Uint8Array
}

export interface DocumentState {
  readonly id: string
  readonly kind: DocumentKind
  readonly subject: Subject | null
  readonly base: string | null
  readonly title: string
  readonly heads: readonly string[]
  readonly createdSeq: number
  readonly seq: number
  /** The log did not have it before. */
  readonly isNew: boolean
}

export interface Append {
  readonly workspaceId: string
  /** The number before the first of `changes`, as locked. */
  readonly after: number
  readonly receivedAt: Date
  readonly changes: readonly NewChange[]
  readonly documents: readonly DocumentState[]
  readonly actors: ReadonlyMap<string, string>
}

/**
 * Appends and numbers the changes if the log still ends at `after` and is open; else writes nothing and answers false. One statement,
 * so one round trip and, outside a transaction, one commit. Fails when a document's id is taken elsewhere.
 */
export async function insertChanges(db: Executor, append: Append): Promise<boolean> {
  const { workspaceId, after, changes, documents, actors } = append
  const contents = joined(changes.map(one => one.bytes))
  const { rows } = await runHot<{ seq: string }>(db, INSERT, [
    workspaceId,
    after,
    after + changes.length,
    changes.reduce((sum, one) => sum + one.bytes.length, 0),
    documents.filter(one => one.isNew).length,
    [...actors.keys()],
    [...actors.values()],
    documents.map(one => one.id),
    documents.map(one => one.kind),
    documents.map(one => one.subject?.kind ?? null),
    documents.map(one => one.subject?.id ?? null),
    documents.map(one => one.base),
    documents.map(one => one.title),
    documents.map(one => one.heads.join(',')),
    documents.map(one => one.createdSeq),
    documents.map(one => one.seq),
    append.receivedAt,
    arrayOf(changes.map(one => one.documentId)),
    Buffer.from(changes.map(one => one.hash).join(''), 'hex'),
    arrayOf(changes.map(one => one.actor)),
    numbersOf(changes.map(one => one.actorSeq)),
    arrayOf(changes.map(one => one.authorId)),
    arrayOf(changes.map(one => one.deviceId)),
    numbersOf(changes.map(one => one.live)),
    contents.bytes,
    contents.begins,
    contents.lengths,
  ])
  return rows.length === 1
}

const INSERT = hot(`
  with counted as (
    update workspace_counters set seq = $3::bigint, bytes = bytes + $4::bigint, documents = documents + $5::integer
    where workspace_id = $1::uuid and seq = $2::bigint and not closed
    returning seq
  ), bound as (
    insert into actors (workspace_id, actor, device_id)
    select $1::uuid, actor, device_id
    from counted, unnest($6::text[], $7::uuid[]) as given (actor, device_id)
    on conflict do nothing
  ), described as (
    insert into documents
      (workspace_id, id, kind, subject_kind, subject_id, base, title, heads, created_seq, seq)
    select $1::uuid, id, kind, subject_kind, subject_id, base, title, string_to_array(heads, ','), created_seq, given.seq
    from counted, unnest($8::uuid[], $9::text[], $10::text[], $11::uuid[], $12::uuid[], $13::text[], $14::text[], $15::bigint[], $16::bigint[])
      as given (id, kind, subject_kind, subject_id, base, title, heads, created_seq, seq)
    on conflict (workspace_id, id)
      do update set heads = excluded.heads, seq = excluded.seq, title = excluded.title
  ), appended as (
    insert into changes
      (workspace_id, seq, document_id, hash, actor, actor_seq, author_id, device_id, received_at, live, bytes)
    select $1::uuid, $2::bigint + place, document_id, substring($19::bytea from (place::integer - 1) * 32 + 1 for 32), actor,
      actor_seq, author_id, device_id, $17::timestamptz, live, substring($25::bytea from begins for length)
    from counted, unnest($18::uuid[], $20::text[], $21::integer[], $22::text[], $23::uuid[], $24::boolean[], $26::integer[], $27::integer[])
      with ordinality as given (document_id, actor, actor_seq, author_id, device_id, live, begins, length, place)
  )
  select seq from counted`)
