import { type Kysely, sql } from 'kysely'
import { decodeChangeBytes } from '../changes/admission/decode.ts'
import type { Database } from '../database/index.ts'

/**
 * What is left of these heads of a document: they themselves, or, of one that was taken out of the log, the last of its past that
 * counts. What was erased says nothing of its past. Asks the database only when one does not count.
 */
export const standingHeads = async (
  db: Kysely<Database>,
  of: { readonly workspaceId: string; readonly documentId: string; readonly heads: readonly string[] },
  counts: (hash: string) => boolean,
): Promise<readonly string[]> => {
  if (of.heads.every(counts)) return of.heads
  const { rows } = await sql<{ hash: string; bytes: Buffer }>`
    select encode(hash, 'hex') as hash, bytes from log_records
    where workspace_id = ${of.workspaceId} and document_id = ${of.documentId}
      and record = 'change' and void_seq is not null`.execute(db)
  const depsOf = new Map<string, readonly string[]>()
  for (const { hash, bytes } of rows) {
    const decoded = decodeChangeBytes(bytes)
    depsOf.set(hash, decoded.ok ? decoded.change.deps : [])
  }
  const standing = new Set<string>()
  const seen = new Set(of.heads)
  // Grows while it is walked.
  for (const hash of seen) {
    if (counts(hash)) standing.add(hash)
    else for (const dep of depsOf.get(hash) ?? []) seen.add(dep)
  }
  return [...standing]
}
