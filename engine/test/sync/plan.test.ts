import type { AppendVerdict } from '@pluto-duck/crdt-model/protocol'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  backOffMs,
  inSync,
  isLive,
  judge,
  nextAction,
  nextBatch,
  type PushedChange,
  type SyncView,
} from '../../src/sync/plan.ts'

const view: fc.Arbitrary<SyncView> = fc.record({
  paused: fc.boolean(),
  signedIn: fc.boolean(),
  cursor: fc.option(fc.nat(5)),
  serverSeq: fc.option(fc.nat(5)),
  more: fc.boolean(),
  waiting: fc.nat(2),
  digest: fc.constantFrom('unknown' as const, 'equal' as const, 'different' as const),
  healed: fc.nat(3),
  failures: fc.nat(2),
})
/** Mostly one in which nothing is left to do: of random ones hardly any is in sync. */
const calm: fc.Arbitrary<SyncView> = fc
  .tuple(
    view,
    fc.subarray(['paused', 'signedIn', 'cursor', 'more', 'waiting', 'digest', 'failures'] as const),
  )
  .map(([one, kept]) => {
    const still: SyncView = {
      ...one,
      paused: false,
      signedIn: true,
      cursor: one.serverSeq,
      more: false,
      waiting: 0,
      digest: 'equal',
      failures: 0,
    }
    return Object.assign({}, still, ...kept.slice(0, 2).map(name => ({ [name]: one[name] })))
  })
const verdict = fc.oneof(
  fc.constant({ status: 'stored' as const }),
  fc.record({
    status: fc.constant('refused' as const),
    code: fc.constantFrom('permission', 'invalid', 'quota', 'missing_deps', 'actor'),
  }),
)

describe('deciding what sync does next', () => {
  it('[SYNC8] in sync means connected, caught up, nothing waiting and equal digests; then it only listens', () => {
    let seen = 0
    fc.assert(
      fc.property(calm, one => {
        if (!inSync(one)) return
        seen++
        expect(one).toMatchObject({ paused: false, signedIn: true, waiting: 0, digest: 'equal', more: false })
        expect(nextAction(one)).toEqual({ do: 'listen' })
        expect(isLive(one)).toBe(true)
      }),
    )
    // Or the property would say nothing.
    expect(seen).toBeGreaterThan(10)
  })

  it('[SYNC8] nothing is sent or fetched while paused or signed out', () => {
    fc.assert(
      fc.property(view, one => {
        if (!one.paused && one.signedIn) return
        expect(nextAction(one).do).toBe('rest')
        expect(isLive(one)).toBe(false)
      }),
    )
  })

  it('[SYNC2] behind the server, or before the first sync, nothing is said to be live', () => {
    let seen = 0
    fc.assert(
      fc.property(calm, one => {
        if (!isLive(one)) return
        seen++
        expect(one.cursor).not.toBeNull()
        expect(one.serverSeq!).toBeLessThanOrEqual(one.cursor!)
        expect(one.failures).toBe(0)
      }),
    )
    expect(seen).toBeGreaterThan(10)
  })

  it('[SYNC5] each document of a push is refused or tried again at most once, and stored changes stay stored', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), verdict), { maxLength: 12 }),
        fc.subarray(['a', 'b', 'c']),
        (entries, triedBefore) => {
          const pushed: PushedChange[] = entries.map(([documentId], i) => ({ documentId, hash: `h${i}` }))
          const verdicts = entries.map(([, given], index) => ({
            ...given,
            index,
            hash: `h${index}`,
            seq: index,
            reason: 'r',
          })) as unknown as AppendVerdict[]
          const outcome = judge(pushed, verdicts, new Set(triedBefore))
          for (const documentId of outcome.again) {
            expect(outcome.refused.has(documentId)).toBe(false)
            expect(triedBefore).not.toContain(documentId)
          }
          for (const [documentId, given] of entries) {
            const first = entries.find(([d, v]) => d === documentId && v.status === 'refused')
            if (given.status === 'refused')
              expect(outcome.refused.has(documentId) || outcome.again.has(documentId)).toBe(true)
            if (!first) expect(outcome.refused.has(documentId)).toBe(false)
          }
          const stored = outcome.stored.length
          expect(stored).toBe(entries.filter(([, given]) => given.status === 'stored').length)
        },
      ),
    )
  })

  it('[SYNC8] a cut answer leaves what it did not judge; waits grow to 30 s and spread; batches follow the way', () => {
    expect(judge([{ documentId: 'a', hash: 'h' }], [], new Set())).toMatchObject({ stored: [] })
    expect(backOffMs(1, 0)).toBe(500)
    expect(backOffMs(20, 0)).toBe(30_000)
    expect(backOffMs(20, 1)).toBe(15_000)
    expect(nextBatch(500, 100, 2_000)).toBe(1_000)
    expect(nextBatch(500, 5_000, 2_000)).toBe(250)
    expect(nextBatch(12, null, 2_000)).toBe(10)
  })
})
