import { createHash } from 'node:crypto'
import { HeadsDigest } from '@pluto-duck/crdt-model/protocol'
import type { Documents } from '../documents/index.ts'
import { Ahead } from './ahead.ts'
import type { SyncView } from './plan.ts'

/** Where this device stands beside the server: what it has of the log, what it heard of the log's end, and whether the heads are equal. */
export class Standing {
  /** Everything up to here is stored on this machine; null before the first sync. */
  cursor: number | null = null
  /** The server's seq as last heard; null when it has to be asked. */
  serverSeq: number | null = null
  /** The log has more than the last page. */
  more = false
  /** Own changes that are stored on the server beyond the cursor, with what others wrote in between. */
  ahead = new Ahead()
  digest: SyncView['digest'] = 'unknown'
  /** The server told no digest at the log's end. */
  noDigest = false
  /** Healings in a row that did not help. */
  healed = 0
  /** Documents that differ from the server's after healing. */
  diverged: readonly string[] = []
  readonly #heads = new HeadsDigest(() => createHash('sha256'))
  readonly #documents: Documents
  readonly #workspaceId: string

  constructor(of: { readonly workspaceId: string; readonly documents: Documents }) {
    this.#documents = of.documents
    this.#workspaceId = of.workspaceId
  }

  /** The digest says something only of the same state: nothing waits here, and the cursor is where it was taken. */
  compare(seq: number, digest: string | null): boolean {
    const documents = this.#documents
    const workspaceId = this.#workspaceId
    if (digest === null || this.cursor !== seq || documents.waiting({ workspaceId }) > 0) {
      this.digest = this.digest === 'different' ? 'different' : 'unknown'
      return false
    }
    this.#heads.replace(
      documents.list(workspaceId).map(info => ({ document_id: info.documentId, heads: info.heads })),
    )
    const mine = this.#heads.digest()
    this.digest = mine === digest ? 'equal' : 'different'
    if (mine !== digest) return false
    this.healed = 0
    this.diverged = []
    return true
  }
}
