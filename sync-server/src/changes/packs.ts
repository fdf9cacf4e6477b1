import { hash } from 'node:crypto'
import { constants, zstdCompress, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { encodeItem, LIMITS, type PackItem } from '@pluto-duck/crdt-model/protocol'

/** For what is made once and sent often. */
const KEPT_LEVEL = 9
/** For what is made for one answer. */
const PASSING_LEVEL = 3

const at = (level: number) => ({ params: { [constants.ZSTD_c_compressionLevel]: level } })

/** For bundles. */
export const sha256 = (bytes: Uint8Array): Uint8Array => hash('sha256', bytes, 'buffer')

/** A pack that is kept: compressed well, in the background. */
export function packToKeep(sequence: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) =>
    zstdCompress(sequence, at(KEPT_LEVEL), (error, bytes) => (error ? reject(error) : resolve(bytes))),
  )
}

/** A sequence as one pack item, for an answer that is made now. */
export const packItemOf = (sequence: Uint8Array): Uint8Array =>
  encodeItem({
    pack: 'zstd',
    size: sequence.length,
    bytes: zstdCompressSync(sequence, at(PASSING_LEVEL)),
  })

/**
 * A pack's bytes. `request.invalid` for what is no zstd, is above `LIMITS.packBytes`, or has another size than it says: room is made for
 * that and no more.
 */
export function unpack({ bytes, size }: PackItem): Uint8Array {
  if (size > LIMITS.packBytes)
    throw new AppError('request.too_large', `A pack has at most ${LIMITS.packBytes} bytes.`)
  let out: Buffer
  try {
    out = zstdDecompressSync(bytes, { maxOutputLength: size || 1 })
  } catch (cause) {
    throw new AppError('request.invalid', 'A pack cannot be unpacked.', { cause })
  }
  if (out.length !== size) throw new AppError('request.invalid', 'A pack has another size than it says.')
  return out
}

/** A page of ours. */
export const unpackPage = ({ bytes, size }: { size: number; bytes: Uint8Array }): Uint8Array =>
  zstdDecompressSync(bytes, { maxOutputLength: size || 1 })

/** Gathers items and hands them on as pack items of about `bytes` unpacked. */
export class Packer {
  readonly #send: (item: Uint8Array) => Promise<void>
  readonly #bytes: number
  #parts: Uint8Array[] = []
  #size = 0

  constructor(send: (item: Uint8Array) => Promise<void>, bytes = 1024 * 1024) {
    this.#send = send
    this.#bytes = bytes
  }

  async add(item: Uint8Array): Promise<void> {
    this.#parts.push(item)
    this.#size += item.length
    if (this.#size >= this.#bytes) await this.flush()
  }

  async flush(): Promise<void> {
    if (this.#parts.length === 0) return
    const sequence = Buffer.concat(this.#parts)
    this.#parts = []
    this.#size = 0
    await this.#send(packItemOf(sequence))
  }
}
