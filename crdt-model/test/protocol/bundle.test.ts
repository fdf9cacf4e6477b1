import * as Automerge from '@automerge/automerge'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type BundledChange, decodeBundle, encodeBundle } from '../../src/protocol/index.ts'

const LIMITS = { changes: 1_000, bytes: 1_000_000 }

/** Changes of two people who edit texts, maps and lists, merge, and leave messages. */
function history(edits: readonly (readonly [number, number, number])[]): BundledChange[] {
  type Doc = { text: string; list: number[]; n: number }
  const first = Automerge.change(Automerge.init<Doc>({ actor: 'aa'.repeat(16) }), { time: 5 }, draft => {
    draft.text = 'select 1'
    draft.list = [1]
    draft.n = 0
  })
  const docs = [first, Automerge.clone(first, { actor: 'bb'.repeat(8) })]
  for (const [who, what, value] of edits) {
    const [mine, other] = [who % 2, 1 - (who % 2)]
    const message = what === 3 ? { message: `édit ${value}` } : {}
    if (what === 4) docs[mine] = Automerge.merge(docs[mine]!, docs[other]!)
    else if (what === 5) docs[mine] = Automerge.emptyChange(docs[mine]!, { time: -value })
    else
      docs[mine] = Automerge.change(docs[mine]!, { ...message, time: value }, draft => {
        if (what === 0) Automerge.splice(draft, ['text'], value % (draft.text.length + 1), 0, 'x')
        else if (what === 1) draft.list.push(value)
        else if (what === 2 && draft.text.length > 0)
          Automerge.splice(draft, ['text'], value % draft.text.length, 1)
        else draft.n = value
      })
  }
  const whole = Automerge.merge(docs[0]!, docs[1]!)
  return Automerge.getAllChanges(whole).map(bytes => ({ bytes, hash: Automerge.decodeChange(bytes).hash! }))
}

const edits = fc.array(fc.tuple(fc.nat(1), fc.nat(5), fc.nat(100_000)), { maxLength: 30 })

describe('bundles of changes', () => {
  it('[BUNDLE1] the same bytes and hashes come back, whatever part of a history it is', () => {
    fc.assert(
      fc.property(edits, fc.nat(10), (made, from) => {
        const changes = history(made).slice(from)
        const bundle = encodeBundle(changes)
        expect(bundle).not.toBeNull()
        const back = decodeBundle(bundle!, LIMITS)
        expect(back.map(one => one.hash)).toEqual(changes.map(one => one.hash))
        expect(back.map(one => Buffer.from(one.bytes).toString('hex'))).toEqual(
          changes.map(one => Buffer.from(one.bytes).toString('hex')),
        )
      }),
      { numRuns: 60 },
    )
  })

  it('[BUNDLE2] what is no plain change is not bundled', () => {
    const [change] = history([]) as [BundledChange]
    const altered = (at: number, byte: number): BundledChange => {
      const bytes = change.bytes.slice()
      bytes[at] = byte
      return { ...change, bytes }
    }
    for (const one of [altered(0, 0), altered(4, change.bytes[4]! ^ 1), altered(8, 2), altered(9, 0x7f)])
      expect(encodeBundle([change, one])).toBeNull()
    expect(encodeBundle([{ ...change, bytes: change.bytes.subarray(0, 20) }])).toBeNull()
  })

  it('[BUNDLE3] any bytes are a bundle or a typed error, and limits hold', () => {
    const bundle = encodeBundle(history(Array.from({ length: 20 }, (_, i) => [i, 0, i] as const)))!
    const refused = (bytes: Uint8Array, limits = LIMITS): void => {
      try {
        for (const { bytes: change } of decodeBundle(bytes, limits)) expect(change[8]).toBe(1)
      } catch (error) {
        expect(error).toMatchObject({ code: expect.stringMatching(/^request\.(invalid|too_large)$/) })
      }
    }
    fc.assert(
      fc.property(fc.nat(bundle.length - 1), fc.nat(255), fc.nat(bundle.length), (at, byte, cut) => {
        const bytes = bundle.slice(0, cut)
        bytes[at] = byte
        refused(bytes)
      }),
      { numRuns: 400 },
    )
    fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), bytes => refused(bytes)))
    for (const limits of [
      { changes: 5, bytes: 1e6 },
      { changes: 100, bytes: 300 },
    ])
      expect(() => decodeBundle(bundle, limits)).toThrow(
        expect.objectContaining({ code: 'request.too_large' }),
      )
  })
})
