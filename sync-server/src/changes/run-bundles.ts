import { createHash } from 'node:crypto'
import { type BundledChange, encodeBundle } from '@pluto-duck/crdt-model/protocol'

/** Shorter runs are packed as quickly as they are looked up. */
const WORTH_KEEPING = 100
const KEPT_BYTES = 16 * 1024 * 1024

/**
 * Bundles of long runs as they came or were last sent: who was away long sends thousands of changes, which all others then read. Found by
 * the hashes of all changes, so what is found is those changes, whatever happened to the log.
 */
export class RunBundles {
  /** In the order of use, least recent first. */
  private readonly kept = new Map<string, Uint8Array>()
  private bytes = 0

  /** Keeps a bundle that holds exactly these changes. */
  keep(changes: readonly { readonly hash: string }[], bundle: Uint8Array): void {
    if (changes.length >= WORTH_KEEPING) this.put(keyOf(changes), bundle.slice())
  }

  /** The changes as one bundle; null when one of them cannot be in one. */
  of(changes: readonly BundledChange[]): Uint8Array | null {
    if (changes.length < WORTH_KEEPING) return encodeBundle(changes)
    const key = keyOf(changes)
    const bundle = this.kept.get(key) ?? encodeBundle(changes)
    if (bundle) this.put(key, bundle)
    return bundle
  }

  private put(key: string, bundle: Uint8Array): void {
    this.bytes += bundle.length - (this.kept.get(key)?.length ?? 0)
    this.kept.delete(key)
    this.kept.set(key, bundle)
    for (const [oldest, { length }] of this.kept) {
      if (this.bytes <= KEPT_BYTES) break
      this.kept.delete(oldest)
      this.bytes -= length
    }
  }
}

function keyOf(changes: readonly { readonly hash: string }[]): string {
  const hash = createHash('sha256')
  for (let from = 0; from < changes.length; from += 500)
    hash.update(
      changes
        .slice(from, from + 500)
        .map(change => change.hash)
        .join(),
    )
  return hash.digest('base64')
}
