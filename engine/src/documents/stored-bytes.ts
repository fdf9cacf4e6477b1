import { hash } from 'node:crypto'

const MAGIC = Buffer.from([0x85, 0x6f, 0x4a, 0x83])
const CHECKSUM_AT = 4
const TYPE_AT = 8
/** A document and a plain change; a deflated change's checksum is of what it holds, which only a load can tell. */
const CHECKED_TYPES = new Set([0, 1])

/**
 * A document's stored chunks as one, when each is whole by its own checksum; else null: then only loading tells. Reading a
 * document of 260 k keystrokes so costs a millisecond, loading it a second.
 */
export function storedBytes(
  snapshot: Uint8Array | null,
  changes: readonly { readonly bytes: Uint8Array }[],
): Uint8Array | null {
  const bytes = Buffer.concat([...(snapshot ? [snapshot] : []), ...changes.map(change => change.bytes)])
  if (bytes.length === 0) return null
  for (let at = 0; at < bytes.length; ) {
    const end = endOfChunk(bytes, at)
    if (end === null) return null
    const sum = hash('sha256', bytes.subarray(at + TYPE_AT, end), 'buffer')
    if (!sum.subarray(0, 4).equals(bytes.subarray(at + CHECKSUM_AT, at + TYPE_AT))) return null
    at = end
  }
  return new Uint8Array(bytes)
}

function endOfChunk(bytes: Buffer, at: number): number | null {
  if (!bytes.subarray(at, at + CHECKSUM_AT).equals(MAGIC)) return null
  if (!CHECKED_TYPES.has(bytes[at + TYPE_AT] ?? -1)) return null
  let [length, factor, next] = [0, 1, at + TYPE_AT + 1]
  for (;;) {
    const byte = bytes[next++]
    if (byte === undefined || factor > 2 ** 42) return null
    length += (byte & 0x7f) * factor
    if (byte < 0x80) break
    factor *= 128
  }
  return next + length <= bytes.length ? next + length : null
}
