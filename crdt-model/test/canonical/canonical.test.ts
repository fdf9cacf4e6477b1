import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { canonicalJson, contentHash } from '../../src/index.ts'

it('[CAN1] the order of keys does not show, undefined is left out', () => {
  expect(canonicalJson({ b: 1, a: [{ d: null, c: 'é"' }], x: undefined })).toBe(
    '{"a":[{"c":"é\\"","d":null}],"b":1}',
  )
  expect(contentHash({ a: 1, b: 2 })).toBe(contentHash({ b: 2, a: 1 }))
  expect(contentHash({})).toBe('44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a')
})

it('[CAN2] canonical JSON is JSON: it parses back to the same value', () => {
  fc.assert(
    fc.property(fc.jsonValue(), value => {
      const text = canonicalJson(value)
      expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)))
      expect(canonicalJson(JSON.parse(text))).toBe(text)
    }),
    { numRuns: 200 },
  )
})

it('[CAN3] what JSON cannot hold is refused', () => {
  for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 1n, () => 1, [undefined]])
    expect(() => canonicalJson(value)).toThrow(TypeError)
})
