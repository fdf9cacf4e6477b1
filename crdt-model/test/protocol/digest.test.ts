import { describe, expect, it } from 'vitest'
import { headsDigest, headsDigestPart } from '../../src/protocol/index.ts'

describe('digest of heads', () => {
  it('does not depend on any order, and differs when a head does', () => {
    const [a, b] = ['a'.repeat(64), 'b'.repeat(64)]
    const one = headsDigest([headsDigestPart('d1', [a, b]), headsDigestPart('d2', [a])])
    expect(headsDigest([headsDigestPart('d2', [a]), headsDigestPart('d1', [b, a])])).toBe(one)
    expect(headsDigest([headsDigestPart('d2', [b]), headsDigestPart('d1', [b, a])])).not.toBe(one)
    expect(headsDigest([])).toBe('0'.repeat(64))
  })
})
