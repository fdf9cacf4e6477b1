import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeSequence, encodeSequence, SequenceReader } from '../../src/protocol/index.ts'

const bytes = fc.uint8Array({ maxLength: 300 })
const value = fc.oneof(
  fc.maxSafeInteger(),
  fc.string({ unit: 'binary', maxLength: 60 }),
  fc.boolean(),
  fc.constant(null),
  bytes,
  fc.array(bytes, { maxLength: 3 }),
)
// Names that have no meaning of their own on the wire.
const item = fc.dictionary(
  fc
    .string({ maxLength: 30 })
    .filter(key => key !== '__proto__')
    .map(key => `x${key}`),
  value,
  { noNullPrototype: true },
)
const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'))

describe('the CBOR of items', () => {
  it('[WIRE8] what was written is read', () => {
    fc.assert(
      fc.property(fc.array(item, { maxLength: 4 }), items => {
        expect(decodeSequence(encodeSequence(items))).toEqual(items)
        expect(decodeSequence(Buffer.from(encodeSequence(items)))).toEqual(items)
      }),
    )
  })

  it('[WIRE8] a stream gives the same items however it is cut', () => {
    fc.assert(
      fc.property(
        fc.array(item, { maxLength: 4 }),
        fc.array(fc.nat(400), { maxLength: 20 }),
        (items, cuts) => {
          const all = encodeSequence(items)
          const reader = new SequenceReader()
          const read: unknown[] = []
          const places = [...cuts.filter(at => at < all.length).sort((a, b) => a - b), all.length]
          for (const [i, to] of places.entries())
            read.push(...reader.push(all.subarray(places[i - 1] ?? 0, to)))
          expect(read).toEqual(items)
          expect(reader.finish()).toEqual({ cut: false })
          if (all.length === 0) return
          reader.push(all.subarray(0, all.length - 1))
          expect(reader.finish().cut).toBe(Object.keys(items.at(-1) ?? {}).length > 0)
        },
      ),
    )
  })

  it.each([
    ['a number that is longer than it needs to be', 'a1 61 61 18 05'],
    ['a length that is longer than it needs to be', 'a1 61 61 58 01 00'],
    ['a tag', 'a1 61 61 c1 00'],
    ['undefined', 'a1 61 61 f7'],
    ['a key twice', 'a2 61 61 00 61 61 00'],
    ['a key that is no text', 'a1 00 00'],
    ['a number beyond 2^53', 'a1 61 61 1b 00 20 00 00 00 00 00 00'],
    ['an indefinite length', 'bf ff'],
    ['no map', '00'],
  ])('[WIRE8] %s is refused', (_, text) => {
    expect(() => decodeSequence(hex(text))).toThrow(expect.objectContaining({ code: 'request.invalid' }))
  })
})
