import { hash } from 'node:crypto'
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { encodeItem, type PackItem } from '@pluto-duck/crdt-model/protocol'

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

/** A push is small, and goes over somebody's mobile phone: compressed better than fast. */
const LEVEL = 9

/** A sequence as one pack item. */
export const packItemOf = (sequence: Uint8Array): Uint8Array =>
  encodeItem({
    pack: 'zstd',
    size: sequence.length,
    bytes: zstdCompressSync(sequence, { params: { [constants.ZSTD_c_compressionLevel]: LEVEL } }),
  })

/** For bundles. */
export const sha256 = (bytes: Uint8Array): Uint8Array => hash('sha256', bytes, 'buffer')
