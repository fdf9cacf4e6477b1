import { sha256Hex } from '@pluto-duck/crdt-model'
import { sql } from 'kysely'
import type { Executor } from '../changes/store.ts'
import { type Finding, type FindingCode, finding } from './finding.ts'
import { documentPages } from './log-pages.ts'
import type { BadChange, Replayer } from './replay.ts'

/** The record of a document, as it stands beside its changes. */
export interface DocumentRecord {
  readonly id: string
  /** Of a draft, the document that it forks. */
  readonly base: string | null
  readonly heads: readonly string[]
  readonly created_seq: number
  readonly seq: number
  readonly snapshot_seq: number
  readonly has_snapshot: boolean
  readonly corrupt: string | null
}

export interface Rebuilt {
  readonly findings: readonly Finding[]
  readonly changes: number
  readonly bytes: number
  readonly versions: number
  /** What its changes say of it; null when they do not make a document. */
  readonly truth: {
    readonly heads: readonly string[]
    readonly createdSeq: number
    readonly seq: number
    readonly snapshot: Uint8Array | null
  } | null
}

const CODE = {
  damaged: 'change.damaged',
  inadmissible: 'change.inadmissible',
  behind: 'change.behind',
} as const
/** Findings of one kind for one document that are named one by one; the rest is counted. */
const NAMED = 20

/**
 * Rebuilds one document from the log and compares its record, its snapshot and its versions with that. `compact` asks for the
 * bytes of a new snapshot when the one that is there is wrong.
 */
export async function verifyDocument(
  db: Executor,
  replayer: Replayer,
  workspaceId: string,
  record: DocumentRecord,
  compact: boolean,
): Promise<Rebuilt> {
  const { id } = record
  const findings: Finding[] = []
  const found = (code: FindingCode, object: string, message: string): void =>
    void findings.push(finding(code, workspaceId, object, message))
  const totals = { changes: 0, bytes: 0, versions: 0 }
  const unloadable = (reason: string): Rebuilt => {
    found('document.unloadable', `document ${id}`, `It cannot be rebuilt: ${reason}`)
    return { findings, ...totals, truth: null }
  }

  const begun = await replayer.step<'begin'>({
    kind: 'begin',
    draft: record.base !== null,
    structure: true,
  })
  if (!begun.ok) return unloadable(begun.reason)
  const bad: BadChange[] = []
  let snapshotChecked = !record.has_snapshot
  const checkSnapshot = async (): Promise<string | null> => {
    snapshotChecked = true
    const { rows } = await sql<{ snapshot: Uint8Array }>`
      select snapshot from documents where workspace_id = ${workspaceId} and id = ${id}`.execute(db)
    const compared = await replayer.step<'snapshot'>({
      kind: 'snapshot',
      bytes: rows[0]?.snapshot ?? new Uint8Array(),
    })
    if (!compared.ok) return compared.reason
    if (compared.value !== null)
      found(
        compared.value.startsWith('it does not load') ? 'snapshot.unloadable' : 'snapshot.differs',
        `snapshot of document ${id}`,
        `The snapshot at ${record.snapshot_seq} is wrong: ${compared.value}.`,
      )
    return null
  }

  for await (const page of documentPages(db, workspaceId, record, record.snapshot_seq)) {
    const own = page.filter(change => change.own)
    if (!snapshotChecked && page[0]!.seq > record.snapshot_seq) {
      const died = await checkSnapshot()
      if (died !== null) return unloadable(died)
    }
    totals.changes += own.length
    for (const change of own) totals.bytes += change.bytes.length
    const taken = await replayer.step<'changes'>({ kind: 'changes', changes: page })
    if (!taken.ok) return unloadable(taken.reason)
    bad.push(...taken.value)
  }
  if (!snapshotChecked) {
    const died = await checkSnapshot()
    if (died !== null) return unloadable(died)
  }
  for (const { seq, problem, reason } of bad.slice(0, NAMED))
    found(CODE[problem], `change ${seq} of document ${id}`, `Change ${seq}: ${reason}.`)
  if (bad.length > NAMED)
    found('change.behind', `document ${id}`, `${bad.length - NAMED} more changes cannot be applied.`)
  // What follows compares with a document that is not whole: it would only say the same again.
  if (bad.length > 0) return { findings, ...totals, truth: null }

  const wrongSnapshot = findings.length > 0
  const ended = await replayer.step<'end'>({ kind: 'end', compact: compact && wrongSnapshot })
  if (!ended.ok) return unloadable(ended.reason)
  const { heads } = ended.value
  if (heads.join() !== [...record.heads].sort().join())
    found(
      'document.heads',
      `document ${id}`,
      `Its record says the heads ${short(record.heads)}, its changes say ${short(heads)}.`,
    )
  const span = await ownSpan(db, workspaceId, id)
  if (record.seq !== span.last || record.created_seq !== span.first)
    found(
      'document.seq',
      `document ${id}`,
      `Its record says records ${record.created_seq} to ${record.seq}, the log has ${span.first} to ${span.last}.`,
    )
  totals.versions = await verifyVersions(db, replayer, workspaceId, id, findings)
  return {
    findings,
    ...totals,
    truth: { heads, createdSeq: span.first, seq: span.last, snapshot: ended.value.bytes },
  }
}

/** The numbers of a document's first and last record, those that were taken out included. */
async function ownSpan(
  db: Executor,
  workspaceId: string,
  id: string,
): Promise<{ first: number; last: number }> {
  const { rows } = await sql<{ first: string | null; last: string | null }>`
    select min(seq) as first, max(seq) as last from log_records
    where workspace_id = ${workspaceId} and document_id = ${id}`.execute(db)
  return { first: Number(rows[0]?.first ?? 0), last: Number(rows[0]?.last ?? 0) }
}

async function verifyVersions(
  db: Executor,
  replayer: Replayer,
  workspaceId: string,
  pipelineId: string,
  findings: Finding[],
): Promise<number> {
  const numbers = await sql<{ number: number }>`
    select number from versions where workspace_id = ${workspaceId} and pipeline_id = ${pipelineId}
    order by number`.execute(db)
  let expected = 1
  for (const { number } of numbers.rows) {
    const object = `version ${number} of pipeline ${pipelineId}`
    const found = (code: FindingCode, message: string): void =>
      void findings.push(finding(code, workspaceId, object, message))
    if (number !== expected) found('version.gap', `Versions ${expected} to ${number - 1} are not there.`)
    expected = number + 1
    const { rows } = await sql<{
      content_hash: string
      heads: string[]
      definition: string
      files: Record<string, string>
      purged: boolean
      voided: boolean
    }>`
      select content_hash, heads, definition, files, purged, exists (
        select 1 from log_records l where l.workspace_id = v.workspace_id and l.document_id = v.pipeline_id
          and l.void_seq is not null and encode(l.hash, 'hex') = any (v.heads)
      ) as voided from versions v
      where pipeline_id = ${pipelineId} and number = ${number}`.execute(db)
    const [row] = rows
    // Of a purged one only the hash is left.
    if (!row || row.purged) continue
    if (row.voided) {
      if (sha256Hex(row.definition) !== row.content_hash)
        found('version.content', 'Its stored content is not the one that its hash was made of.')
      continue
    }
    const made = await replayer.step<'version'>({ kind: 'version', heads: row.heads })
    if (!made.ok) found('version.heads', `It cannot be made again: ${made.reason}`)
    else if (made.value.status === 'too_new')
      found('version.heads', 'A newer program made it: verify with that program.')
    else if (made.value.status !== 'ok')
      found('version.heads', 'Its heads are not in the log, or are no pipeline.')
    else if (made.value.contentHash !== row.content_hash)
      found(
        'version.content',
        `Its content hash is ${row.content_hash.slice(0, 12)}, its changes make ${made.value.contentHash.slice(0, 12)}.`,
      )
    else if (made.value.definition !== row.definition || !sameFiles(made.value.files, row.files))
      found('version.content', 'Its stored content is not the one that its changes make.')
  }
  return numbers.rows.length
}

const sameFiles = (a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean => {
  const names = Object.keys(a)
  return names.length === Object.keys(b).length && names.every(name => a[name] === b[name])
}

const short = (heads: readonly string[]): string =>
  heads.length === 0 ? 'none' : heads.map(head => head.slice(0, 12)).join(', ')
