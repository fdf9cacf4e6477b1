import { sha256 } from '@noble/hashes/sha2.js'

/** A document and its heads, as both sides of a sync know them. */
export interface DocumentHeads {
  readonly document_id: string
  readonly heads: readonly string[]
}

/** One document's line of the digest: `<document_id>:<head>,<head>` and a line feed, its heads sorted. */
export const digestLine = ({ document_id, heads }: DocumentHeads): string =>
  `${document_id}:${heads.toSorted().join(',')}\n`

/**
 * The digest of all heads of a workspace: SHA-256, in hex, over the lines of all its documents in order of id. Two devices that
 * both say "in sync" have the same. A document without heads (all of it was taken out again) counts as none; `endItem.digest` carries it with the answer that reaches the log's end.
 */
export function digestOfHeads(documents: Iterable<DocumentHeads>): string {
  const sorted = [...documents]
    .filter(one => one.heads.length > 0)
    .sort((a, b) => (a.document_id < b.document_id ? -1 : 1))
  const hash = sha256.create()
  const encoder = new TextEncoder()
  for (const document of sorted) hash.update(encoder.encode(digestLine(document)))
  return [...hash.digest()].map(byte => byte.toString(16).padStart(2, '0')).join('')
}
