/**
 * Reads the CBOR (RFC 8949) of which the wire's items are made: whole numbers within 2^53, bytes, texts, lists, maps with texts as keys,
 * booleans and null, each in its shortest form and of definite length. Anything else throws. Bytes are copies: what keeps a change keeps
 * no request alive.
 */
export type CborValue =
  | number
  | string
  | boolean
  | null
  | Uint8Array
  | CborValue[]
  | { [key: string]: CborValue }

/** The value that takes exactly these bytes. */
export function decodeCbor(bytes: Uint8Array): CborValue {
  const reader = new Reader(bytes)
  const value = reader.value()
  if (reader.at !== bytes.length) throw broken('bytes after its end')
  return value
}

const UINT = 0
const NEGATIVE = 1
const BYTES = 2
const TEXT = 3
const LIST = 4
const MAP = 5
const SIMPLE = 7
/** Texts up to here are read faster letter by letter, when they are ASCII. */
const SHORT = 24

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const broken = (what: string): Error => new Error(`not the CBOR of an item: ${what}`)

class Reader {
  readonly #bytes: Uint8Array
  at = 0

  constructor(bytes: Uint8Array) {
    // A Buffer's own methods are slower, and its `slice` copies nothing.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  value(): CborValue {
    const first = this.#byte()
    const major = first >> 5
    const info = first & 31
    if (major === SIMPLE) {
      if (info === 20) return false
      if (info === 21) return true
      if (info === 22) return null
      throw broken('a value of another kind')
    }
    const argument = this.#argument(info)
    switch (major) {
      case UINT:
        return argument
      case NEGATIVE:
        return -1 - argument
      case BYTES:
        return this.#take(argument).slice()
      case TEXT:
        return this.#text(argument)
      case LIST: {
        const list: CborValue[] = []
        for (let i = 0; i < argument; i++) list.push(this.value())
        return list
      }
      case MAP: {
        const map: { [key: string]: CborValue } = {}
        for (let i = 0; i < argument; i++) {
          const key = this.#key()
          if (Object.hasOwn(map, key) || key === '__proto__') throw broken('a key twice, or none of ours')
          map[key] = this.value()
        }
        return map
      }
      default:
        throw broken('a tag')
    }
  }

  #key(): string {
    const first = this.#byte()
    if (first >> 5 !== TEXT) throw broken('a key that is no text')
    return this.#text(this.#argument(first & 31))
  }

  #text(length: number): string {
    const part = this.#take(length)
    if (length < SHORT) {
      let out = ''
      for (const byte of part) {
        if (byte > 127) return utf8.decode(part)
        out += String.fromCharCode(byte)
      }
      return out
    }
    return utf8.decode(part)
  }

  /** A number, or a length, which has one shortest form. */
  #argument(info: number): number {
    if (info < 24) return info
    if (info > 27) throw broken('an indefinite length')
    const size = 2 ** (info - 24)
    let value = 0
    for (const byte of this.#take(size)) value = value * 256 + byte
    if (value < (size === 1 ? 24 : 2 ** (4 * size))) throw broken('a number in a longer form than it needs')
    if (value > Number.MAX_SAFE_INTEGER) throw broken('a number beyond 2^53')
    return value
  }

  #byte(): number {
    const byte = this.#bytes[this.at++]
    if (byte === undefined) throw broken('it is cut')
    return byte
  }

  #take(length: number): Uint8Array {
    const end = this.at + length
    if (end > this.#bytes.length) throw broken('it is cut')
    const part = this.#bytes.subarray(this.at, end)
    this.at = end
    return part
  }
}
