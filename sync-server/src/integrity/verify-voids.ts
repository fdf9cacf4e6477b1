import { createHash } from 'node:crypto'
import { decodeVoid } from '@pluto-duck/crdt-model/protocol'
import { sql } from 'kysely'
import type { Executor } from '../changes/store.ts'
import { type Finding, type FindingCode, finding } from './finding.ts'

const PAGE = 500
/** Findings of one kind that are named one by one. */
const NAMED = 20

/**
 * What was taken out of a workspace's log: each void record is what its hash says and names changes of its document that are out,
 * and each change that is out has such a record. That what depends on it is out as well shows when documents are rebuilt.
 */
export async function verifyVoids(db: Executor, workspaceId: string): Promise<Finding[]> {
  const findings: Finding[] = []
  const found = (code: FindingCode, seq: number | string, message: string): void =>
    void findings.push(finding(code, workspaceId, `record ${seq}`, message))
  for (let after = 0; ; ) {
    const { rows } = await sql<{ seq: string; document_id: string; hash: Buffer; bytes: Buffer }>`
      select seq, document_id, hash, bytes from log_records
      where workspace_id = ${workspaceId} and record = 'void' and seq > ${after} order by seq limit ${PAGE}`.execute(
      db,
    )
    for (const { seq, document_id, hash, bytes } of rows) {
      after = Number(seq)
      const named = namedBy(bytes, hash)
      if (named === null) {
        found('void.damaged', seq, `Record ${seq} of document ${document_id} is not what its hash says.`)
        continue
      }
      const counted = await sql<{ hash: string }>`
        select encode(hash, 'hex') as hash from changes
        where workspace_id = ${workspaceId} and document_id = ${document_id} and hash = any (${named.map(
          one => Buffer.from(one, 'hex'),
        )}::bytea[])`.execute(db)
      for (const one of counted.rows)
        found('void.undone', seq, `Record ${seq} takes out change ${one.hash}, which counts all the same.`)
    }
    if (rows.length < PAGE) break
  }
  const { rows } = await sql<{ seq: string; void_seq: string }>`
    select c.seq, c.void_seq from log_records c
    left join log_records v on v.workspace_id = c.workspace_id and v.seq = c.void_seq
      and v.document_id = c.document_id and v.record = 'void'
    where c.workspace_id = ${workspaceId} and c.void_seq is not null and v.seq is null
    order by c.seq limit ${NAMED}`.execute(db)
  for (const { seq, void_seq } of rows)
    found('void.missing', seq, `Change ${seq} is said to be taken out by record ${void_seq}, which is none.`)
  return findings
}

/** The changes that a void record names; null when it is not what its hash says. */
function namedBy(bytes: Buffer, hash: Buffer): readonly string[] | null {
  if (!createHash('sha256').update(bytes).digest().equals(hash)) return null
  try {
    return decodeVoid(bytes).hashes
  } catch {
    // Whatever is wrong with it: it is no void record.
    return null
  }
}
