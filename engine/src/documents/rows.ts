import { newId, type Subject, type VoidRecord, voidRecord } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'
import type { State, Statements } from '../state/index.ts'
import type { StoredChange } from './admit.ts'

/** What a list shows of a document without loading it. */
export interface DocumentInfo {
  readonly documentId: string
  readonly workspaceId: string
  readonly kind: 'pipeline' | 'comments'
  readonly subject: Subject | null
  readonly base: string | null
  readonly title: string
  /** UTC, ISO 8601: when something was last stored here. */
  readonly updatedAt: string
  readonly heads: readonly string[]
}

/** The server's record of a change that was written here. */
export interface OwnRecord {
  readonly documentId: string
  readonly hash: string
  readonly seq: number
  /** Milliseconds since 1970 UTC. */
  readonly receivedAt: number
  readonly live: boolean
  readonly authorId: string
}

export interface OutboxRow {
  readonly ord: number
  readonly documentId: string
  readonly hash: string
}

interface InfoRow {
  document_id: string
  workspace_id: string
  kind: 'pipeline' | 'comments'
  subject_kind: Subject['kind'] | null
  subject_id: string | null
  base: string | null
  title: string
  updated_at: string
}

/** Every document with its heads, and the outbox: one scan each, nothing is loaded. */
export async function readIndex(
  state: State,
): Promise<{ infos: DocumentInfo[]; outbox: (OutboxRow & { workspaceId: string })[]; nextOrd: number }> {
  const heads = new Map<string, Set<string>>()
  const of = (documentId: string) => {
    const set = heads.get(documentId) ?? new Set<string>()
    heads.set(documentId, set)
    return set
  }
  const snapshotOrd = new Map<string, number>()
  for (const row of await state.read.all<{ document_id: string; ord: number; heads: string }>(
    'select document_id, ord, heads from snapshots',
  )) {
    snapshotOrd.set(row.document_id, row.ord)
    for (const head of JSON.parse(row.heads) as string[]) of(row.document_id).add(head)
  }
  const changes = await state.read.all<{ ord: number; document_id: string; hash: string; deps: string }>(
    'select ord, document_id, hash, deps from changes order by ord',
  )
  for (const row of changes)
    if (row.ord > (snapshotOrd.get(row.document_id) ?? -1)) of(row.document_id).add(row.hash)
  for (const row of changes)
    for (const dep of JSON.parse(row.deps) as string[]) of(row.document_id).delete(dep)

  const infos = (await state.read.all<InfoRow & Record<string, never>>('select * from documents')).map(
    row => ({
      documentId: row.document_id,
      workspaceId: row.workspace_id,
      kind: row.kind,
      subject: row.subject_kind && row.subject_id ? { kind: row.subject_kind, id: row.subject_id } : null,
      base: row.base,
      title: row.title,
      updatedAt: row.updated_at,
      heads: [...of(row.document_id)].sort(),
    }),
  )
  const outbox = await state.read.all<{
    ord: number
    workspace_id: string
    document_id: string
    hash: string
  }>('select ord, workspace_id, document_id, hash from outbox order by ord')
  const last = await state.read.first<{ ord: number | null }>(
    'select max(ord) as ord from (select max(ord) as ord from changes union all select max(ord) from snapshots)',
  )
  return {
    infos,
    outbox: outbox.map(row => ({
      ord: row.ord,
      workspaceId: row.workspace_id,
      documentId: row.document_id,
      hash: row.hash,
    })),
    nextOrd: (last?.ord ?? 0) + 1,
  }
}

/** A document's snapshot and the changes after it, as they were at one moment. */
export async function readDocument(
  state: State,
  documentId: string,
): Promise<{ snapshot: Uint8Array | null; changes: { ord: number; hash: string; bytes: Uint8Array }[] }> {
  const rows = await state.read.all<{ hash: string | null; ord: number; bytes: Uint8Array }>(
    `select null as hash, ord, bytes from snapshots where document_id = $1
     union all select hash, ord, bytes from changes where document_id = $1
     order by ord`,
    documentId,
  )
  const changes = rows.flatMap(({ hash, ...row }) => (hash === null ? [] : [{ ...row, hash }]))
  return { snapshot: rows.find(row => row.hash === null)?.bytes ?? null, changes }
}

export async function putInfo(tx: Statements, info: Omit<DocumentInfo, 'heads'>): Promise<void> {
  await tx.run(
    'insert or replace into documents values ($1, $2, $3, $4, $5, $6, $7, $8)',
    info.documentId,
    info.workspaceId,
    info.kind,
    info.subject?.kind ?? null,
    info.subject?.id ?? null,
    info.base,
    info.title,
    info.updatedAt,
  )
}

/** A document that is here for the first time, as the server sent it. */
export interface Added {
  readonly info: DocumentInfo
  readonly ord: number
  readonly bytes: Uint8Array
}

/** Adds many documents that are not here yet, a snapshot each. */
export async function addDocuments(tx: Statements, added: readonly Added[]): Promise<void> {
  await tx.insert(
    'documents',
    added.map(({ info }) => [
      info.documentId,
      info.workspaceId,
      info.kind,
      info.subject?.kind ?? null,
      info.subject?.id ?? null,
      info.base,
      info.title,
      info.updatedAt,
    ]),
  )
  await tx.insert(
    'snapshots',
    added.map(({ info, ord, bytes }) => [info.documentId, ord, JSON.stringify(info.heads), bytes]),
  )
}

export const putChanges = (
  tx: Statements,
  documentId: string,
  firstOrd: number,
  changes: readonly StoredChange[],
): Promise<void> =>
  tx.insert(
    'changes',
    changes.map((change, i) => [
      firstOrd + i,
      documentId,
      change.hash,
      JSON.stringify(change.deps),
      change.bytes,
    ]),
  )

/**
 * Replaces a document's snapshot and changes by one snapshot; changes in `keep` (unacknowledged ones, by ord) stay. The
 * snapshot's `ord` is below those of changes that it does not hold.
 */
export async function putSnapshot(
  tx: Statements,
  snapshot: { documentId: string; ord: number; heads: readonly string[]; bytes: Uint8Array },
  keep: readonly number[],
): Promise<void> {
  await tx.run(
    'insert or replace into snapshots values ($1, $2, $3, $4)',
    snapshot.documentId,
    snapshot.ord,
    JSON.stringify(snapshot.heads),
    snapshot.bytes,
  )
  const except = keep.length > 0 ? ` and ord not in (${keep.join(',')})` : ''
  await tx.run(`delete from changes where document_id = $1${except}`, snapshot.documentId)
}

export const putOwnRecords = (tx: Statements, records: readonly OwnRecord[]): Promise<void> =>
  tx.insert(
    'records',
    records.map(one => [one.documentId, one.hash, one.seq, one.receivedAt, one.live, one.authorId]),
  )

/** Ords are numbers of ours, so they are written into the statement: thousands, but mostly in a row. */
export async function removeFromOutbox(tx: Statements, ords: readonly number[]): Promise<void> {
  const single: number[] = []
  const ranges: string[] = []
  const sorted = ords.toSorted((a, b) => a - b)
  for (let from = 0, to = 0; from < sorted.length; from = to) {
    const first = sorted[from] as number
    for (to = from + 1; sorted[to] === first + to - from; ) to++
    if (to - from < 3) single.push(...sorted.slice(from, to))
    else ranges.push(`ord between ${first} and ${first + to - from - 1}`)
  }
  if (single.length > 0) ranges.push(`ord in (${single.join(',')})`)
  if (ranges.length > 0) await tx.run(`delete from outbox where ${ranges.join(' or ')}`)
}

const ERASING = 'erasing:'
const erasingRecords = z.array(voidRecord)

/** Keeps what was said of an erased document until its new history comes; no records: it came. */
export async function putErasing(
  tx: Statements,
  documentId: string,
  records: readonly VoidRecord[],
): Promise<void> {
  await tx.run('delete from meta where key = $1', `${ERASING}${documentId}`)
  if (records.length > 0)
    await tx.run('insert into meta values ($1, $2)', `${ERASING}${documentId}`, JSON.stringify(records))
}

/** The erased documents whose new history has not come yet. */
export async function readErasing(state: State): Promise<Map<string, readonly VoidRecord[]>> {
  const rows = await state.read.all<{ key: string; value: string }>(
    `select key, value from meta where key like '${ERASING}%'`,
  )
  return new Map(
    rows.flatMap(({ key, value }) => {
      try {
        return [[key.slice(ERASING.length), erasingRecords.parse(JSON.parse(value))] as const]
      } catch {
        // The new history does not fit what is here then, and it is healed by the log's own records.
        return []
      }
    }),
  )
}

/** Removes what else is kept of a document's content, after it was erased on the server: versions, and what lists say of it. */
export async function forgetContent(tx: Statements, documentId: string): Promise<void> {
  for (const table of ['versions', 'overviews'])
    await tx.run(`delete from ${table} where parent = $1 or key = $1`, documentId)
  const key = `${FORGOTTEN}${documentId}`
  await tx.run('delete from meta where key = $1', key)
  await tx.run('insert into meta values ($1, $2)', key, newId())
}

const FORGOTTEN = 'forgotten:'

/** Another one whenever content of a document was forgotten: what was asked for before that may be what was erased. */
export async function lastForgotten(of: Statements, documentId: string): Promise<string | null> {
  const row = await of.first<{ value: string }>(
    'select value from meta where key = $1',
    `${FORGOTTEN}${documentId}`,
  )
  return row?.value ?? null
}
