import * as Automerge from '@automerge/automerge'
import * as fc from 'fast-check'
import { expect, it } from 'vitest'
import { contentHash, createPipeline, makeEqualTo, pipelineFromDoc, problemsOf } from '../../src/index.ts'
import { anActor, anyDeeds, anyDefinition, aPipeline, playDeeds } from '../../src/testing/index.ts'

it('[DOC11] the order in which changes arrive does not matter', () => {
  fc.assert(
    fc.property(anyDeeds, fc.infiniteStream(fc.nat()), (deeds, random) => {
      const base = createPipeline(aPipeline())
      const replicas = playDeeds(base, deeds)
      const empty = () => Automerge.init<typeof base>({ actor: anActor() }) as unknown as typeof base
      const changes = replicas.flatMap(replica => Automerge.getAllChanges(replica))
      const shuffled = changes
        .map(change => ({ change, at: random.next().value as number }))
        .sort((a, b) => a.at - b.at)
        .map(({ change }) => change)
      const together = Automerge.applyChanges(empty(), shuffled)[0]
      const [a, b, c] = replicas
      const merged = Automerge.merge(Automerge.merge(a!, c!), b!)
      expect(Automerge.getHeads(together).sort()).toEqual(Automerge.getHeads(merged).sort())
      expect(contentHash(pipelineFromDoc(together))).toBe(contentHash(pipelineFromDoc(merged)))
      expect(problemsOf(together)).toEqual(problemsOf(merged))
      const reloaded = Automerge.load<typeof base>(Automerge.save(merged))
      expect(pipelineFromDoc(reloaded)).toEqual(pipelineFromDoc(merged))
    }),
    { numRuns: 25 },
  )
})

it('[DOC2] makeEqualTo works on any merged document and merges with what others do meanwhile', () => {
  fc.assert(
    fc.property(anyDeeds, anyDefinition, (deeds, definition) => {
      const [a, b, c] = playDeeds(createPipeline(aPipeline()), deeds)
      const merged = Automerge.merge(Automerge.merge(a!, b!), c!)
      const equal = makeEqualTo(merged, definition, 'import')
      expect(pipelineFromDoc(equal)).toEqual(definition)
    }),
    { numRuns: 20 },
  )
})
