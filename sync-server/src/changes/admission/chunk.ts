import { hash } from 'node:crypto'
import { inflateRawSync } from 'node:zlib'
import { ByteReader } from './columns.ts'
import { type ChangeLimits, RefusedChange, refuse } from './limits.ts'

/**
 * The frame around a change: magic (4 bytes), checksum (4), type (1), length (ULEB), body.
 *
 * Type 1 is a change, type 2 the same with its body deflated; the hash is always that of the uncompressed chunk, and its
 * first four bytes are the checksum. Types 0 (a whole document) and 3 (a bundle) are not changes and are refused.
 */
const MAGIC = [0x85, 0x6f, 0x4a, 0x83] as const
const CHANGE = 1
const COMPRESSED_CHANGE = 2

export interface ChangeChunk {
  readonly hash: string
  /** The uncompressed body. */
  readonly body: Uint8Array
}

/** The one change chunk that `bytes` is. Refuses anything before, after or instead of it. */
export function readChunk(bytes: Uint8Array, limits: ChangeLimits): ChangeChunk {
  if (bytes.length > limits.bytes) refuse('quota', `a change is at most ${limits.bytes} bytes`)
  if (bytes.length < 11) refuse('invalid', 'shorter than the header of a change')
  if (MAGIC.some((byte, i) => bytes[i] !== byte)) refuse('invalid', 'does not start like a change')
  const type = bytes[8]
  if (type !== CHANGE && type !== COMPRESSED_CHANGE)
    refuse('invalid', 'a chunk of another type than a change')
  const reader = new ByteReader(bytes, 9, bytes.length)
  const length = reader.uleb()
  if (reader.at + length !== bytes.length) refuse('invalid', 'its length is not that of its content')
  const content = bytes.subarray(reader.at)
  const body = type === COMPRESSED_CHANGE ? inflate(content, limits) : content
  // The hash is that of type, length and body as they are uncompressed, which a plain change's own bytes are.
  const hashed = type === CHANGE ? bytes.subarray(8) : Buffer.concat([hashedHeader(body.length), body])
  const digest = hash('sha256', hashed, 'buffer')
  if (digest.compare(bytes, 4, 8, 0, 4) !== 0) refuse('invalid', 'bad checksum')
  return { hash: digest.toString('hex'), body }
}

/** Inflates at most `limits.bytes`, and nothing but the one stream may be there. */
function inflate(content: Uint8Array, limits: ChangeLimits): Uint8Array {
  try {
    // `info` is what tells how much input the stream took; @types/node knows only the plain result.
    const result = inflateRawSync(content, { maxOutputLength: limits.bytes, info: true }) as unknown as {
      buffer: Uint8Array
      engine: { bytesWritten: number }
    }
    if (result.engine.bytesWritten !== content.length) refuse('invalid', 'bytes after its compressed content')
    return result.buffer
  } catch (error) {
    if (error instanceof RefusedChange) throw error
    if ((error as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE')
      refuse('quota', `a change is at most ${limits.bytes} bytes when it is uncompressed`)
    return refuse('invalid', 'its content cannot be uncompressed')
  }
}

function hashedHeader(length: number): Uint8Array {
  const header = [CHANGE]
  let rest = length
  do {
    const low = rest % 128
    rest = Math.floor(rest / 128)
    header.push(rest > 0 ? low | 0x80 : low)
  } while (rest > 0)
  return Uint8Array.from(header)
}
