import { sql } from 'kysely'
import type { Executor } from '../changes/store.ts'
import type { LoggedChange } from './replay.ts'

const PAGE_ROWS = 1_000
const PAGE_BYTES = 8 * 1024 * 1024

/** A document's changes in the order of the log, in pages of at most 8 MiB (or one change), none of them across `cut`. */
export async function* documentPages(
  db: Executor,
  workspaceId: string,
  documentId: string,
  cut: number,
): AsyncGenerator<LoggedChange[]> {
  for (let after = 0; ; ) {
    const until = after < cut ? cut : Number.MAX_SAFE_INTEGER
    const { rows } = await sql<{ seq: string | number; hash: string; bytes: Uint8Array }>`
      select seq, hash, bytes from (
        select seq, encode(hash, 'hex') as hash, bytes,
          sum(octet_length(bytes)) over (order by seq) - octet_length(bytes) as before
        from (
          select seq, hash, bytes from changes
          where workspace_id = ${workspaceId} and document_id = ${documentId} and seq > ${after} and seq <= ${until}
          order by seq limit ${PAGE_ROWS}
        ) as page
      ) as sized where before < ${PAGE_BYTES} order by seq`.execute(db)
    const last = rows.at(-1)
    if (last) {
      yield rows.map(row => ({ ...row, seq: Number(row.seq) }))
      after = Number(last.seq)
    } else if (until === cut) after = cut
    else return
  }
}
