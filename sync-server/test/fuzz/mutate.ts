import { isUint8Array } from 'node:util/types'
import type { Rng } from './rng.ts'

const INTERESTING = [0, 1, 0x7f, 0x80, 0xff, 0x18, 0x1b, 0x5f, 0x7b, 0x9f, 0xbf, 0xf6, 0xf7, 0xfb]

/** One to four changes of bytes: flips, cuts, insertions, repetitions, numbers at their ends. */
export const mutateBytes = (rng: Rng, given: Uint8Array): Uint8Array => {
  let bytes = Uint8Array.from(given)
  for (let times = 1 + rng.below(4); times > 0; times--) bytes = mutateOnce(rng, bytes)
  return bytes
}

const mutateOnce = (rng: Rng, bytes: Uint8Array): Uint8Array<ArrayBuffer> => {
  const out = Uint8Array.from(bytes)
  const at = rng.below(out.length + 1)
  const to = Math.min(out.length, at + 1 + rng.below(rng.chance(0.8) ? 8 : 200))
  const join = (...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> =>
    Uint8Array.from(parts.flatMap(part => [...part]))
  switch (rng.below(8)) {
    case 0:
      if (at < out.length) out[at] = (out[at] as number) ^ (1 << rng.below(8))
      return out
    case 1:
      if (at < out.length) out[at] = rng.below(256)
      return out
    case 2:
      if (at < out.length) out[at] = rng.pick(INTERESTING)
      return out
    case 3:
      return out.slice(0, at)
    case 4:
      return join(out.slice(0, at), out.slice(to))
    case 5:
      return join(out.slice(0, at), rng.bytes(1 + rng.below(9)), out.slice(at))
    case 6:
      return join(out.slice(0, to), out.slice(at))
    default: {
      const from = rng.below(out.length + 1)
      return join(out.slice(0, at), out.slice(from, from + (to - at)), out.slice(to))
    }
  }
}

const TEXTS = [
  '',
  ' ',
  '\u0000',
  '\ud800',
  '__proto__',
  'constructor',
  '../..',
  "'; --",
  '😀',
  'ÿ'.repeat(300),
]
const NUMBERS = [0, -1, 1, 0.5, 2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 53), 1e308, -0]

/** A value of another kind or at its end. */
export const oddValue = (rng: Rng): unknown => {
  switch (rng.below(9)) {
    case 0:
      return null
    case 1:
      return rng.chance(0.5)
    case 2:
      return rng.pick(NUMBERS)
    case 3:
      return rng.pick(TEXTS)
    case 4:
      return []
    case 5:
      return {}
    case 6:
      return rng.id()
    case 7:
      return rng.hex(32)
    default:
      return Array.from({ length: 40 }).reduce((inner: unknown) => [inner], 1)
  }
}

interface Place {
  readonly holder: Record<string, unknown> | unknown[]
  readonly key: string
}

/** Every value inside, but not inside bytes. */
const placesIn = (value: unknown, found: Place[] = []): Place[] => {
  if (value === null || typeof value !== 'object' || isUint8Array(value)) return found
  for (const key of Object.keys(value)) {
    found.push({ holder: value as Place['holder'], key })
    placesIn((value as Record<string, unknown>)[key], found)
  }
  return found
}

/** One to three changes of a value's structure: what is somewhere becomes something else, comes twice, is gone or moves. */
export const mutateValue = <T>(rng: Rng, given: T): T => {
  const value = structuredClone(given)
  for (let times = 1 + rng.below(3); times > 0; times--) {
    const places = placesIn(value)
    if (places.length === 0) return value
    const { holder, key } = rng.pick(places)
    const of = holder as Record<string, unknown>
    const was = of[key]
    switch (rng.below(7)) {
      case 0:
        of[key] = oddValue(rng)
        break
      case 1:
        if (Array.isArray(holder)) holder.splice(Number(key), 1)
        else delete of[key]
        break
      case 2:
        if (Array.isArray(holder)) holder.push(structuredClone(was))
        else put(of, rng.pick(TEXTS), structuredClone(was))
        break
      case 3: {
        const other = rng.pick(places)
        of[key] = structuredClone((other.holder as Record<string, unknown>)[other.key])
        break
      }
      case 4:
        if (typeof was === 'number') of[key] = was + rng.pick([-1, 1, 0.5, 2 ** 32, -was, 2 ** 40])
        else if (typeof was === 'string') of[key] = mutateText(rng, was)
        else if (isUint8Array(was)) of[key] = mutateBytes(rng, was)
        else of[key] = oddValue(rng)
        break
      case 5:
        if (isUint8Array(was)) of[key] = rng.bytes(rng.below(40))
        else if (Array.isArray(was)) was.reverse()
        else of[key] = rng.pick(TEXTS)
        break
      default:
        if (isUint8Array(was)) of[key] = Buffer.from(was).toString('hex')
        else of[key] = [was]
    }
  }
  return value
}

/** An own property, also where assigning would do something else. */
const put = (of: Record<string, unknown>, key: string, value: unknown): void => {
  Object.defineProperty(of, key, { value, enumerable: true, configurable: true, writable: true })
}

const mutateText = (rng: Rng, text: string): string => {
  const at = rng.below(text.length + 1)
  const to = at + rng.below(4)
  return text.slice(0, at) + rng.pick(['', 'x', '0', '@', ...TEXTS]) + text.slice(to)
}
