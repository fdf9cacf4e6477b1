import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { OwnRecord } from '../../src/documents/index.ts'
import { Ahead } from '../../src/sync/ahead.ts'

const recordOf = (seq: number): OwnRecord => ({
  documentId: 'd',
  hash: `h${seq}`,
  seq,
  receivedAt: 0,
  live: false,
  authorId: 'u',
})

describe('own changes ahead of the cursor', () => {
  it('[SYNC17] reading up to them passes every number once: the others’ are read, one’s own are stepped over', () => {
    fc.assert(
      fc.property(
        fc.array(fc.boolean(), { maxLength: 40 }),
        fc.integer({ min: 1, max: 7 }),
        fc.array(fc.nat(39), { maxLength: 3 }),
        (log, page, voided) => {
          const gone = new Set(voided.map(i => i + 1).filter(seq => log[seq - 1] === false))
          const ahead = new Ahead().with(log.flatMap((own, i) => (own ? [recordOf(i + 1)] : [])))
          const read: number[] = []
          const stepped: number[] = []
          let cursor = ahead.from(0)
          stepped.push(...ahead.upTo(cursor).map(one => one.seq))
          ahead.drop(cursor)
          while (cursor < log.length) {
            const limit = Math.min(page, ahead.gapAfter(cursor) ?? page)
            expect(limit).toBeGreaterThan(0)
            // As the server answers: what was taken out is not in the page, and the last page reaches the end.
            const items = log.map((_, i) => i + 1).filter(seq => seq > cursor && !gone.has(seq))
            const given = items.slice(0, limit)
            const reached = ahead.from(given.length < items.length ? given.at(-1)! : log.length)
            read.push(...given.filter(seq => !ahead.has(seq)))
            stepped.push(...ahead.upTo(reached).map(one => one.seq))
            ahead.drop(reached)
            expect(reached).toBeGreaterThan(cursor)
            cursor = reached
          }
          const numbers = (own: boolean) =>
            log.flatMap((one, i) => (one === own && !gone.has(i + 1) ? [i + 1] : []))
          expect(read).toEqual(numbers(false))
          expect(stepped).toEqual(numbers(true))
          expect(ahead.gapAfter(0)).toBeNull()
        },
      ),
    )
  })
})
