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

/** Digests of all heads (rule LOG12). After the first time only the documents that changed since are read. */
export class Digests {
  private readonly db: Executor
  private readonly known = new Map<string, Known>()

  constructor(db: Executor) {
    this.db = db
  }

  /** The digest and the log's number to which it belongs. */
  async read(workspaceId: string): Promise<{ seq: number; digest: string }> {
    const since = this.known.get(workspaceId)?.seq ?? 0
    // One statement sees one state: the number and the heads belong together.
    const { rows } = await sql<{ now: string; id: string | null; heads: string[] | null }>`
      select n.seq as now, d.id, d.heads
      from (select coalesce(max(seq), 0) as seq from workspace_counters where workspace_id = ${workspaceId}) n
      left join documents d on d.workspace_id = ${workspaceId} and d.seq > ${since}`.execute(this.db)
    const now = Number(rows[0]?.now ?? 0)
    // What this was to be added to was forgotten meanwhile: it would be the digest of a part.
    if ((this.known.get(workspaceId)?.seq ?? 0) < since) return await this.read(workspaceId)
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
    // Two readings may overlap, and the older one must not bring older heads back; or the database was put back.
    if (now < known.seq) {
      this.known.delete(workspaceId)
      return await this.read(workspaceId)
    }
    if (now > known.seq || known.digest === null) {
      for (const { id, heads } of rows) if (id) known.heads.set({ document_id: id, heads: heads ?? [] })
      known.seq = now
      known.digest = known.heads.digest()
    }
    return { seq: now, digest: known.digest }
  }
}
