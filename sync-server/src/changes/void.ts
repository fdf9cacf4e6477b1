import { createHash, randomUUID } from 'node:crypto'
import { encodeVoid, voidedBy } from '@pluto-duck/crdt-model/protocol'
import { sql } from 'kysely'
import { decodeChangeBytes } from './admission/decode.ts'
import { type Executor, lockSeq, openCounter } from './store.ts'

/** The device of what the server writes by itself: no installation has it. */
export const SERVER_DEVICE = '00000000-0000-7000-8000-000000000000'

export interface Voiding {
  readonly workspaceId: string
  readonly documentId: string
  /** Everything that has one of them in its past goes with them. */
  readonly hashes: readonly string[]
  /** Their bytes go as well. */
  readonly erase: boolean
  /** For people; no content of the document. At most 500 characters. */
  readonly reason: string
  readonly at: Date
  /** What lists show of the document after it; absent: as it was. */
  readonly title?: string
  /** Changes that follow in the same commit, in causal order, and whose they are. They are known to be right. */
  readonly next?: { readonly authorId: string; readonly changes: readonly Uint8Array[] }
  /** Writes the audit's row: called before anything is changed, with what will be. The database refuses without it. */
  readonly record: (found: {
    readonly changes: number
    readonly documents: readonly string[]
  }) => Promise<void>
}

export interface Voided {
  readonly after: number
  readonly seq: number
  /** Changes that count no more, of the document and of its drafts. */
  readonly changes: number
  readonly documents: readonly string[]
}

interface Own {
  readonly hash: string
  readonly deps: readonly string[]
}

/**
 * Takes changes out of a document and of its drafts, by void records at the end of the log. One transaction; the workspace's
 * counter stays locked until it ends. Rows stay: their numbers, hashes, authors and times are the log's for ever.
 */
export async function appendVoid(tx: Executor, voiding: Voiding): Promise<Voided> {
  const { workspaceId, documentId, erase } = voiding
  await openCounter(tx, workspaceId)
  const after = await lockSeq(tx, workspaceId)
  const documents = await ownChanges(tx, workspaceId, documentId)
  const inOrder = [...documents.values()].flat()
  // What a draft builds on is in its base's log, and a base's merged changes may be in a draft's.
  const voided = voidedBy(voiding.hashes, inOrder)
  const hit = [...documents].flatMap(([id, own]) => (own.some(one => voided.has(one.hash)) ? [id] : []))
  await voiding.record({ changes: voided.size, documents: hit })

  let seq = after
  for (const id of hit) {
    const own = documents.get(id)!
    const out = own.filter(one => voided.has(one.hash))
    const gone = new Set(out.map(one => one.hash))
    const first = out.filter(one => !one.deps.some(dep => gone.has(dep))).map(one => one.hash)
    seq++
    const bytes = encodeVoid({ v: 1, hashes: first.sort(), erase, reason: voiding.reason })
    await insertRecord(tx, { ...voiding, documentId: id, seq, bytes })
    const rows: Buffer[] = [...gone].map(hash => Buffer.from(hash, 'hex'))
    if (erase) rows.push(...(await voidedBefore(tx, workspaceId, id)))
    await sql`
      select void_changes(${workspaceId}::uuid, ${id}::uuid, ${rows}::bytea[], ${seq}::bigint, ${erase})`.execute(
      tx,
    )
    const next = id === documentId ? (voiding.next?.changes ?? []) : []
    const kept = own.filter(one => !gone.has(one.hash))
    for (const change of next) kept.push(await insertNext(tx, voiding, ++seq, change))
    await sql`
      update documents set heads = ${headsOf(kept)}::text[], seq = ${seq}, snapshot = null, snapshot_seq = 0,
        snapshot_at = null, corrupt = null,
        title = coalesce(${kept.length === 0 ? '' : id === documentId ? (voiding.title ?? null) : null}::text, title)
      where workspace_id = ${workspaceId} and id = ${id}`.execute(tx)
  }
  await sql`update workspace_counters set seq = ${seq} where workspace_id = ${workspaceId}`.execute(tx)
  return { after, seq, changes: voided.size, documents: hit }
}

/** The changes that count of a document and of its drafts, the document's first. */
async function ownChanges(
  tx: Executor,
  workspaceId: string,
  documentId: string,
): Promise<Map<string, Own[]>> {
  const drafts = await sql<{ id: string }>`
    select id from documents where workspace_id = ${workspaceId} and base = ${documentId} order by id`.execute(
    tx,
  )
  const found = new Map<string, Own[]>()
  for (const id of [documentId, ...drafts.rows.map(row => row.id)]) {
    const own: Own[] = []
    for (let seq = 0; ; ) {
      const { rows } = await sql<{ seq: string; hash: string; bytes: Uint8Array }>`
        select seq, encode(hash, 'hex') as hash, bytes from changes
        where workspace_id = ${workspaceId} and document_id = ${id} and seq > ${seq} order by seq limit 200`.execute(
        tx,
      )
      for (const row of rows) {
        const decoded = decodeChangeBytes(row.bytes)
        // One that cannot even be decoded is named by who voids it; nothing depends on what it might have said.
        own.push({ hash: row.hash, deps: decoded.ok ? decoded.change.deps : [] })
      }
      seq = Number(rows.at(-1)?.seq ?? 0)
      if (rows.length < 200) break
    }
    found.set(id, own)
  }
  return found
}

/** Hashes of what was taken out before and still has its bytes. */
async function voidedBefore(tx: Executor, workspaceId: string, documentId: string): Promise<Buffer[]> {
  const { rows } = await sql<{ hash: Buffer }>`
    select hash from log_records where workspace_id = ${workspaceId} and document_id = ${documentId}
      and record = 'change' and void_seq is not null and octet_length(bytes) > 0`.execute(tx)
  return rows.map(row => row.hash)
}

const headsOf = (changes: readonly Own[]): string[] => {
  const heads = new Set(changes.map(one => one.hash))
  for (const { deps } of changes) for (const dep of deps) heads.delete(dep)
  return [...heads].sort()
}

async function insertRecord(
  tx: Executor,
  row: Pick<Voiding, 'workspaceId' | 'documentId' | 'at'> & {
    readonly seq: number
    readonly bytes: Uint8Array
  },
): Promise<void> {
  const hash = createHash('sha256').update(row.bytes).digest()
  await sql`
    insert into log_records
      (workspace_id, seq, document_id, hash, actor, actor_seq, author_id, device_id, received_at, live, bytes, record)
    values (${row.workspaceId}, ${row.seq}, ${row.documentId}, ${hash}, '', 0, '', ${SERVER_DEVICE}, ${row.at}, false,
      ${Buffer.from(row.bytes)}, 'void')`.execute(tx)
}

async function insertNext(tx: Executor, voiding: Voiding, seq: number, bytes: Uint8Array): Promise<Own> {
  const decoded = decodeChangeBytes(bytes)
  if (!decoded.ok)
    throw new Error(`a change of the server's own is not admissible: ${decoded.refusal.reason}`)
  const { hash, deps, actors, seq: actorSeq } = decoded.change
  const { workspaceId, documentId, at } = voiding
  await sql`
    insert into actors (workspace_id, actor, device_id) values (${workspaceId}, ${actors[0]!}, ${SERVER_DEVICE})
    on conflict do nothing`.execute(tx)
  await sql`
    insert into log_records
      (workspace_id, seq, document_id, hash, actor, actor_seq, author_id, device_id, received_at, live, bytes)
    values (${workspaceId}, ${seq}, ${documentId}, ${Buffer.from(hash, 'hex')}, ${actors[0]!}, ${actorSeq},
      ${voiding.next!.authorId}, ${SERVER_DEVICE}, ${at}, false, ${Buffer.from(bytes)})`.execute(tx)
  return { hash, deps }
}

/** A fresh actor for what the server writes. */
export const serverActor = (): string => randomUUID().replaceAll('-', '')
