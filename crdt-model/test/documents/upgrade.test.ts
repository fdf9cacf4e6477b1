import * as Automerge from '@automerge/automerge'
import { expect, it } from 'vitest'
import { type Upgrade, upgradeChanges } from '../../src/documents/upgrade.ts'
import { createPipeline, pipelineFromDoc, upgradeDocument } from '../../src/index.ts'
import { anActor, aPipeline } from '../../src/testing/index.ts'

type Old = { schema_version: number; titles: Record<string, string>; added?: Record<string, number> }

const UPGRADES: ReadonlyMap<number, Upgrade> = new Map([
  [
    0,
    (d: Record<string, unknown>) => {
      d.added = { by: 1 }
    },
  ],
])

it('[DOC12] an upgrade is the same bytes on every device, whatever each has seen, and merges once', () => {
  const base = Automerge.from<Old>({ schema_version: 0, titles: {} })
  const edit = (doc: Automerge.Doc<Old>, key: string) =>
    Automerge.change(Automerge.clone(doc, { actor: anActor() }), d => {
      d.titles[key] = key
    })
  const a = upgradeDocument(edit(base, 'a'), UPGRADES, 1)
  const b = upgradeDocument(edit(edit(base, 'b'), 'b2'), UPGRADES, 1)
  const bytes = (doc: Automerge.Doc<Old>) => upgradeChanges(doc, UPGRADES, 1).map(change => [...change])
  expect(bytes(a)).toEqual(bytes(b))
  const merged = Automerge.merge(Automerge.clone(a), b)
  expect(merged).toMatchObject({ schema_version: 1, added: { by: 1 }, titles: { a: 'a', b: 'b', b2: 'b2' } })
  expect(Automerge.getConflicts(merged, 'schema_version')).toBeUndefined()
  expect(Automerge.load(Automerge.save(merged))).toEqual(merged)
  expect(Automerge.getHeads(upgradeDocument(merged, UPGRADES, 1))).toEqual(Automerge.getHeads(merged))
  const late = edit(base, 'late')
  expect(Automerge.merge(merged, late)).toMatchObject({ schema_version: 1, titles: { late: 'late' } })
})

it('[DOC12] a current document is left as it is; a newer one and an unknown one are refused', () => {
  const doc = createPipeline(aPipeline())
  expect(upgradeDocument(doc)).toBe(doc)
  expect(pipelineFromDoc(upgradeDocument(doc))).toEqual(aPipeline())
  const newer = Automerge.change(Automerge.clone(doc), d => {
    d.schema_version = 2
  })
  expect(() => upgradeDocument(newer)).toThrow(expect.objectContaining({ code: 'document.too_new' }))
})
