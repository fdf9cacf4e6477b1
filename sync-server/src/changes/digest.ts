import { createHash } from 'node:crypto'
import { type DocumentHeads, HeadsDigest } from '@pluto-duck/crdt-model/protocol'
import { sql } from 'kysely'
import { FIRST_ID } from './read.ts'
import type { Executor, LogDatabase } from './store.ts'

interface Known {
  seq: number
  readonly heads: HeadsDigest
  digest: string | null
}

interface Digest {
  readonly seq: number
  readonly digest: string
}

interface Reading {
  readonly running: Promise<Digest>
  /** Begins when the one that runs has ended; for whoever asked meanwhile. */
  next: Promise<Digest> | null
}

/** Workspaces whose heads are kept between two readings. */
const KEEP = 100
/** Documents whose heads are in memory as text at one time. */
const PAGE = 1_000

/**
 * Digests of all heads (rule LOG12). After the first time only the documents that changed since are read. What is kept of a
 * document is 48 bytes a head (rule LOG18).
 */
export class Digests {
  private readonly db: LogDatabase
  private readonly known = new Map<string, Known>()
  private readonly readings = new Map<string, Reading>()

  constructor(db: LogDatabase) {
    this.db = db
  }

  /**
   * The digest and the log's number to which it belongs, which is not below the log's own when this was called. One reading of a
   * workspace at a time: who asks meanwhile shares the next one.
   */
  read(workspaceId: string): Promise<Digest> {
    const reading = this.readings.get(workspaceId)
    if (!reading) return this.begin(workspaceId)
    reading.next ??= reading.running.then(
      () => this.begin(workspaceId),
      () => this.begin(workspaceId),
    )
    return reading.next
  }

  private begin(workspaceId: string): Promise<Digest> {
    const running = this.readNow(workspaceId).finally(() => {
      if (reading.next === null) this.readings.delete(workspaceId)
    })
    const reading: Reading = { running, next: null }
    this.readings.set(workspaceId, reading)
    return running
  }

  private async readNow(workspaceId: string): Promise<Digest> {
    const known = this.known.get(workspaceId) ?? {
      seq: 0,
      heads: new HeadsDigest(() => createHash('sha256')),
      digest: null,
    }
    // It is put back when all was read: what has a part of it would give the digest of a part.
    this.known.delete(workspaceId)
    const now = await this.take(workspaceId, known)
    // The database was put back.
    if (now < known.seq) return await this.readNow(workspaceId)
    if (now > known.seq || known.digest === null) known.digest = known.heads.digest()
    known.seq = now
    this.known.set(workspaceId, known)
    for (const oldest of this.known.keys()) {
      if (this.known.size <= KEEP) break
      this.known.delete(oldest)
    }
    return { seq: now, digest: known.digest }
  }

  /** Takes what changed since into the heads that are known, and answers the number to which they belong then. */
  private async take(workspaceId: string, { seq, heads }: Known): Promise<number> {
    // One statement sees one state: the number and the heads belong together.
    const { rows } = await sql<{ now: string; id: string | null; heads: string[] | null }>`
      select n.seq as now, d.id, d.heads
      from (select coalesce(max(seq), 0) as seq from workspace_counters where workspace_id = ${workspaceId}) n
      left join lateral (
        select id, heads from documents where workspace_id = ${workspaceId} and seq > ${seq} limit ${PAGE + 1}
      ) d on true`.execute(this.db)
    if (rows.length > PAGE) return await this.takePages(workspaceId, seq, heads)
    for (const row of rows) if (row.id) heads.set({ document_id: row.id, heads: row.heads ?? [] })
    return Number(rows[0]?.now ?? 0)
  }

  /** The same of many documents, page by page out of one state. */
  private async takePages(workspaceId: string, since: number, heads: HeadsDigest): Promise<number> {
    return await this.db.transaction().execute(async tx => {
      await sql`set transaction isolation level repeatable read, read only`.execute(tx)
      const { rows } = await sql<{ seq: string }>`
        select seq from workspace_counters where workspace_id = ${workspaceId}`.execute(tx)
      for (let after: string | null = FIRST_ID; after; ) {
        const page: DocumentHeads[] = await headsAfter(tx, workspaceId, { since, after })
        for (const document of page) heads.set(document)
        after = page.length < PAGE ? null : page.at(-1)!.document_id
      }
      return Number(rows[0]?.seq ?? 0)
    })
  }
}

/** The next documents that changed since, in order of id. As one text: so many rows would be as many objects and lists. */
async function headsAfter(
  db: Executor,
  workspaceId: string,
  { since, after }: { readonly since: number; readonly after: string },
): Promise<DocumentHeads[]> {
  const { rows } = await sql<{ lines: string | null }>`
    select string_agg(id::text || ':' || array_to_string(heads, ','), ' ' order by id) as lines from (
      select id, heads from documents
      where workspace_id = ${workspaceId} and id > ${after} and seq > ${since} order by id limit ${PAGE}
    ) d`.execute(db)
  const lines = rows[0]?.lines?.split(' ') ?? []
  return lines.map(line => ({
    document_id: line.slice(0, 36),
    heads: line.length > 37 ? line.slice(37).split(',') : [],
  }))
}
