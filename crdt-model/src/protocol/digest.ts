import { sha256 } from '@noble/hashes/sha2.js'
import { HeadsTable } from './heads-table.ts'

/** A document and its heads, as both sides of a sync know them: a UUID, and hashes in lower-case hex. */
export interface DocumentHeads {
  readonly document_id: string
  readonly heads: readonly string[]
}

/** One document's line of the digest: `<document_id>:<head>,<head>` and a line feed, its heads sorted. */
export const digestLine = ({ document_id, heads }: DocumentHeads): string =>
  `${document_id}:${heads.toSorted().join(',')}\n`

/** A SHA-256 as node makes it: faster than the one that runs everywhere. */
export interface Sha256 {
  update(text: Uint8Array): unknown
  digest(encoding: 'hex'): string
}

/**
 * The digest of all heads of a workspace: SHA-256, in hex, over the lines of all its documents in order of id. Two devices that
 * both say "in sync" have the same. A document without heads (all of it was taken out again) counts as none; `endItem.digest` carries it with the answer that reaches the log's end.
 */
export function digestOfHeads(documents: Iterable<DocumentHeads>, sha?: () => Sha256): string {
  const heads = new HeadsDigest(sha)
  for (const document of documents) heads.set(document)
  return heads.digest()
}

/**
 * The digest of heads that change one by one. Between two digests only what changed costs anything but the hash itself. It keeps
 * 48 bytes for each head, outside the heap, so that a server can keep those of many documents.
 */
export class HeadsDigest {
  readonly #sha: () => Sha256
  readonly #table = new HeadsTable()
  /** What `replace` was given last. */
  readonly #known = new Map<string, readonly string[]>()

  /** @param sha default: one that runs everywhere. */
  constructor(sha: () => Sha256 = portable) {
    this.#sha = sha
  }

  /** The document has these heads and no others. In order of id it costs least. Throws a `RangeError` for what is no UUID or no hash. */
  set({ document_id, heads }: DocumentHeads): void {
    this.#table.set(document_id, heads)
  }

  /** Makes it hold these and no others. Heads that are the same list as the last time are not looked at. */
  replace(documents: Iterable<DocumentHeads>): void {
    const gone = new Set(this.#known.keys())
    for (const document of documents) {
      gone.delete(document.document_id)
      if (this.#known.get(document.document_id) === document.heads) continue
      this.set(document)
      this.#known.set(document.document_id, document.heads)
    }
    for (const id of gone) {
      this.#known.delete(id)
      this.#table.set(id, [])
    }
  }

  digest(): string {
    const hash = this.#sha()
    for (const lines of this.#table.lines()) hash.update(lines)
    return hash.digest('hex')
  }
}

function portable(): Sha256 {
  const hash = sha256.create()
  return {
    update: text => hash.update(text),
    digest: () => [...hash.digest()].map(byte => byte.toString(16).padStart(2, '0')).join(''),
  }
}
