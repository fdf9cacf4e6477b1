import { toAppError } from '@pluto-duck/crdt-model/errors'
import type { LogItem } from '@pluto-duck/crdt-model/protocol'
import { Erased } from './erased.ts'
import { readLog, readSnapshot } from './exchange.ts'
import type { SyncOptions } from './options.ts'
import type { Standing } from './standing.ts'

/** What the server has, on its way here: the first snapshot, the log's tail, and whole documents where something does not fit. */
export class Incoming {
  readonly #o: SyncOptions
  readonly #standing: Standing
  readonly #stop: AbortSignal
  /** Unreadable documents that were fetched anew already. */
  readonly #fetched = new Set<string>()

  constructor(options: SyncOptions, standing: Standing, stop: AbortSignal) {
    this.#o = options
    this.#standing = standing
    this.#stop = stop
  }

  async snapshot(): Promise<void> {
    const { workspaceId, client, documents } = this.#o
    // What was kept of the workspace when this device left it: something of that may have been erased meanwhile.
    const erased = (await documents.drafts(workspaceId)).length > 0 ? new Erased(this.#o, this.#stop) : null
    const end = await readSnapshot(client, workspaceId, this.#stop, async (items, last) => {
      const seq = last?.seq ?? null
      if (erased === null) await documents.adopt(workspaceId, items, seq)
      else await documents.adopt(workspaceId, items, null, await erased.upToNow())
    })
    if (erased !== null) {
      await documents.cleanDrafts(workspaceId, await erased.upToNow())
      await documents.applyRemote(workspaceId, [], end.seq)
    }
    this.#standing.ahead.clear()
    this.#standing.cursor = end.seq
    this.#standing.serverSeq = end.seq
    this.#standing.more = false
    this.#standing.compare(end.seq, end.digest)
  }

  async pull(): Promise<void> {
    const { workspaceId, client } = this.#o
    const cursor = this.#standing.cursor ?? 0
    const gap = this.#standing.ahead.gapAfter(cursor) ?? undefined
    const { items, end } = await readLog(client, workspaceId, cursor, this.#stop, gap)
    const reached = end && !end.more ? Math.max(end.seq, cursor) : (items.at(-1)?.seq ?? cursor)
    if (end && !end.more && end.seq < cursor) {
      // Its database was put back to an earlier state: numbers mean other changes now, so only the heads can tell.
      this.#o.log('error', 'the log of the server ends before what this device has of it', {
        cursor,
        seq: end.seq,
      })
      this.#standing.ahead.clear()
      this.#standing.serverSeq = end.seq
      this.#standing.more = false
      this.#standing.digest = 'different'
      return
    }
    await this.take(items, reached)
    if (end === null) return
    this.#standing.serverSeq = Math.max(end.seq, reached)
    this.#standing.more = end.more
    if (end.more) return
    this.#standing.noDigest = end.digest === null
    this.#standing.compare(end.seq, end.digest)
  }

  /** Stores a piece of the log that begins right after the cursor, and steps over own changes whose records are known. */
  async take(piece: readonly LogItem[], upTo: number): Promise<void> {
    const { ahead, cursor } = this.#standing
    const reached = ahead.from(upTo)
    if (piece.length === 0 && reached === cursor) return
    const items = piece.filter(item => !ahead.has(item.seq))
    const { diverged } = await this.#o.documents.applyRemote(
      this.#o.workspaceId,
      items,
      reached,
      ahead.upTo(reached),
    )
    ahead.drop(reached)
    for (const documentId of diverged)
      this.#o.log('error', 'a document does not fit the log; it is fetched whole', {
        document_id: documentId,
      })
    this.#standing.cursor = reached
    if (items.length > 0) this.#standing.digest = diverged.length > 0 ? 'different' : 'unknown'
  }

  /** The heads differ though nothing is on its way: take what the server has, keep what only we have as drafts, say so. */
  async heal(): Promise<void> {
    const { workspaceId, documents, client } = this.#o
    const attempt = ++this.#standing.healed
    const there = new Set<string>()
    const drafts: string[] = []
    const erased = new Erased(this.#o, this.#stop)
    this.#o.log('error', 'this device and the server differ; healing', { attempt })
    const end = await readSnapshot(client, workspaceId, this.#stop, async items => {
      for (const item of items) there.add(item.document_id)
      drafts.push(...(await documents.adopt(workspaceId, items, null, await erased.upToNow())).drafts)
    })
    await documents.cleanDrafts(workspaceId, await erased.upToNow())
    for (const { documentId } of documents.list(workspaceId)) {
      // With its pipeline a draft goes too.
      if (there.has(documentId) || !documents.has(documentId) || documents.waiting({ documentId }) > 0)
        continue
      try {
        drafts.push(...(await documents.setAside(documentId)))
      } catch (error) {
        if (toAppError(error).code !== 'document.corrupt') throw error
        this.#o.log('error', 'a document that the server does not have cannot be read', {
          document_id: documentId,
        })
      }
    }
    this.#standing.diverged = documents
      .list(workspaceId)
      .filter(info => !there.has(info.documentId) && documents.waiting({ documentId: info.documentId }) === 0)
      .map(info => info.documentId)
    await documents.applyRemote(workspaceId, [], end.seq)
    this.#standing.ahead.clear()
    this.#standing.cursor = end.seq
    this.#standing.serverSeq = end.seq
    this.#standing.digest = 'unknown'
    const equal = this.#standing.compare(end.seq, end.digest)
    this.#o.log('info', 'healed', { drafts, diverged: this.#standing.diverged, equal })
  }

  /** Fetches documents that cannot be read here anew, each once; false when there is none. */
  async fetchUnreadable(): Promise<boolean> {
    const { workspaceId, documents, client } = this.#o
    const wanted = new Set(documents.unreadable(workspaceId).filter(id => !this.#fetched.has(id)))
    if (wanted.size === 0) return false
    await readSnapshot(client, workspaceId, this.#stop, async items => {
      await documents.adopt(
        workspaceId,
        items.filter(item => wanted.has(item.document_id)),
      )
    })
    for (const documentId of wanted) this.#fetched.add(documentId)
    const left = documents.unreadable(workspaceId).filter(id => wanted.has(id))
    this.#standing.digest = 'unknown'
    this.#o.log(left.length > 0 ? 'error' : 'warn', 'documents that could not be read were fetched anew', {
      documents: [...wanted],
      unreadable: left,
    })
    return true
  }
}
