import { decodeChange } from '@automerge/automerge'
import { newId } from '@pluto-duck/crdt-model/protocol'
import type pg from 'pg'
import type { PushItem } from './wire.ts'

/**
 * The floor of storing changes: milliseconds that one connection needs to insert the same rows into a bare copy of the log's
 * table, in commits of `perCommit`, with nothing checked, tried or numbered.
 */
export async function bareInsertMs(
  sql: pg.Pool,
  items: readonly PushItem[],
  perCommit: number,
): Promise<number> {
  await sql.query('create table if not exists bare_changes (like changes including all)')
  const [workspaceId, device] = [newId(), newId()]
  const rows = items.map(({ documentId, bytes }, i) => {
    const { hash, actor, seq } = decodeChange(bytes)
    return {
      seq: i + 1,
      documentId,
      hash: Buffer.from(hash, 'hex'),
      actor,
      actorSeq: seq,
      bytes: Buffer.from(bytes),
    }
  })
  const client = await sql.connect()
  try {
    const started = performance.now()
    for (let from = 0; from < rows.length; from += perCommit) {
      const part = rows.slice(from, from + perCommit)
      await client.query(
        `insert into bare_changes (workspace_id, seq, document_id, hash, actor, actor_seq, author_id, device_id, received_at, live, bytes)
         select $1, seq, document_id, hash, actor, actor_seq, 'u', $2, now(), true, bytes
         from unnest($3::bigint[], $4::uuid[], $5::bytea[], $6::text[], $7::integer[], $8::bytea[])
           as given (seq, document_id, hash, actor, actor_seq, bytes)`,
        [
          workspaceId,
          device,
          part.map(row => row.seq),
          part.map(row => row.documentId),
          part.map(row => row.hash),
          part.map(row => row.actor),
          part.map(row => row.actorSeq),
          part.map(row => row.bytes),
        ],
      )
    }
    return performance.now() - started
  } finally {
    client.release()
  }
}
