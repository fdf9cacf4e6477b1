import { createHash } from 'node:crypto'
import { HeadsDigest } from '@pluto-duck/crdt-model/protocol'
import { sql } from 'kysely'
import type { Executor } from './store.ts'

interface Known {
  seq: number
  readonly heads: HeadsDigest
  digest: string | null
}

/** Workspaces whose heads are kept between two readings. */
const KEEP = 100
/** Documents that one statement reads: a workspace may have a hundred times as many. */
const PIECE = 5_000

/** Digests of all heads (rule LOG12). After the first time only the documents that changed since are read. */
export class Digests {
  private readonly db: Executor
  private readonly piece: number
  private readonly known = new Map<string, Known>()

  constructor(db: Executor, { piece = PIECE }: { readonly piece?: number } = {}) {
    this.db = db
    this.piece = piece
  }

  /** The digest and the log's number to which it belongs. */
  async read(workspaceId: string): Promise<{ seq: number; digest: string }> {
    for (;;) {
      const since = this.known.get(workspaceId)?.seq ?? 0
      // One statement sees one state: the number and the heads belong together. Read in pieces in order of their last changes, a
      // document that changes meanwhile comes again in a later piece, so with the last one all are those of its state.
      const { rows } = await sql<{ now: string; id: string | null; heads: string[] | null; seq: string }>`
        select n.seq as now, d.id, d.heads, d.seq
        from (select coalesce(max(seq), 0) as seq from workspace_counters where workspace_id = ${workspaceId}) n
        left join lateral (
          select id, heads, seq from documents where workspace_id = ${workspaceId} and seq > ${since}
          order by seq limit ${this.piece}
        ) d on true
        order by d.seq`.execute(this.db)
      // Another reading brought what may be newer, or it was forgotten: then this would be the digest of a part.
      if ((this.known.get(workspaceId)?.seq ?? 0) !== since) continue
      const now = Number(rows[0]?.now ?? 0)
      if (now < since) {
        // The database was put back.
        this.known.delete(workspaceId)
        continue
      }
      const known = this.keep(workspaceId)
      for (const { id, heads } of rows) if (id) known.heads.set({ document_id: id, heads: heads ?? [] })
      const whole = rows.length < this.piece
      const reached = whole ? now : Number(rows.at(-1)?.seq)
      if (reached > known.seq) known.digest = null
      known.seq = reached
      if (!whole) continue
      known.digest ??= known.heads.digest()
      return { seq: now, digest: known.digest }
    }
  }

  private keep(workspaceId: string): Known {
    const known = this.known.get(workspaceId) ?? {
      seq: 0,
      heads: new HeadsDigest(() => createHash('sha256')),
      digest: null,
    }
    this.known.delete(workspaceId)
    this.known.set(workspaceId, known)
    for (const oldest of this.known.keys()) {
      if (this.known.size <= KEEP) break
      this.known.delete(oldest)
    }
    return known
  }
}
