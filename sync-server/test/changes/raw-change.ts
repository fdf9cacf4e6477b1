import { createHash } from 'node:crypto'
import { deflateRawSync } from 'node:zlib'

/** Writes change chunks byte by byte, so that a forgery may hold what no encoder would write. */
export interface RawChange {
  deps: string[]
  actor: string
  seq: number
  startOp: number
  time: number
  message: string
  others: string[]
  columns: [spec: number, bytes: Uint8Array][]
  extra: Uint8Array
}

export function uleb(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  do {
    const low = rest % 128
    rest = Math.floor(rest / 128)
    bytes.push(rest > 0 ? low | 0x80 : low)
  } while (rest > 0)
  return bytes
}

export function sleb(value: number): number[] {
  const bytes: number[] = []
  let rest = BigInt(value)
  for (;;) {
    const low = Number(rest & 0x7fn)
    rest >>= 7n
    if ((rest === 0n && !(low & 0x40)) || (rest === -1n && low & 0x40)) return [...bytes, low]
    bytes.push(low | 0x80)
  }
}

const hexBytes = (hex: string): number[] => [...Buffer.from(hex, 'hex')]
const sized = (bytes: readonly number[]): number[] => [...uleb(bytes.length), ...bytes]

export function rawBody(change: RawChange): Uint8Array {
  return Uint8Array.from([
    ...uleb(change.deps.length),
    ...change.deps.flatMap(hexBytes),
    ...sized(hexBytes(change.actor)),
    ...uleb(change.seq),
    ...uleb(change.startOp),
    ...sleb(change.time),
    ...sized([...Buffer.from(change.message)]),
    ...uleb(change.others.length),
    ...change.others.flatMap(actor => sized(hexBytes(actor))),
    ...uleb(change.columns.length),
    ...change.columns.flatMap(([spec, bytes]) => [...uleb(spec), ...uleb(bytes.length)]),
    ...change.columns.flatMap(([, bytes]) => [...bytes]),
    ...change.extra,
  ])
}

/** The chunk around a body, with the right checksum for it. */
export function frame(
  body: Uint8Array,
  options: { type?: number; compressed?: Uint8Array } = {},
): Uint8Array {
  const type = options.type ?? 1
  const hashed = Buffer.from([type === 2 ? 1 : type, ...uleb(body.length), ...body])
  const checksum = createHash('sha256').update(hashed).digest().subarray(0, 4)
  const content = type === 2 ? (options.compressed ?? deflateRawSync(body)) : body
  return Uint8Array.from([0x85, 0x6f, 0x4a, 0x83, ...checksum, type, ...uleb(content.length), ...content])
}

export const writeChange = (change: RawChange): Uint8Array => frame(rawBody(change))

/** The parts of an uncompressed change that a real encoder wrote. */
export function takeApart(bytes: Uint8Array): RawChange {
  let at = 9
  const number = (): number => {
    let value = 0
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++]!
      value += (byte & 0x7f) * scale
      if (byte < 0x80) return value
    }
  }
  const take = (length: number): Uint8Array => {
    at += length
    return bytes.slice(at - length, at)
  }
  const hex = (length: number): string => Buffer.from(take(length)).toString('hex')
  const many = <T>(count: number, read: () => T): T[] => Array.from({ length: count }, read)
  if (bytes[8] !== 1) throw new Error('only uncompressed changes are taken apart')
  number()
  const deps = many(number(), () => hex(32))
  const actor = hex(number())
  const seq = number()
  const startOp = number()
  const timeStart = at
  while (bytes[at]! >= 0x80) at++
  at++
  let time = 0n
  for (let i = at - 1; i >= timeStart; i--) time = (time << 7n) | BigInt(bytes[i]! & 0x7f)
  const message = Buffer.from(take(number())).toString()
  const others = many(number(), () => hex(number()))
  const heads = many(number(), (): [number, number] => [number(), number()])
  const columns = heads.map(([spec, length]): [number, Uint8Array] => [spec, take(length)])
  return { deps, actor, seq, startOp, time: Number(time), message, others, columns, extra: bytes.slice(at) }
}
