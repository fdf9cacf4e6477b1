import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, utf8ToBytes } from '@noble/hashes/utils.js'

/**
 * The digest of all heads of a workspace: the XOR over its documents of sha256(`<document_id>:<heads, sorted, joined by ",">`).
 * Documents without changes don't count. XOR makes it independent of order, and lets whoever keeps it replace one document's
 * part when its heads change. It finds differences between honest peers; it proves nothing against a forger.
 */
export function headsDigest(parts: Iterable<Uint8Array>): string {
  const sum = new Uint8Array(32)
  for (const part of parts) for (let i = 0; i < 32; i++) sum[i] = (sum[i] as number) ^ (part[i] as number)
  return bytesToHex(sum)
}

/** One document's part of the digest: 32 bytes. */
export const headsDigestPart = (documentId: string, heads: readonly string[]): Uint8Array =>
  sha256(utf8ToBytes(`${documentId}:${[...heads].sort().join(',')}`))
