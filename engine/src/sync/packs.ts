import { zstdDecompressSync } from 'node:zlib'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { PackItem } from '@pluto-duck/crdt-model/protocol'

/** Bytes that a pack may have when it is unpacked: above it the answer is none of ours. */
const MAX_BYTES = 1024 * 1024 * 1024

/** A pack's bytes. `server.unreachable` for what is none. */
export function unpack({ bytes, size }: PackItem): Uint8Array {
  try {
    if (size > MAX_BYTES) throw new Error('too large')
    const out = zstdDecompressSync(bytes, { maxOutputLength: size || 1 })
    if (out.length !== size) throw new Error('another size')
    return out
  } catch (cause) {
    throw new AppError('server.unreachable', 'A pack of the server cannot be unpacked.', { cause })
  }
}
