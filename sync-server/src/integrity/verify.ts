import { commentsGenesisHash, upgradeActor } from '@pluto-duck/crdt-model'
import { type Kysely, sql } from 'kysely'
import type { StoredFiles } from '../artifacts/index.ts'
import { type Executor, subjectOf } from '../changes/store.ts'
import type { Database } from '../database/index.ts'
import { verifyAudit } from './audit-chain.ts'
import { type Finding, finding } from './finding.ts'
import { Replayer } from './replay.ts'
import { verifyArtifacts } from './verify-artifacts.ts'
import { type DocumentRecord, type Rebuilt, verifyDocument } from './verify-document.ts'
import { verifyVoids } from './verify-voids.ts'

export interface VerifyOptions {
  /** Default: every workspace. */
  readonly workspaceId?: string
  /** Makes wrong snapshots and records of documents again from the log. Default false: nothing is written. */
  readonly repair?: boolean
  /** Given, it is asked for every file that runs have listed. */
  readonly files?: StoredFiles
  readonly onProgress?: (text: string) => void
  readonly onFinding?: (found: Finding) => void
}

export interface VerifyReport {
  readonly workspaces: number
  readonly documents: number
  readonly changes: number
  /** Of all changes. */
  readonly bytes: number
  readonly versions: number
  readonly audit_rows: number
  /** Files that the storage was asked for. */
  readonly artifacts: number
  readonly findings: readonly Finding[]
  /** Findings that stand after this run. */
  readonly open: number
}

const DOCUMENTS = 200
const PROGRESS_MS = 1_000

/**
 * Proves the stored state from the log alone: every document is rebuilt change by change (in a worker that may die) and admitted
 * again; its record, snapshot and versions are compared with that; numbers have no gaps; the audit's chain holds.
 *
 * Each workspace is read as of one moment, so it may run beside a working server. It holds one document at a time.
 */
export async function verify(db: Kysely<Database>, options: VerifyOptions = {}): Promise<VerifyReport> {
  const { workspaceId, repair = false, files, onProgress = () => {}, onFinding = () => {} } = options
  const report = {
    workspaces: 0,
    documents: 0,
    changes: 0,
    bytes: 0,
    versions: 0,
    audit_rows: 0,
    artifacts: 0,
  }
  const findings: Finding[] = []
  const replayer = new Replayer()
  const keep = (found: Finding): void => {
    findings.push(found)
    onFinding(found)
  }
  try {
    for (const id of await workspaces(db, workspaceId)) {
      report.workspaces++
      await db
        .transaction()
        .setIsolationLevel('repeatable read')
        .setAccessMode('read only')
        .execute(async tx => {
          for (const found of await verifyNumbers(tx, id)) keep(found)
          for (const found of await verifyVoids(tx, id)) keep(found)
          let told = performance.now()
          for await (const record of records(tx, id)) {
            const rebuilt = await verifyDocument(tx, replayer, id, record, repair)
            report.documents++
            report.changes += rebuilt.changes
            report.bytes += rebuilt.bytes
            report.versions += rebuilt.versions
            const mended = repair ? await mend(db, id, record, rebuilt) : false
            for (const found of rebuilt.findings)
              keep({ ...found, repaired: mended && DERIVED.has(found.code) })
            if (performance.now() - told > PROGRESS_MS) {
              told = performance.now()
              onProgress(`workspace ${id}: ${report.documents} documents, ${report.changes} changes rebuilt`)
            }
          }
          const audit = await verifyAudit(tx, id)
          report.audit_rows += audit.rows
          for (const found of audit.findings) keep(found)
        })
    }
    if (files) {
      onProgress('asking the storage for the files of runs')
      const asked = await verifyArtifacts(db, files, workspaceId ?? null)
      report.artifacts = asked.artifacts
      for (const found of asked.findings) keep(found)
    }
  } finally {
    await replayer.close()
  }
  return { ...report, findings, open: findings.filter(found => !found.repaired).length }
}

/** What is made of the log, and can be made again. */
const DERIVED: ReadonlySet<Finding['code']> = new Set([
  'document.heads',
  'document.seq',
  'snapshot.unloadable',
  'snapshot.differs',
])

async function workspaces(db: Executor, only: string | undefined): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    select id from workspaces where ${only ?? null}::uuid is null or id = ${only ?? null}::uuid order by id`.execute(
    db,
  )
  return rows.map(row => row.id)
}

async function* records(db: Executor, workspaceId: string): AsyncGenerator<DocumentRecord> {
  for (let after = '00000000-0000-0000-0000-000000000000'; ; ) {
    const { rows } = await sql<DocumentRecord>`
      select id, base, heads, created_seq, seq, snapshot_seq, snapshot is not null as has_snapshot, corrupt from documents
      where workspace_id = ${workspaceId} and id > ${after} order by id limit ${DOCUMENTS}`.execute(db)
    for (const row of rows)
      yield {
        ...row,
        created_seq: Number(row.created_seq),
        seq: Number(row.seq),
        snapshot_seq: Number(row.snapshot_seq),
      }
    const last = rows.at(-1)
    if (!last || rows.length < DOCUMENTS) return
    after = last.id
  }
}

/** The log's numbers, and that each change belongs to a document and to the device that its actor is bound to. */
async function verifyNumbers(db: Executor, workspaceId: string): Promise<Finding[]> {
  const findings: Finding[] = []
  const gaps = await sql<{ seq: string; before: string }>`
    select seq, before from (
      select seq, lag(seq, 1, 0::bigint) over (order by seq) as before from log_records where workspace_id = ${workspaceId}
    ) as numbered where seq <> before + 1 order by seq limit 20`.execute(db)
  for (const { seq, before } of gaps.rows)
    findings.push(
      finding(
        'log.gap',
        workspaceId,
        `log ${seq}`,
        `Changes ${Number(before) + 1} to ${Number(seq) - 1} are not there.`,
      ),
    )
  const counter = await sql<{ counter: string | null; last: string | null }>`
    select (select seq from workspace_counters where workspace_id = ${workspaceId}) as counter,
      (select max(seq) from log_records where workspace_id = ${workspaceId}) as last`.execute(db)
  const { counter: at, last } = counter.rows[0]!
  if (Number(at ?? 0) !== Number(last ?? 0))
    findings.push(
      finding(
        'log.counter',
        workspaceId,
        'log',
        `The counter says ${at ?? 0}, the last change is ${last ?? 0}.`,
      ),
    )
  const orphans = await sql<{ document_id: string; changes: string }>`
    select c.document_id, count(*) as changes from log_records c
    left join documents d on d.workspace_id = c.workspace_id and d.id = c.document_id
    where c.workspace_id = ${workspaceId} and d.id is null group by c.document_id limit 20`.execute(db)
  for (const { document_id, changes } of orphans.rows)
    findings.push(
      finding(
        'log.orphan',
        workspaceId,
        `document ${document_id}`,
        `${changes} changes have no record of their document.`,
      ),
    )
  for (const seq of await otherDevices(db, workspaceId))
    findings.push(
      finding(
        'change.actor',
        workspaceId,
        `change ${seq}`,
        `Change ${seq} came from another device than its actor is bound to.`,
      ),
    )
  return findings
}

/** The first change of each actor that came from another device than it is bound to. */
async function otherDevices(db: Executor, workspaceId: string): Promise<number[]> {
  const { rows } = await sql<{
    seq: string
    hash: string
    actor: string
    subject_kind: string | null
    subject_id: string | null
    first: string
  }>`
    select c.seq, encode(c.hash, 'hex') as hash, c.actor, d.subject_kind, d.subject_id, (
      select encode(f.hash, 'hex') from changes f
      where f.workspace_id = c.workspace_id and f.document_id = coalesce(d.base, d.id) order by f.seq limit 1
    ) as first
    from changes c join actors a on a.workspace_id = c.workspace_id and a.actor = c.actor
    join documents d on d.workspace_id = c.workspace_id and d.id = c.document_id
    where c.workspace_id = ${workspaceId} and a.device_id <> c.device_id
    order by c.seq limit 1000`.execute(db)
  const found = new Map<string, number>()
  for (const { seq, hash, actor, first, ...row } of rows) {
    const subject = subjectOf(row)
    // What is the same on every device belongs to none, even when somebody used its actor for something else (LOG6).
    const nobodys =
      actor === upgradeActor(first) ||
      (subject && hash === commentsGenesisHash({ subject_kind: subject.kind, subject_id: subject.id }))
    if (!nobodys && !found.has(actor)) found.set(actor, Number(seq))
  }
  return [...found.values()].slice(0, 20)
}

/** Stores what the log says of a document, unless it moved on meanwhile. Answers whether it did. */
async function mend(
  db: Executor,
  workspaceId: string,
  record: DocumentRecord,
  { findings, truth }: Rebuilt,
): Promise<boolean> {
  if (!truth || !findings.some(found => DERIVED.has(found.code))) return false
  const snapshot = truth.snapshot === null ? null : Buffer.from(truth.snapshot)
  const { rows } = await sql`
    update documents set heads = ${truth.heads}::text[], created_seq = ${truth.createdSeq}, seq = ${truth.seq},
      snapshot = coalesce(${snapshot}::bytea, snapshot),
      snapshot_seq = case when ${snapshot}::bytea is null then snapshot_seq else ${truth.seq} end,
      snapshot_at = now()
    where workspace_id = ${workspaceId} and id = ${record.id} and seq = ${record.seq}
      and ${truth.seq} = (select max(seq) from log_records where workspace_id = ${workspaceId} and document_id = ${record.id})
    returning id`.execute(db)
  return rows.length === 1
}
