import { isUint8Array } from 'node:util/types'

/**
 * A CBOR value as it is to be written, well-formed or not: maps are lists of entries, so that a key may come twice or be no
 * text, and `raw` is written as it is.
 */
export type Cbor =
  | null
  | undefined
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly Cbor[]
  | { readonly map: readonly (readonly [Cbor, Cbor])[]; readonly indefinite?: boolean }
  | { readonly tag: number; readonly value: Cbor }
  | { readonly raw: Uint8Array }

const head = (major: number, argument: number | bigint, wide = false): number[] => {
  const value = BigInt(argument)
  const first = major << 5
  if (!wide && value < 24n) return [first | Number(value)]
  const size = wide || value >= 2n ** 32n ? 8 : value < 256n ? 1 : value < 65_536n ? 2 : 4
  const bytes: number[] = []
  for (let i = size - 1; i >= 0; i--) bytes.push(Number((value >> BigInt(8 * i)) & 255n))
  return [first | { 1: 24, 2: 25, 4: 26, 8: 27 }[size as 1 | 2 | 4 | 8], ...bytes]
}

const double = (value: number): number[] => {
  const bytes = Buffer.alloc(8)
  bytes.writeDoubleBE(value)
  return [0xfb, ...bytes]
}

const isList = (value: object): value is readonly Cbor[] => Array.isArray(value)

/** `wide`: lengths and numbers in eight bytes, which is not their shortest form. */
export const encodeCbor = (value: Cbor, wide = false): number[] => {
  const encode = (inner: Cbor): number[] => encodeCbor(inner, wide)
  if (value === null) return [0xf6]
  if (value === undefined) return [0xf7]
  if (typeof value === 'boolean') return [value ? 0xf5 : 0xf4]
  if (typeof value === 'number' && !Number.isSafeInteger(value)) return double(value)
  if (typeof value === 'number' || typeof value === 'bigint')
    return value < 0 ? head(1, -1n - BigInt(value), wide) : head(0, value, wide)
  if (typeof value === 'string') {
    const bytes = Buffer.from(value)
    return [...head(3, bytes.length, wide), ...bytes]
  }
  if (isUint8Array(value)) return [...head(2, value.length, wide), ...value]
  if (isList(value)) return [...head(4, value.length, wide), ...value.flatMap(encode)]
  if ('raw' in value) return [...value.raw]
  if ('tag' in value) return [...head(6, value.tag, wide), ...encode(value.value)]
  if ('map' in value) {
    const entries = value.map.flatMap(([key, inner]) => [...encode(key), ...encode(inner)])
    return value.indefinite ? [0xbf, ...entries, 0xff] : [...head(5, value.map.length, wide), ...entries]
  }
  throw new TypeError('no CBOR value')
}
