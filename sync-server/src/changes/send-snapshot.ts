import { encodeItem, packItemHead } from '@pluto-duck/crdt-model/protocol'
import { Packer, unpackPage } from './packs.ts'
import { readSnapshot } from './read.ts'
import { readPage, readPages } from './snapshot-pages.ts'
import type { Executor } from './store.ts'

/** Changes behind a snapshot at which whoever serves it asks for a new one. */
const LONG_TAIL = 200

export interface SentSnapshot {
  /** Documents that should be compacted. */
  readonly longTails: readonly string[]
  /** Documents that were in no page, or had changed since. */
  readonly outside: number
}

/**
 * Sends every document: first those that changed since their page was made, then the pages as they are. The first item of a
 * document counts, so the older one in its page does no harm. One page is in memory at a time. Throws when a page is thrown away
 * meanwhile, as when something is taken out of the log: what was sent is not everything then.
 */
export async function sendSnapshot(
  db: Executor,
  workspaceId: string,
  to: {
    readonly write: (part: Uint8Array) => Promise<void>
    readonly packed: boolean
    readonly signal: AbortSignal
  },
): Promise<SentSnapshot> {
  const longTails: string[] = []
  let outside = 0
  const packer = new Packer(to.write)
  // Listed once, before the others: whatever is made or thrown away meanwhile, each document is in one of these or is sent beside them.
  const pages = await readPages(db, workspaceId)
  for await (const { item, tailChanges } of readSnapshot(db, workspaceId, { outside: pages })) {
    if (to.signal.aborted) break
    outside++
    if (tailChanges >= LONG_TAIL) longTails.push(item.document_id)
    const encoded = encodeItem({ ...item })
    if (to.packed) await packer.add(encoded)
    else await to.write(encoded)
  }
  await packer.flush()
  for (const { pageId } of pages) {
    if (to.signal.aborted) break
    const page = await readPage(db, workspaceId, pageId)
    if (!page) throw new Error('a page was thrown away while it was being sent')
    if (to.packed) {
      await to.write(packItemHead(page))
      for (const piece of page.pieces) await to.write(piece)
    } else await to.write(unpackPage({ size: page.size, bytes: Buffer.concat(page.pieces) }))
  }
  return { longTails, outside }
}
