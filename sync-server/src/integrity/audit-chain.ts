import { sql } from 'kysely'
import { AUDIT_START, auditHash } from '../audit/index.ts'
import type { Executor } from '../changes/store.ts'
import { type Finding, finding } from './finding.ts'

interface AuditRow {
  seq: string | number
  at: Date
  actor_user_id: string | null
  device_id: string | null
  origin: string | null
  action: string
  object_kind: string
  object_id: string | null
  details: Record<string, unknown>
  previous_hash: string
  hash: string
}

const PAGE = 1_000

/** Whether the audit of a workspace is whole: numbered without gaps, each row chained to the one before, up to its head. */
export async function verifyAudit(
  db: Executor,
  workspaceId: string,
): Promise<{ rows: number; findings: Finding[] }> {
  const findings: Finding[] = []
  let expected = 1
  let previous = AUDIT_START
  for (;;) {
    const { rows } = await sql<AuditRow>`
      select * from audit where workspace_id = ${workspaceId} and seq >= ${expected}
      order by seq limit ${PAGE}`.execute(db)
    for (const { at, ...row } of rows) {
      const seq = Number(row.seq)
      if (seq !== expected)
        findings.push(
          finding(
            'audit.gap',
            workspaceId,
            `audit ${seq}`,
            `Rows ${expected} to ${seq - 1} of the audit are not there.`,
          ),
        )
      const hash = auditHash({ ...row, seq, at: at.toISOString() }, workspaceId)
      if (hash !== row.hash || (seq === expected && row.previous_hash !== previous))
        findings.push(
          finding(
            'audit.hash',
            workspaceId,
            `audit ${seq}`,
            'The row is not the one that its hash was made of.',
          ),
        )
      previous = row.hash
      expected = seq + 1
    }
    if (rows.length < PAGE) break
  }
  const { rows: heads } = await sql<{ seq: string | number; hash: string }>`
    select seq, hash from audit_heads where workspace_id = ${workspaceId}`.execute(db)
  const head = heads[0] ?? { seq: 0, hash: AUDIT_START }
  if (Number(head.seq) !== expected - 1 || head.hash !== previous)
    findings.push(
      finding(
        'audit.head',
        workspaceId,
        `audit ${head.seq}`,
        `The audit should end at row ${head.seq} and ends at ${expected - 1}.`,
      ),
    )
  return { rows: expected - 1, findings }
}
