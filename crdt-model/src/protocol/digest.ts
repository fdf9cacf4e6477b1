import { sha256 } from '@noble/hashes/sha2.js'

/** A document and its heads, as both sides of a sync know them. */
export interface DocumentHeads {
  readonly document_id: string
  readonly heads: readonly string[]
}

/** One document's line of the digest: `<document_id>:<head>,<head>` and a line feed, its heads sorted. */
export const digestLine = ({ document_id, heads }: DocumentHeads): string =>
  `${document_id}:${heads.toSorted().join(',')}\n`

/** A SHA-256 as node makes it: faster than the one that runs everywhere. */
export interface Sha256 {
  update(text: string): unknown
  digest(encoding: 'hex'): string
}

/**
 * The digest of all heads of a workspace: SHA-256, in hex, over the lines of all its documents in order of id. Two devices that
 * both say "in sync" have the same. A document without heads (all of it was taken out again) counts as none; `endItem.digest` carries it with the answer that reaches the log's end.
 */
export function digestOfHeads(documents: Iterable<DocumentHeads>, sha?: () => Sha256): string {
  const lines = new HeadsDigest(sha)
  lines.replace(documents)
  return lines.digest()
}

/**
 * The digest of heads that change one by one. Between two digests only what changed costs anything but the hash itself: lines are
 * kept, in order.
 */
export class HeadsDigest {
  readonly #sha: () => Sha256
  readonly #known = new Map<string, readonly string[]>()
  readonly #lines = new Map<string, string>()
  /** Every id with a line, and perhaps some without; in order unless `#sorted` is false. */
  #ids: string[] = []
  #sorted = true

  /** @param sha default: one that runs everywhere. */
  constructor(sha: () => Sha256 = portable) {
    this.#sha = sha
  }

  set(document: DocumentHeads): void {
    const id = document.document_id
    if (document.heads.length === 0) {
      this.#lines.delete(id)
      return
    }
    if (!this.#lines.has(id)) {
      this.#sorted &&= this.#ids.length === 0 || (this.#ids.at(-1) as string) < id
      this.#ids.push(id)
    }
    this.#lines.set(id, digestLine(document))
  }

  /** Makes it hold these and no others. Heads that are the same list as the last time are not looked at. */
  replace(documents: Iterable<DocumentHeads>): void {
    const gone = new Set(this.#known.keys())
    for (const document of documents) {
      gone.delete(document.document_id)
      if (this.#known.get(document.document_id) === document.heads) continue
      this.#known.set(document.document_id, document.heads)
      this.set(document)
    }
    for (const id of gone) {
      this.#known.delete(id)
      this.#lines.delete(id)
    }
  }

  digest(): string {
    // One that left and came again stands here twice.
    if (this.#ids.length !== this.#lines.size) {
      this.#ids = [...this.#lines.keys()]
      this.#sorted = false
    }
    if (!this.#sorted) this.#ids.sort()
    this.#sorted = true
    const hash = this.#sha()
    for (let from = 0; from < this.#ids.length; from += BLOCK) {
      let block = ''
      for (const id of this.#ids.slice(from, from + BLOCK)) block += this.#lines.get(id)
      hash.update(block)
    }
    return hash.digest('hex')
  }
}

/** Lines that are hashed in one go. */
const BLOCK = 1_000

function portable(): Sha256 {
  const hash = sha256.create()
  const encoder = new TextEncoder()
  return {
    update: text => hash.update(encoder.encode(text)),
    digest: () => [...hash.digest()].map(byte => byte.toString(16).padStart(2, '0')).join(''),
  }
}
