import * as A from '@automerge/automerge'
import { editPipeline, type PipelineDoc, setDescription } from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { expect, it } from 'vitest'
import type { Schema } from '../../src/documents/index.ts'
import { type DraftNeeds, Drafts } from '../../src/drafts/drafts.ts'
import type { Device } from './device.ts'
import type { Person } from './server.ts'
import { TwoPeople } from './two-people.ts'

// Two devices whose programs know different schemas, on one server. The newer one's upgrades are made up.

const upgrade = (field: string) => (d: Record<string, unknown>) => {
  d[field] = {}
}
const NEWER: Schema = { version: 2, upgrades: new Map([[1, upgrade('labels')]]) }
const NEWEST: Schema = {
  version: 3,
  upgrades: new Map([
    [1, upgrade('labels')],
    [2, upgrade('owners')],
  ]),
}

const world = new TwoPeople()
const device = async (person: Person, schema?: Schema) => {
  const made = await world.device(person, { schema })
  await made.sync.start()
  return made
}
const raw = (on: Device, documentId: string) =>
  on.documents.read<Record<string, unknown>, unknown>(
    documentId,
    doc => A.toJS(doc) as Record<string, unknown>,
  )

it('[SCHEMA1] an old program opens what a newer one wrote for reading only, and syncs it unharmed', async () => {
  const [old, newer] = [await device(world.ada), await device(world.bob, NEWER)]
  const pipeline = await old.createPipeline('weekly')
  await old.until('in_sync', 0)
  await newer.sync.now()
  const resets: string[] = []
  old.documents.on(event => {
    if (event.kind === 'reset') resets.push(event.documentId)
  })
  expect(await old.documents.newer(pipeline)).toBeNull()
  await newer.describe(pipeline, 'by the newer one')
  await newer.until('in_sync', 0)
  await old.sync.now()
  expect(await raw(newer, pipeline)).toMatchObject({ schema_version: 2, labels: {} })
  expect(await raw(old, pipeline)).toEqual(await raw(newer, pipeline))
  expect(await old.documents.newer(pipeline)).toEqual({ version: 2, known: 1 })
  expect(resets).toEqual([pipeline])

  const before = await old.heads(pipeline)
  await expect(old.describe(pipeline, 'by the old one')).rejects.toMatchObject({ code: 'document.too_new' })
  const { bytes, actor } = await old.documents.open(pipeline)
  const typed = editPipeline(A.load<PipelineDoc>(bytes, { actor }), 'type', d => setDescription(d, 'x'))
  await expect(
    old.documents.append(pipeline, [A.getLastLocalChange(typed) as Uint8Array], 'view'),
  ).rejects.toMatchObject({ code: 'document.too_new' })
  expect(await old.heads(pipeline)).toEqual(before)
  await old.until('in_sync', 0)
  // Updated, it goes on.
  await old.close()
  old.schema = NEWER
  await old.open()
  await old.sync.start()
  await old.describe(pipeline, 'updated')
  await old.until('in_sync', 0)
  await newer.sync.now()
  expect(await newer.text(pipeline)).toBe('updated')
})

it('[SCHEMA2] what an old program wrote before it heard of the upgrade merges into it', async () => {
  const [old, newer] = [await device(world.ada), await device(world.bob, NEWER)]
  const pipeline = await old.createPipeline('weekly')
  await old.until('in_sync', 0)
  await newer.sync.now()
  const { bytes, actor } = await old.documents.open(pipeline)
  const view = A.load<PipelineDoc>(bytes, { actor })
  old.cut = true
  await old.documents.edit<PipelineDoc>(pipeline, doc =>
    A.change(doc, d => {
      d.report = 'offline'
    }),
  )
  await newer.describe(pipeline, 'upgraded')
  await newer.until('in_sync', 0)
  old.cut = false
  await old.sync.now()
  await old.until('in_sync', 0)
  expect(await raw(old, pipeline)).toMatchObject({
    schema_version: 2,
    description: 'upgraded',
    report: 'offline',
  })
  // A view that has not heard of the upgrade yet writes beside it.
  const typed = editPipeline(view, 'type', d => setDescription(d, 'typed beside'))
  await old.documents.append(pipeline, [A.getLastLocalChange(typed) as Uint8Array], 'view')
  await old.until('in_sync', 0)
  await newer.sync.now()
  expect(await raw(newer, pipeline)).toEqual(await raw(old, pipeline))
})

it('[SCHEMA3] programs that upgrade at once make the same change, and one upgrades on from another', async () => {
  const [a, b] = [await device(world.ada, NEWER), await device(world.bob, NEWER)]
  const pipeline = await a.createPipeline('weekly')
  await a.until('in_sync', 0)
  await b.sync.now()
  a.cut = true
  b.cut = true
  await a.describe(pipeline, 'a')
  await b.documents.edit<PipelineDoc>(pipeline, doc =>
    A.change(doc, d => {
      d.report = 'b'
    }),
  )
  a.cut = false
  b.cut = false
  for (const one of [a, b, a]) {
    await one.sync.now()
    await one.until('in_sync', 0)
  }
  expect(await raw(a, pipeline)).toMatchObject({ schema_version: 2, description: 'a', report: 'b' })
  const upgrades = (on: Device) =>
    on.documents.read(
      pipeline,
      doc => A.getChangesMetaSince(doc, []).filter(change => change.message?.startsWith('upgrade')).length,
    )
  expect([await upgrades(a), await upgrades(b)]).toEqual([1, 1])

  const newest = await device(world.bob, NEWEST)
  await newest.until('in_sync', 0)
  await newest.describe(pipeline, 'c')
  await newest.until('in_sync', 0)
  expect(await newest.documents.drafts(world.workspaceId)).toEqual([])
  await a.sync.now()
  expect(await raw(a, pipeline)).toMatchObject({ schema_version: 3, owners: {}, description: 'c' })
})

it('[SCHEMA1] an old program makes no edit of a local draft that a newer one left: the draft stays as it is', async () => {
  const one = await device(world.ada, NEWER)
  const pipeline = await one.createPipeline('weekly')
  await one.until('in_sync', 0)
  one.cut = true
  const own = await one.createPipeline('never-sent')
  for (const id of [pipeline, own]) await one.describe(id, 'by the newer one')
  const refusal = { code: 'permission', reason: 'a viewer' }
  const drafts = [await one.documents.refuse(pipeline, refusal), await one.documents.refuse(own, refusal)]
  // An older program opens the folder. What the server has of the pipeline it knows.
  await one.close()
  one.schema = undefined
  await one.open()
  const before = await one.heads(pipeline)
  const forks = new Drafts({ documents: one.documents } as DraftNeeds)
  for (const draftId of drafts) {
    const { bytes } = await one.documents.draft(draftId)
    expect(A.toJS(A.load(bytes))).toMatchObject({ schema_version: 2, labels: {} })
    const tooNew = { code: 'document.too_new' }
    await expect(one.documents.applyDraft(draftId)).rejects.toMatchObject(tooNew)
    await expect(forks.send(draftId, newId(), 'for review')).rejects.toMatchObject(tooNew)
    expect((await one.documents.draft(draftId)).bytes).toEqual(bytes)
  }
  expect(await one.heads(pipeline)).toEqual(before)
  expect(one.documents.list(world.workspaceId).map(info => info.documentId)).toEqual([pipeline])
})
