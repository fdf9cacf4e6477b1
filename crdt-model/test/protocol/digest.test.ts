import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { digestLine, digestOfHeads, HeadsDigest } from '../../src/protocol/index.ts'

describe('digest of heads', () => {
  it('does not depend on any order, and differs when a head does', () => {
    const [a, b] = ['a'.repeat(64), 'b'.repeat(64)]
    const one = digestOfHeads([
      { document_id: 'd1', heads: [a, b] },
      { document_id: 'd2', heads: [a] },
    ])
    expect(
      digestOfHeads([
        { document_id: 'd2', heads: [a] },
        { document_id: 'd1', heads: [b, a] },
      ]),
    ).toBe(one)
    expect(digestOfHeads([{ document_id: 'd1', heads: [a, b] }])).not.toBe(one)
  })
  it('[WIRE7] kept from change to change it is the digest of what is there', () => {
    const id = fc.integer({ min: 0, max: 8 }).map(n => `d${n}`)
    const heads = fc.array(fc.constantFrom(...['a', 'b', 'c'].map(letter => letter.repeat(64))), {
      maxLength: 2,
    })
    fc.assert(
      fc.property(fc.array(fc.tuple(id, heads, fc.boolean()), { maxLength: 40 }), changes => {
        const one = new HeadsDigest()
        const other = new HeadsDigest(() => createHash('sha256'))
        const now = new Map<string, { document_id: string; heads: string[] }>()
        for (const [document_id, its, looked] of changes) {
          one.set({ document_id, heads: its })
          if (its.length > 0) now.set(document_id, { document_id, heads: its })
          else now.delete(document_id)
          if (!looked) continue
          other.replace(now.values())
          const lines = [...now.values()]
            .sort((a, b) => (a.document_id < b.document_id ? -1 : 1))
            .map(digestLine)
          const expected = createHash('sha256').update(lines.join('')).digest('hex')
          expect([one.digest(), other.digest(), digestOfHeads(now.values())]).toEqual([
            expected,
            expected,
            expected,
          ])
        }
      }),
    )
  })
})
