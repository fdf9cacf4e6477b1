import { encodeItem, newId } from '@pluto-duck/crdt-model/protocol'
import { sql } from 'kysely'
import type { Commit } from './append.ts'
import { packToKeep } from './packs.ts'
import { FIRST_ID, LAST_ID, readSnapshot } from './read.ts'
import { type Executor, type LogDatabase, readSeq } from './store.ts'

/** Bytes of a page, unpacked. */
const PAGE_BYTES = 1024 * 1024
/** Documents outside the pages at which pages are made again: each of them costs whoever opens the workspace a little. */
const WORTH_BUILDING = 64
/** Changes behind a document's snapshot that make it worth compacting before it goes into a page. */
const SHORT_TAIL = 4
/** How long a page that was replaced stays, for who is reading it. */
const KEEP_REPLACED = '10 minutes'

export interface PageOptions {
  readonly db: LogDatabase
  /** Compacts one document (`Snapshots.compact`). */
  readonly compact: (workspaceId: string, documentId: string) => Promise<void>
  readonly onError: (error: unknown) => void
  /** Milliseconds after a commit before pages are made. Default 2,000: what comes together is done together. */
  readonly delayMs?: number
}

export interface Page {
  readonly pageId: string
  readonly lastId: string
  readonly seq: number
}

/**
 * Keeps what a new device is sent ready: every document of a workspace, in compressed pages by ranges of ids (rule LOG15). Serving a
 * page is a read of its bytes. Documents that changed since their page was made are sent beside the pages, and when there are
 * many of them their pages are made again, in the background.
 */
export class SnapshotPages {
  private readonly options: Required<PageOptions>
  private readonly changed = new Map<string, Set<string>>()
  private readonly due = new Set<string>()
  private timer: NodeJS.Timeout | null = null
  private running: Promise<void> | null = null
  private closed = false

  constructor(options: PageOptions) {
    this.options = { delayMs: 2_000, ...options }
  }

  note(commit: Commit): void {
    const changed = this.changed.get(commit.workspaceId) ?? new Set()
    this.changed.set(commit.workspaceId, changed)
    for (const { document } of commit.changes) if (changed.size < WORTH_BUILDING) changed.add(document.id)
    if (changed.size >= WORTH_BUILDING) this.request(commit.workspaceId)
  }

  /** Who served a workspace tells how many documents were not in its pages. */
  served(workspaceId: string, outside: number): void {
    if (outside >= WORTH_BUILDING) this.request(workspaceId)
  }

  /** Makes the workspace's pages again soon. */
  request(workspaceId: string): void {
    if (this.closed) return
    this.due.add(workspaceId)
    this.timer ??= setTimeout(() => {
      this.timer = null
      this.running ??= this.run()
    }, this.options.delayMs).unref()
  }

  async close(): Promise<void> {
    this.closed = true
    if (this.timer) clearTimeout(this.timer)
    this.due.clear()
    await this.running
  }

  private async run(): Promise<void> {
    for (const workspaceId of this.due) {
      this.due.delete(workspaceId)
      this.changed.delete(workspaceId)
      try {
        await this.build(workspaceId)
      } catch (error) {
        this.options.onError(error)
      }
    }
    this.running = null
  }

  /** Makes every page anew in whose range something changed. Of several servers one does it. */
  async build(workspaceId: string): Promise<void> {
    await this.compactTails(workspaceId)
    if (this.closed) return
    await this.options.db.transaction().execute(async tx => {
      const { rows } = await sql<{ mine: boolean }>`
        select pg_try_advisory_xact_lock(hashtextextended('pages ' || ${workspaceId}, 0)) as mine`.execute(tx)
      if (!rows[0]?.mine) return
      // Before anything else is read: what is committed later is found to be outside the pages.
      const seq = await readSeq(tx, workspaceId)
      await sql`
        delete from snapshot_pages
        where workspace_id = ${workspaceId} and replaced_at < now() - ${KEEP_REPLACED}::interval`.execute(tx)
      const pages = await readPages(tx, workspaceId)
      // The ranges leave no gap: the first begins at the first id, the last ends at the last one.
      const ranges = pages.length > 0 ? pages : [{ pageId: null, lastId: LAST_ID }]
      const outdated = await readOutdated(tx, workspaceId, pages)
      let after = FIRST_ID
      for (const range of ranges) {
        if (range.pageId === null || outdated.has(range.pageId)) {
          if (range.pageId !== null)
            await sql`
              update snapshot_pages set replaced_at = now()
              where workspace_id = ${workspaceId} and page_id = ${range.pageId}`.execute(tx)
          await this.buildRange(tx, workspaceId, { after, upTo: range.lastId, seq })
        }
        after = range.lastId
      }
      await sql`
        update snapshot_pages set seq = ${seq}
        where workspace_id = ${workspaceId} and replaced_at is null and seq < ${seq}`.execute(tx)
      await assertNothingTakenOut(tx, workspaceId, seq)
    })
  }

  private async compactTails(workspaceId: string): Promise<void> {
    const { rows } = await sql<{ id: string }>`
      select d.id from documents d
      where d.workspace_id = ${workspaceId} and d.seq > d.snapshot_seq and d.base is null and d.corrupt is null
        and (select count(*) from (
          select 1 from changes c
          where c.workspace_id = d.workspace_id and c.document_id = d.id and c.seq > d.snapshot_seq
          limit ${SHORT_TAIL + 1}
        ) as tail) > ${SHORT_TAIL}`.execute(this.options.db)
    for (const { id } of rows) {
      if (this.closed) return
      await this.options.compact(workspaceId, id)
    }
  }

  private async buildRange(
    tx: Executor,
    workspaceId: string,
    range: { after: string; upTo: string; seq: number },
  ): Promise<void> {
    let parts: Uint8Array[] = []
    let [size, lastId] = [0, range.after]
    const put = async (last: string): Promise<void> => {
      const bytes = Buffer.from(await packToKeep(Buffer.concat(parts)))
      await sql`
        insert into snapshot_pages (workspace_id, page_id, last_id, seq, documents, size, bytes)
        values (${workspaceId}, ${newId()}, ${last}, ${range.seq}, ${parts.length}, ${size}, ${bytes})`.execute(
        tx,
      )
      parts = []
      size = 0
    }
    for await (const { item } of readSnapshot(tx, workspaceId, range)) {
      const encoded = encodeItem({ ...item })
      if (size > 0 && size + encoded.length > PAGE_BYTES) await put(lastId)
      parts.push(encoded)
      size += encoded.length
      lastId = item.document_id
    }
    await put(range.upTo)
  }
}

/** The pages that count, in order of their ranges. */
export async function readPages(db: Executor, workspaceId: string): Promise<Page[]> {
  const { rows } = await sql<{ page_id: string; last_id: string; seq: string }>`
    select page_id, last_id, seq from snapshot_pages
    where workspace_id = ${workspaceId} and replaced_at is null order by last_id`.execute(db)
  return rows.map(row => ({ pageId: row.page_id, lastId: row.last_id, seq: Number(row.seq) }))
}

/** Bytes of a page's pieces. In base64 one is less than what is read of a socket at once. */
const PIECE = 45_000

export interface PagePack {
  /** Unpacked. */
  readonly size: number
  readonly length: number
  readonly pieces: readonly Uint8Array[]
}

/**
 * One page's pack, in pieces; null when it was thrown away meanwhile. As one value in hex it was ten times its bytes in memory until the
 * next collection: what is read of a socket, joined again and again, the text, the bytes.
 */
export async function readPage(db: Executor, workspaceId: string, pageId: string): Promise<PagePack | null> {
  const { rows } = await sql<{ size: number; length: number; piece: string }>`
    select p.size, octet_length(p.bytes) as length, encode(substring(p.bytes from n for ${sql.lit(PIECE)}), 'base64') as piece
    from snapshot_pages p cross join lateral generate_series(1, octet_length(p.bytes), ${sql.lit(PIECE)}) n
    where p.workspace_id = ${workspaceId} and p.page_id = ${pageId} order by n`.execute(db)
  const [first] = rows
  if (!first) return null
  const pieces = rows.map(row => Buffer.from(row.piece, 'base64'))
  return { size: first.size, length: first.length, pieces }
}

/**
 * Whoever takes something out of the log holds the counter's lock: it was done before, which shows, or comes after these pages and
 * throws them away.
 */
async function assertNothingTakenOut(tx: Executor, workspaceId: string, since: number): Promise<void> {
  await sql`select seq from workspace_counters where workspace_id = ${workspaceId} for share`.execute(tx)
  const { rows } = await sql`
    select seq from log_records
    where workspace_id = ${workspaceId} and seq > ${since} and record = 'void' limit 1`.execute(tx)
  if (rows.length > 0) throw new Error('something was taken out of the log while its pages were made')
}

async function readOutdated(db: Executor, workspaceId: string, pages: readonly Page[]): Promise<Set<string>> {
  if (pages.length === 0) return new Set()
  const { rows } = await sql<{ page_id: string }>`
    select distinct p.page_id from documents d cross join lateral (
      select page_id, seq from snapshot_pages p
      where p.workspace_id = d.workspace_id and p.replaced_at is null and p.last_id >= d.id
      order by p.last_id limit 1
    ) p
    where d.workspace_id = ${workspaceId} and d.seq > ${Math.min(...pages.map(page => page.seq))} and d.seq > p.seq`.execute(
    db,
  )
  return new Set(rows.map(row => row.page_id))
}
