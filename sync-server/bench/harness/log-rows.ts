import * as Automerge from '@automerge/automerge'
import type { Bench } from './server.ts'
import type { Account } from './wire.ts'

export interface LoggedDocument {
  readonly id: string
  readonly title: string
  /** In an order in which they were made. */
  readonly changes: readonly Uint8Array[]
}

interface Read {
  readonly hash: Buffer
  readonly actor: string
  readonly seq: number
  readonly deps: readonly string[]
}

/**
 * Writes documents into the log as admission does once their changes are admitted, by SQL: for histories that would take hours to
 * push. The bytes are real changes; the same change may stand in several documents.
 */
export async function writeLog(
  { sql }: Bench,
  account: Account,
  documents: readonly LoggedDocument[],
): Promise<void> {
  const { workspaceId } = account
  await sql.query(
    'insert into workspace_counters (workspace_id, seq) values ($1, 0) on conflict do nothing',
    [workspaceId],
  )
  const { rows } = await sql.query<{ seq: string; author: string }>(
    `select c.seq, w.created_by as author from workspace_counters c join workspaces w on w.id = c.workspace_id
     where workspace_id = $1`,
    [workspaceId],
  )
  let seq = Number(rows[0]!.seq)
  const read = new Map<Uint8Array, Read>()
  const understood = (bytes: Uint8Array): Read => {
    const known = read.get(bytes)
    if (known) return known
    const { hash, actor, seq: actorSeq, deps } = Automerge.decodeChange(bytes)
    const one = { hash: Buffer.from(hash!, 'hex'), actor, seq: actorSeq, deps }
    read.set(bytes, one)
    return one
  }
  for (let from = 0; from < documents.length; ) {
    const part: LoggedDocument[] = []
    for (let changes = 0; from < documents.length && changes < 5_000; from++) {
      part.push(documents[from]!)
      changes += documents[from]!.changes.length
    }
    const first = seq + 1
    const states = part.map(({ id, title, changes }) => {
      const heads = new Set<string>()
      for (const bytes of changes) {
        const { hash, deps } = understood(bytes)
        for (const dep of deps) heads.delete(dep)
        heads.add(hash.toString('hex'))
      }
      const created = seq + 1
      seq += changes.length
      return { id, title, heads: [...heads].sort().join(','), created, seq }
    })
    const changes = part.flatMap(({ id, changes: own }) =>
      own.map(bytes => ({ id, ...understood(bytes), bytes: Buffer.from(bytes) })),
    )
    await sql.query(
      `insert into documents (workspace_id, id, kind, title, heads, created_seq, seq)
       select $1, id, 'pipeline', title, string_to_array(heads, ','), created, seq
       from unnest($2::uuid[], $3::text[], $4::text[], $5::bigint[], $6::bigint[]) as given (id, title, heads, created, seq)`,
      [
        workspaceId,
        states.map(one => one.id),
        states.map(one => one.title),
        states.map(one => one.heads),
        states.map(one => one.created),
        states.map(one => one.seq),
      ],
    )
    await sql.query(
      `insert into changes
         (workspace_id, seq, document_id, hash, actor, actor_seq, author_id, device_id, received_at, live, bytes)
       select $1, $2::bigint - 1 + place, id, hash, actor, actor_seq, $3, $1, now(), true, bytes
       from unnest($4::uuid[], $5::bytea[], $6::text[], $7::integer[], $8::bytea[])
         with ordinality as given (id, hash, actor, actor_seq, bytes, place)`,
      [
        workspaceId,
        first,
        rows[0]!.author,
        changes.map(one => one.id),
        changes.map(one => one.hash),
        changes.map(one => one.actor),
        changes.map(one => one.seq),
        changes.map(one => one.bytes),
      ],
    )
    await sql.query('update workspace_counters set seq = $2 where workspace_id = $1', [workspaceId, seq])
  }
}
