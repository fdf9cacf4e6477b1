import { sql } from 'kysely'
import type { Executor } from '../changes/store.ts'
import type { LoggedChange } from './replay.ts'

const PAGE_ROWS = 1_000
const PAGE_BYTES = 8 * 1024 * 1024

/** The changes that count of a document (of a draft with its base's) in the order of the log, in pages of at most 8 MiB (or one change), none of them across `cut`. */
export async function* documentPages(
  db: Executor,
  workspaceId: string,
  { id, base }: { readonly id: string; readonly base: string | null },
  cut = 0,
): AsyncGenerator<LoggedChange[]> {
  for (let after = 0; ; ) {
    const until = after < cut ? cut : Number.MAX_SAFE_INTEGER
    const { rows } = await sql<{ seq: string | number; hash: string; own: boolean; bytes: Uint8Array }>`
      select seq, hash, own, bytes from (
        select seq, encode(hash, 'hex') as hash, document_id = ${id} as own, bytes,
          sum(octet_length(bytes)) over (order by seq) - octet_length(bytes) as before
        from (
          select seq, document_id, hash, bytes from changes
          where workspace_id = ${workspaceId} and document_id = any (${base === null ? [id] : [base, id]}::uuid[]) and seq > ${after} and seq <= ${until}
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
