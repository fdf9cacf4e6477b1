import { type RawBuilder, sql } from 'kysely'
import type { Trial } from './admission/trial.ts'
import type { Commit } from './append.ts'
import { type LogDatabase, readDocumentBytes, readDocuments } from './store.ts'

export interface SnapshotOptions {
  readonly db: LogDatabase
  /** A trial of its own, so that compacting a large document makes no append wait. */
  readonly trial: Trial
  /** Changes behind a snapshot after which a document is compacted. Default 100. */
  readonly afterChanges?: number
  /** Bytes behind a snapshot after which a document is compacted. Default 64 KiB. */
  readonly afterBytes?: number
  /** Milliseconds without a change that such a document is left first: it is not compacted while somebody types. Default 0. */
  readonly quietMs?: number
  /** The document was found not to load and takes no more changes. Waited for: what mends it. */
  readonly onCorrupt: (workspaceId: string, documentId: string, reason: string) => void | Promise<void>
  readonly onError: (error: unknown) => void
}

/** A document that was due for so many times `quietMs` is compacted although somebody types. */
const NO_REST = 20

/** Compacts documents in the background, one at a time, and proves each before it is kept. */
export class Snapshots {
  private readonly options: Required<SnapshotOptions>
  private readonly grown = new Map<string, { changes: number; bytes: number }>()
  private readonly due = new Map<string, { workspaceId: string; documentId: string }>()
  private readonly resting = new Map<string, { readonly timer: NodeJS.Timeout; readonly since: number }>()
  private running: Promise<void> | null = null
  private closed = false

  constructor(options: SnapshotOptions) {
    this.options = { afterChanges: 100, afterBytes: 64 * 1024, quietMs: 0, ...options }
  }

  /** Counts what was committed. */
  note(commit: Commit): void {
    const { afterChanges, afterBytes, quietMs } = this.options
    const touched = new Set<string>()
    for (const { document, bytes } of commit.changes) {
      const grown = this.grown.get(document.id) ?? { changes: 0, bytes: 0 }
      grown.changes++
      grown.bytes += bytes.length
      this.grown.set(document.id, grown)
      touched.add(document.id)
    }
    for (const documentId of touched) {
      const { changes, bytes } = this.grown.get(documentId)!
      if (changes < afterChanges && bytes < afterBytes) continue
      if (quietMs > 0) this.rest(commit.workspaceId, documentId)
      else this.request(commit.workspaceId, documentId)
    }
  }

  private rest(workspaceId: string, documentId: string): void {
    if (this.closed) return
    const { quietMs } = this.options
    const now = performance.now()
    const resting = this.resting.get(documentId)
    if (!resting) {
      const timer = setTimeout(() => this.request(workspaceId, documentId), quietMs).unref()
      this.resting.set(documentId, { timer, since: now })
    } else if (now - resting.since < NO_REST * quietMs) resting.timer.refresh()
  }

  /** The document's log holds what could not have been admitted: read-only from now on, and mended in its turn. */
  async condemn(workspaceId: string, documentId: string, reason: string): Promise<void> {
    await sql`
      update documents set corrupt = ${reason}
      where workspace_id = ${workspaceId} and id = ${documentId} and corrupt is null`.execute(this.options.db)
    this.request(workspaceId, documentId)
  }

  /** Asks for the documents that were found not to load before this process began. */
  async resume(): Promise<void> {
    const { rows } = await sql<{ workspace_id: string; id: string }>`
      select workspace_id, id from documents where corrupt is not null`.execute(this.options.db)
    for (const { workspace_id, id } of rows) this.request(workspace_id, id)
  }

  request(workspaceId: string, documentId: string): void {
    if (this.closed) return
    this.grown.delete(documentId)
    clearTimeout(this.resting.get(documentId)?.timer)
    this.resting.delete(documentId)
    this.due.set(documentId, { workspaceId, documentId })
    this.running ??= this.run()
  }

  /** Resolves when nothing is due. */
  async idle(): Promise<void> {
    while (this.running) await this.running
  }

  async close(): Promise<void> {
    this.closed = true
    for (const { timer } of this.resting.values()) clearTimeout(timer)
    this.due.clear()
    await this.idle()
  }

  private async run(): Promise<void> {
    // What was asked for in the same turn is one snapshot.
    await new Promise(resolve => setImmediate(resolve))
    for (const [id, { workspaceId, documentId }] of this.due) {
      this.due.delete(id)
      try {
        await this.compact(workspaceId, documentId)
      } catch (error) {
        this.options.onError(error)
      }
    }
    this.running = null
    if (this.due.size > 0) this.running = this.run()
  }

  /** Compacts one document now. */
  async compact(workspaceId: string, documentId: string): Promise<void> {
    const { db, trial } = this.options
    const [document] = await readDocuments(db, workspaceId, [documentId])
    // A draft is its own few changes on its base: there is nothing to compact, and its base's history is not copied.
    if (!document) return
    if (document.corrupt !== null) {
      await this.options.onCorrupt(workspaceId, documentId, document.corrupt)
      return
    }
    if (document.base !== null || document.heads.length === 0) return
    const result = await trial.snapshot({
      id: documentId,
      heads: document.heads,
      load: () => readDocumentBytes(db, workspaceId, documentId, document.seq),
    })
    if ('failed' in result) {
      // While changes are taken out the document is read half before and half after: that says nothing of it.
      const condemned = await this.unlessTakenOut(
        workspaceId,
        document,
        sql`update documents set corrupt = ${result.failed} where true`,
      )
      if (condemned) await this.options.onCorrupt(workspaceId, documentId, result.failed)
      else this.request(workspaceId, documentId)
      return
    }
    // A newer one by another server stays.
    await this.unlessTakenOut(
      workspaceId,
      document,
      sql`
        update documents set snapshot = ${Buffer.from(result.bytes)}, snapshot_seq = ${document.seq}, snapshot_at = now()
        where snapshot_seq < ${document.seq}`,
    )
  }

  /** Writes what was found of a document unless something was taken out of it since. Answers whether it did. */
  private async unlessTakenOut(
    workspaceId: string,
    { id, seq }: { readonly id: string; readonly seq: number },
    update: RawBuilder<unknown>,
  ): Promise<boolean> {
    return await this.options.db.transaction().execute(async tx => {
      // A statement of its own: one that waits for a row looks at other rows as they were before it waited. Whoever takes something
      // out writes this row last. Before this lock, the next statement sees the record of it; after it, what is written here is emptied.
      await sql`
        select 1 from documents where workspace_id = ${workspaceId} and id = ${id} for no key update`.execute(
        tx,
      )
      const { rows } = await sql`
        ${update} and workspace_id = ${workspaceId} and id = ${id} and not exists (
          select 1 from log_records where workspace_id = ${workspaceId} and document_id = ${id}
            and record = 'void' and seq > ${seq}
        ) returning id`.execute(tx)
      return rows.length > 0
    })
  }
}
