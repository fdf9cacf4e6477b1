import * as A from '@automerge/automerge'
import { editPipeline, forkAt, type PipelineDoc, pipelineFromDoc, spliceReport } from '@pluto-duck/crdt-model'
import { draftRoutes, newId, versionRoutes } from '@pluto-duck/crdt-model/protocol'
import { describe, expect, it } from 'vitest'
import { type DraftNeeds, Drafts } from '../../src/drafts/drafts.ts'
import type { Device } from './device.ts'
import type { Person } from './server.ts'
import { TwoPeople } from './two-people.ts'

const world = new TwoPeople()
const device = (person: Person, folder?: string) => world.device(person, { folder })

const fork = async (on: Device, base: string, title = 'try this') => {
  const documentId = newId()
  await on.documents.fork({ documentId, base, heads: await on.heads(base), title })
  return documentId
}
const reopen = async (one: Device) => {
  await one.close()
  await one.open()
}

describe('drafts on devices', () => {
  it('[FORK1] a draft made and edited offline is there after a restart, goes out, and opens on another device', async () => {
    const a = await device(world.ada)
    const pipeline = await a.createPipeline('weekly')
    await a.describe(pipeline, 'as it was')
    const draft = await fork(a, pipeline)
    await a.describe(draft, 'as it may be')
    await a.describe(pipeline, 'as it became')
    await reopen(a)
    expect([await a.text(pipeline), await a.text(draft)]).toEqual(['as it became', 'as it may be'])
    await a.sync.start()
    await a.until('in_sync', 0)

    const b = await device(world.bob)
    await b.sync.start()
    await b.until('in_sync', 0)
    expect([await b.text(pipeline), await b.text(draft)]).toEqual(['as it became', 'as it may be'])
    await b.describe(draft, 'as both want it')
    await b.until('in_sync', 0)
    await a.sync.now()
    expect(await a.text(draft)).toBe('as both want it')
    await reopen(b)
    expect(await b.text(draft)).toBe('as both want it')
    const { value } = await world.ada.client.call(draftRoutes.list, {
      params: { workspace_id: world.workspaceId },
      query: {},
    })
    expect(value.drafts).toMatchObject([
      { draft_id: draft, pipeline_id: pipeline, title: 'try this', changes: 3 },
    ])
  })

  it('[FORK2] a draft takes in what its pipeline became, and says where it stands', async () => {
    const [a, b] = [await device(world.ada), await device(world.bob)]
    const pipeline = await a.createPipeline('weekly')
    const draft = await fork(a, pipeline)
    await a.describe(draft, 'mine')
    await a.sync.start()
    await a.until('in_sync', 0)
    await b.sync.start()
    await b.until('in_sync', 0)
    await b.documents.edit(pipeline, doc => doc)
    await b.describe(pipeline, 'theirs')
    await b.until('in_sync', 0)
    await a.sync.now()
    const standing = (on: Device) =>
      on.documents.readFork(draft, (base, own) => [
        pipelineFromDoc(base).description,
        pipelineFromDoc(own).description,
      ])
    expect(await standing(a)).toEqual(['', 'mine'])
    expect(await a.documents.takeInBase(draft, await a.heads(pipeline))).toBe(true)
    expect(await a.documents.takeInBase(draft, await a.heads(pipeline))).toBe(false)
    await a.describe(draft, 'ours')
    await a.until('in_sync', 0)
    await b.sync.now()
    for (const on of [a, b]) expect(await standing(on)).toEqual(['theirs', 'ours'])
    await reopen(b)
    expect(await standing(b)).toEqual(['theirs', 'ours'])
    const late = await device(world.ada)
    await late.sync.start()
    await late.until('in_sync', 0)
    expect(await standing(late)).toEqual(['theirs', 'ours'])

    // What it took in is no edit of its own when it is refused.
    const report = (doc: A.Doc<unknown>) => pipelineFromDoc(doc as A.Doc<PipelineDoc>).report
    const write = (documentId: string, text: string) =>
      a.documents.edit<PipelineDoc>(documentId, doc =>
        editPipeline(doc, 'type', d => spliceReport(d, 0, 0, text)),
      )
    a.sync.pause(true)
    await write(pipeline, 'the pipeline says')
    await a.documents.takeInBase(draft, await a.heads(pipeline))
    await write(draft, 'mine: ')
    const { bytes, baseBytes } = await a.documents.draft(
      await a.documents.refuse(draft, { code: 'invalid', reason: 'merged' }),
    )
    expect([bytes, baseBytes].map(one => report(A.load(one!)))).toEqual([
      'mine: the pipeline says',
      'the pipeline says',
    ])
  })

  it('[FORK3] a merged draft is the pipeline on every device; what is typed into it then is kept as a local draft', async () => {
    const [a, b] = [await device(world.ada), await device(world.bob)]
    const pipeline = await a.createPipeline('weekly')
    await a.sync.start()
    await a.until('in_sync', 0)
    await world.ada.client.call(versionRoutes.publish, {
      body: {
        workspace_id: world.workspaceId,
        pipeline_id: pipeline,
        version_id: newId(),
        heads: await a.heads(pipeline),
        parent: null,
      },
    })
    await b.sync.start()
    await b.until('in_sync', 0)
    const draft = await fork(b, pipeline)
    await b.describe(draft, 'better')
    await b.until('in_sync', 0)
    const { value } = await world.ada.client.call(draftRoutes.merge, {
      params: { draft_id: draft },
      body: { version_id: newId(), heads: await b.heads(draft), parent: 1 },
    })
    expect(value.number).toBe(2)
    for (const on of [a, b]) {
      await on.sync.now()
      await on.until('in_sync', 0)
      expect(await on.text(pipeline)).toBe('better')
    }
    await a.describe(pipeline, 'and further')
    await a.until('in_sync', 0)
    await b.describe(draft, 'too late')
    await b.until('in_sync', 0)
    expect(await b.documents.drafts(world.workspaceId)).toMatchObject([
      { documentId: draft, code: 'invalid' },
    ])
    expect(await b.text(draft)).toBe('better')
    await b.sync.now()
    expect(await b.text(pipeline)).toBe('and further')
  })

  it('[FORK4] when the pipeline’s tail is refused, a draft that builds on it becomes a local draft too', async () => {
    const a = await device(world.ada)
    const pipeline = await a.createPipeline('weekly')
    await a.sync.start()
    await a.until('in_sync', 0)
    a.cut = true
    await a.describe(pipeline, 'refused')
    const draft = await fork(a, pipeline)
    await a.describe(draft, 'on top')
    await a.documents.refuse(pipeline, { code: 'invalid', reason: 'no' })
    expect(await a.text(pipeline)).toBe('')
    expect(a.documents.has(draft)).toBe(false)
    const kept = await a.documents.drafts(world.workspaceId)
    expect(kept.map(one => [one.documentId, one.code]).sort()).toEqual([
      [pipeline, 'invalid'],
      [pipeline, 'missing_deps'],
    ])
    await reopen(a)
    a.cut = false
    await a.sync.start()
    await a.until('in_sync', 0)
  })

  it('[SYNC15] a pipeline that the server no longer has is set aside with its drafts', async () => {
    const a = await device(world.ada)
    const pipeline = await a.createPipeline('weekly')
    const draft = await fork(a, pipeline)
    await a.describe(draft, 'on top')
    await a.state.write(tx => tx.run('delete from outbox'))
    await reopen(a)
    await a.describe(await fork(a, pipeline), 'never sent')
    await a.sync.start()
    await a.until('in_sync', 0)
    expect(a.documents.list(world.workspaceId)).toEqual([])
    const kept = await a.documents.drafts(world.workspaceId)
    // What was never sent is refused before the difference is found.
    expect(kept.map(one => [one.documentId, one.code]).sort()).toEqual([
      [pipeline, 'diverged'],
      [pipeline, 'diverged'],
      [pipeline, 'missing_deps'],
    ])
  })

  it('[FORK7] a refused edit is sent as a draft with its content, or not at all', async () => {
    const a = await device(world.ada)
    const pipeline = await a.createPipeline('weekly')
    await a.sync.start()
    await a.until('in_sync', 0)
    a.sync.pause(true)
    await a.describe(pipeline, 'refused')
    const local = await a.documents.refuse(pipeline, { code: 'permission', reason: 'no' })
    // What the server says of a draft: nothing yet.
    const send = (draftId: string) => {
      const needs = { documents: a.documents, server: world.ada.client } as unknown as DraftNeeds
      return new Drafts(needs).send(local, draftId, 'for review')
    }
    // The disk is full, or the host dies, when the first and when the second transaction begins.
    for (const taken of [0, 1]) {
      const write = a.state.write.bind(a.state)
      let left = taken
      a.state.write = work =>
        left-- > 0 ? write(work) : Promise.reject(new Error('No space left on device'))
      const draft = newId()
      const [sent] = await Promise.allSettled([send(draft)])
      await reopen(a)
      const there = { draft: a.documents.has(draft), local: await a.documents.drafts(world.workspaceId) }
      if (sent.status === 'rejected')
        expect(there).toMatchObject({ draft: false, local: [{ draftId: local }] })
      else {
        expect(there).toEqual({ draft: true, local: [] })
        expect(await a.text(draft)).toBe('refused')
        expect(await a.text(pipeline)).toBe('')
      }
    }
    await expect(send(newId())).rejects.toMatchObject({ code: 'draft.not_found' })
  })

  it('[FORK1] a draft of a draft is refused', async () => {
    const a = await device(world.ada)
    const draft = await fork(a, await a.createPipeline('weekly'))
    await expect(fork(a, draft)).rejects.toMatchObject({ code: 'request.invalid' })
    await a.documents.read(draft, doc => expect(() => forkAt(doc, ['0'.repeat(64)])).toThrow())
  })
})
