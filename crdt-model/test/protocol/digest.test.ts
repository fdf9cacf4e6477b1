import { describe, expect, it } from 'vitest'
import { digestOfHeads } from '../../src/protocol/index.ts'

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
})
