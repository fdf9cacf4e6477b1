import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HeadsTable } from '../../src/protocol/heads-table.ts'
import { digestLine, digestOfHeads, HeadsDigest } from '../../src/protocol/index.ts'

const ID = '01890000-0000-7000-8000-00000000000'

describe('digest of heads', () => {
  it('does not depend on any order, and differs when a head does', () => {
    const [a, b] = ['a'.repeat(64), 'b'.repeat(64)]
    const one = digestOfHeads([
      { document_id: `${ID}1`, heads: [a, b] },
      { document_id: `${ID}2`, heads: [a] },
    ])
    expect(
      digestOfHeads([
        { document_id: `${ID}2`, heads: [a] },
        { document_id: `${ID}1`, heads: [b, a] },
      ]),
    ).toBe(one)
    expect(digestOfHeads([{ document_id: `${ID}1`, heads: [a, b] }])).not.toBe(one)
  })
  it('[WIRE7] kept from change to change it is the digest of what is there', () => {
    const id = fc.integer({ min: 0, max: 8 }).map(n => `${ID}${n}`)
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

  it('[WIRE7] [WIRE9] however many documents and heads there are, they are in order, once, and take 48 bytes a head', () => {
    const random = fc.uint8Array({ minLength: 16, maxLength: 16 })
    const id = fc.oneof(
      fc.integer({ min: 0, max: 3 }).map(n => `${ID}${n}`),
      random.map(uuidOf),
    )
    const hash = fc
      .uint8Array({ minLength: 32, maxLength: 32 })
      .map(bytes => Buffer.from(bytes).toString('hex'))
    const heads = fc.uniqueArray(hash, { maxLength: 7 })
    fc.assert(
      fc.property(
        fc.array(fc.tuple(id, heads), { maxLength: 60 }),
        fc.integer({ min: 1, max: 5 }),
        (given, size) => {
          const table = new HeadsTable(size)
          const now = new Map<string, readonly string[]>()
          for (const [document_id, its] of given) {
            table.set(document_id, its)
            if (its.length > 0) now.set(document_id, its)
            else now.delete(document_id)
            const expected = [...now]
              .sort(([a], [b]) => (a < b ? -1 : 1))
              .map(([document_id, heads]) => digestLine({ document_id, heads }))
            expect(textOf(table)).toBe(expected.join(''))
          }
        },
      ),
    )
    const table = new HeadsTable()
    const many = Array.from({ length: 5_000 }, (_, i) => createHash('sha256').update(`${i}`).digest())
    for (const bytes of many) table.set(uuidOf(bytes.subarray(16)), [bytes.toString('hex')])
    expect(table.bytes).toBeLessThan(2.1 * 48 * many.length)
    const inOrder = new HeadsTable()
    for (const [i, bytes] of many.entries())
      inOrder.set(`${ID.slice(0, -7)}${String(i).padStart(8, '0')}`, [bytes.toString('hex')])
    expect(inOrder.bytes).toBeLessThan(48 * (many.length + 1_024))
  })
  it('[WIRE9] what is no UUID or no hash is refused, and nothing of it is kept', () => {
    const table = new HeadsTable()
    const hash = 'a'.repeat(64)
    table.set(`${ID}1`, [hash])
    for (const [id, head] of [
      ['d1', hash],
      [`${ID}`, hash],
      [`${ID}12`, hash],
      [`${ID}g`, hash],
      [`${ID}\u0131`, hash],
      [`${ID}1`.replaceAll('-', '0'), hash],
      [`${ID}1`, 'a'],
      [`${ID}1`, `${hash}a`],
      [`${ID}1`, `${hash.slice(1)}:`],
    ] as const)
      expect(() => table.set(id, [hash, head])).toThrow(RangeError)
    expect(textOf(table)).toBe(digestLine({ document_id: `${ID}1`, heads: [hash] }))
  })
})

const textOf = (table: HeadsTable): string =>
  Array.from(table.lines(), lines => Buffer.from(lines).toString()).join('')

function uuidOf(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}
