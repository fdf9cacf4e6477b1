import * as Automerge from '@automerge/automerge'
import { createPipeline } from '@pluto-duck/crdt-model'
import { anyDeeds, anyDefinition, playDeeds } from '@pluto-duck/crdt-model/testing'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeChangeBytes } from '../../src/changes/admission/decode.ts'
import { DocumentIndex } from '../../src/changes/admission/document-index.ts'
import { checkStructure } from '../../src/changes/admission/structure.ts'
import { Dice, forge, forgeBytes, honestHistory } from './histories.ts'

function admit(index: DocumentIndex, bytes: Uint8Array): string | null {
  const decoded = decodeChangeBytes(bytes)
  if (!decoded.ok) return decoded.refusal.reason
  const checked = checkStructure(index, decoded.change)
  if (!checked.ok) return checked.refusal.reason
  index.add(checked.change)
  return null
}

/** What a document is to everybody: heads, content and every change's bytes. */
function facts(doc: Automerge.Doc<unknown>): unknown {
  return {
    heads: Automerge.getHeads(doc).toSorted(),
    content: JSON.stringify(Automerge.toJS(doc)),
    changes: Automerge.getAllChanges(doc)
      .map(bytes => Buffer.from(bytes).toString('base64'))
      .sort(),
  }
}

/** Applies the changes in a random order and in random batches, reloading now and then. */
function replay(changes: readonly Uint8Array[], dice: Dice): Automerge.Doc<unknown> {
  let doc = Automerge.init<unknown>()
  const order = dice.shuffle(changes)
  while (order.length > 0) {
    doc = Automerge.applyChanges(doc, order.splice(0, 1 + dice.below(8)))[0]
  }
  return doc
}

describe('what is admitted', () => {
  it('[ADM15] honest histories are admitted whole, and loading them differs in nothing', () => {
    fc.assert(
      fc.property(fc.integer(), seed => {
        const dice = new Dice(seed)
        const history = honestHistory(dice, 25)
        const index = new DocumentIndex()
        for (const bytes of history) expect(admit(index, bytes)).toBeNull()
        const doc = replay(history, dice)
        expect(index.headHashes).toEqual(Automerge.getHeads(doc).toSorted())
        expect(facts(Automerge.load(Automerge.save(doc)))).toEqual(facts(doc))
      }),
      { numRuns: 40, interruptAfterTimeLimit: 5_000 },
    )
  })

  it('[ADM15] whatever the editors of a pipeline do on three devices is admitted', () => {
    fc.assert(
      fc.property(anyDefinition, anyDeeds, (definition, deeds) => {
        const replicas = playDeeds(createPipeline(definition), deeds)
        let all = Automerge.init<unknown>()
        for (const replica of replicas) all = Automerge.merge(all, replica as Automerge.Doc<unknown>)
        const index = new DocumentIndex()
        for (const bytes of Automerge.getAllChanges(all)) expect(admit(index, bytes)).toBeNull()
        expect(index.headHashes).toEqual(Automerge.getHeads(all).toSorted())
      }),
      { numRuns: 40, interruptAfterTimeLimit: 6_000 },
    )
  })

  it('[ADM1] random forgeries: what is admitted loads, and loads the same in any order and batch', () => {
    let admitted = 0
    let refused = 0
    fc.assert(
      fc.property(fc.integer(), seed => {
        const dice = new Dice(seed)
        const log = honestHistory(dice, 12)
        const index = new DocumentIndex()
        for (const bytes of log) expect(admit(index, bytes)).toBeNull()
        for (let i = 0; i < 30; i++) {
          const bytes = forge(dice, log, `${(16 + i).toString(16)}`.repeat(16))
          if (!bytes) continue
          if (admit(index, bytes) === null) {
            admitted++
            log.push(bytes)
          } else refused++
        }
        const docs = [replay(log, dice), replay(log, dice)]
        const expected = facts(docs[0]!)
        expect(facts(docs[1]!)).toEqual(expected)
        for (const doc of docs) expect(facts(Automerge.load(Automerge.save(doc)))).toEqual(expected)
        expect(Automerge.getAllChanges(docs[0]!)).toHaveLength(log.length)
      }),
      { numRuns: 120, interruptAfterTimeLimit: 8_000 },
    )
    // Or the property would say nothing.
    expect(admitted).toBeGreaterThan(20)
    expect(refused).toBeGreaterThan(60)
  })

  it('[ADM13] what the structure admits, Automerge takes and gives back byte for byte', () => {
    let admitted = 0
    fc.assert(
      fc.property(fc.integer(), seed => {
        const dice = new Dice(seed)
        const log = honestHistory(dice, 12)
        const index = new DocumentIndex()
        for (const bytes of log) expect(admit(index, bytes)).toBeNull()
        const document = Automerge.getBackend(replay(log, dice))
        for (let i = 0; i < 40; i++) {
          const fresh = `${(16 + i).toString(16)}`.repeat(16)
          const bytes = forgeBytes(dice, log, fresh)
          if (!bytes || admit(index, bytes) !== null) continue
          admitted++
          const before = document.getHeads()
          document.applyChanges([bytes])
          expect(document.getChanges(before).map(back => Buffer.compare(back, bytes))).toEqual([0])
        }
      }),
      { numRuns: 60, interruptAfterTimeLimit: 6_000 },
    )
    expect(admitted).toBeGreaterThan(20)
  })
})
