import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as A from '@automerge/automerge'
import {
  createPipeline,
  editPipeline,
  type PipelineDoc,
  pipelineFromDoc,
  setDescription,
  setTags,
} from '@pluto-duck/crdt-model'
import { encodeVoid, type LogItem, newId, type SnapshotItem } from '@pluto-duck/crdt-model/protocol'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { putDraft } from '../../src/documents/drafts.ts'
import { type DocumentEvent, Documents } from '../../src/documents/index.ts'
import { State, Workspaces } from '../../src/state/index.ts'
import { logItem } from './log-item.ts'

let folder: string
let state: State
let documents: Documents
const workspaceId = newId()

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pluto-documents-'))
  await start()
  await new Workspaces(state).put({ workspace_id: workspaceId, name: 'W', role: 'owner', remote: true })
})
afterEach(async () => {
  await documents.close()
  await state.close()
  rmSync(folder, { recursive: true, force: true })
})
const start = async () => {
  state = await State.open(folder)
  documents = await Documents.open(state, systemClock)
}
const restart = async () => {
  await documents.close()
  await state.close()
  await start()
}

const create = async (name = 'weekly') => {
  const documentId = newId()
  await documents.create({ documentId, workspaceId, kind: 'pipeline', doc: createPipeline({ name }) })
  return documentId
}
const described = (doc: A.Doc<PipelineDoc>, text: string) =>
  editPipeline(doc, 'describe', d => setDescription(d, text))
/** A view with a replica of its own, as the UI has. */
const view = async (documentId: string) => {
  const { bytes, actor } = await documents.open(documentId)
  let doc = A.load<PipelineDoc>(bytes, { actor })
  return {
    edit(text: string): Uint8Array {
      doc = described(doc, text)
      return A.getLastLocalChange(doc) as Uint8Array
    },
    apply(changes: readonly Uint8Array[]) {
      ;[doc] = A.applyChanges(doc, [...changes])
    },
    heads: () => A.getHeads(doc),
  }
}
const description = (documentId: string) =>
  documents.read(documentId, doc => String((doc as unknown as { description: unknown }).description))
let seq = 0
const nextItem = (documentId: string, bytes: Uint8Array): LogItem => logItem(++seq, documentId, bytes)
/** A document as the server has it. */
const serverItem = (documentId: string, doc: A.Doc<PipelineDoc>): SnapshotItem => ({
  document_id: documentId,
  kind: 'pipeline',
  subject: null,
  base: null,
  title: 'weekly',
  heads: A.getHeads(doc),
  seq,
  bytes: new Uint8Array(A.save(doc)),
})
/** While the disk takes nothing. */
const fails = async (deed: () => Promise<unknown>) => {
  state.write = () => Promise.reject(new Error('No space left on device'))
  try {
    await expect(deed()).rejects.toThrow()
  } finally {
    Reflect.deleteProperty(state, 'write')
  }
}
const acknowledgeAll = async (documentId: string) =>
  documents.acknowledge(
    workspaceId,
    [...documents.unacknowledged(documentId)].map(hash => ({ documentId, hash })),
    { records: [], reached: seq },
  )

describe('documents', () => {
  it('[HOSTDOC1] what was acknowledged is there after a restart, with its heads and its place in the outbox', async () => {
    const documentId = await create()
    const typing = await view(documentId)
    await Promise.all(
      Array.from({ length: 20 }, (_, i) => documents.append(documentId, [typing.edit(`n ${i}`)], 'v')),
    )
    const before = documents.info(documentId)
    await restart()
    expect(documents.info(documentId).heads).toEqual(before.heads)
    expect(documents.waiting({ workspaceId })).toBe(21)
    expect(await description(documentId)).toBe('n 19')
    expect(documents.list(workspaceId).map(info => info.title)).toEqual(['weekly'])
    const outbox = await documents.outbox(workspaceId, 100)
    expect(outbox.map(row => row.ord)).toEqual([...outbox.map(row => row.ord)].sort((a, b) => a - b))
    expect(outbox).toHaveLength(21)
  })

  it('[HOSTDOC2] a repeated append is stored once; other views hear of a change once', async () => {
    const documentId = await create()
    const heard: DocumentEvent[] = []
    documents.on(event => heard.push(event))
    const typing = await view(documentId)
    const change = typing.edit('x')
    await documents.append(documentId, [change], 'v')
    await documents.append(documentId, [change], 'v')
    expect(heard.filter(event => event.kind === 'changes')).toHaveLength(1)
    expect(documents.waiting({ documentId })).toBe(2)
  })

  it('[HOSTDOC3] bytes that are no change, and changes that build on unknown ones, are refused and change nothing', async () => {
    const documentId = await create()
    const typing = await view(documentId)
    typing.edit('lost')
    const later = typing.edit('later')
    await expect(documents.append(documentId, [later], 'v')).rejects.toMatchObject({
      code: 'change.missing_deps',
    })
    await expect(documents.append(documentId, [new Uint8Array(40)], 'v')).rejects.toMatchObject({
      code: 'change.invalid',
    })
    await expect(documents.append(newId(), [later], 'v')).rejects.toMatchObject({
      code: 'document.not_found',
    })
    expect(documents.waiting({ documentId })).toBe(1)
    expect(await description(documentId)).toBe('')
  })

  it('[HOSTDOC4] remote changes arrive with their cursor and records, and acknowledge ours', async () => {
    const documentId = await create()
    const other = await view(documentId)
    const first = (await documents.outbox(workspaceId, 10))[0]!
    const remote = Array.from({ length: 30 }, (_, i) => other.edit(`r ${i}`))
    const { diverged } = await documents.applyRemote(
      workspaceId,
      [nextItem(documentId, first.bytes), ...remote.map(bytes => nextItem(documentId, bytes))],
      31,
    )
    expect(diverged).toEqual([])
    expect(await description(documentId)).toBe('r 29')
    expect(documents.waiting({ workspaceId })).toBe(0)
    expect((await new Workspaces(state).get(workspaceId))?.cursor).toBe(31)
    expect(await state.read.first('select count(*) as n from records')).toEqual({ n: 31 })
    await restart()
    expect(await description(documentId)).toBe('r 29')
    expect(documents.info(documentId).heads).toEqual([...other.heads()].sort())
  })

  it('[HOSTDOC15] what the disk did not take is neither in the list, nor in the outbox, nor taken for acknowledged', async () => {
    const documentId = await create()
    const typing = await view(documentId)
    const [first] = await documents.outbox(workspaceId, 10)
    const before = documents.info(documentId).heads
    const [one, two] = [typing.edit('one'), typing.edit('two')]
    await fails(() =>
      Promise.all([
        documents.append(documentId, [one], 'v'),
        documents.append(documentId, [two], 'v').catch(() => undefined),
      ]),
    )
    expect(documents.info(documentId).heads).toEqual(before)
    expect(documents.waiting({ documentId })).toBe(1)
    await fails(() => documents.applyRemote(workspaceId, [nextItem(documentId, first!.bytes)], 1))
    expect(documents.waiting({ documentId })).toBe(1)
    expect(documents.info(documentId).heads).toEqual(before)
    await fails(create)
    expect(documents.list(workspaceId)).toHaveLength(1)
    await documents.append(documentId, [one, two], 'v')
    expect(await description(documentId)).toBe('two')
    expect(documents.waiting({ documentId })).toBe(3)
  })

  it('[HOSTDOC15] a document as the server has it, which the disk did not take, is taken the next time', async () => {
    const documentId = await create()
    await acknowledgeAll(documentId)
    const { heads } = documents.info(documentId)
    const theirs = described(A.load<PipelineDoc>((await documents.open(documentId)).bytes), 'theirs')
    await fails(() => documents.adopt(workspaceId, [serverItem(documentId, theirs)]))
    expect(documents.info(documentId).heads).toEqual(heads)
    await documents.adopt(workspaceId, [serverItem(documentId, theirs)])
    expect(await description(documentId)).toBe('theirs')
  })

  it('[SYNC15] an erased pipeline whose new history never comes, since the server was put back, goes on', async () => {
    const documentId = await create()
    const other = await view(documentId)
    const [first] = await documents.outbox(workspaceId, 10)
    const old = serverItem(documentId, A.load<PipelineDoc>((await documents.open(documentId)).bytes))
    const change = nextItem(documentId, first!.bytes)
    await documents.applyRemote(workspaceId, [change], seq)
    const record = encodeVoid({ v: 1, hashes: [change.hash], erase: true, reason: 'a secret' })
    const erasure: LogItem = {
      ...change,
      seq: ++seq,
      record: 'void',
      hash: 'e'.repeat(64),
      bytes: new Uint8Array(record),
    }
    await documents.applyRemote(workspaceId, [erasure], seq)
    await restart()
    // While the log says so it stays as it is.
    await documents.adopt(workspaceId, [old], null, [erasure])
    await fails(() => documents.adopt(workspaceId, [old]))
    const early = nextItem(documentId, other.edit('not yet'))
    await documents.applyRemote(workspaceId, [early], seq)
    expect(await description(documentId)).toBe('')
    await documents.adopt(workspaceId, [old])
    await restart()
    const later = nextItem(documentId, other.edit('goes on'))
    await documents.applyRemote(workspaceId, [early, later], seq)
    expect(await description(documentId)).toBe('goes on')
    await restart()
    expect(await description(documentId)).toBe('goes on')
  })

  it('[HOSTDOC5] a refused tail becomes one local draft with its content; the document is what the server has', async () => {
    const documentId = await create()
    await acknowledgeAll(documentId)
    const typing = await view(documentId)
    await documents.append(documentId, [typing.edit('mine'), typing.edit('mine too')], 'v')
    const heard: DocumentEvent[] = []
    documents.on(event => heard.push(event))
    const draftId = await documents.refuse(documentId, { code: 'permission', reason: 'viewers only read' })
    expect(await description(documentId)).toBe('')
    expect(documents.waiting({ workspaceId })).toBe(0)
    expect(heard[0]).toEqual({ kind: 'reset', documentId, draftId })
    // The view has not heard yet and types on.
    await documents.append(documentId, [typing.edit('typed on')], 'v')
    await restart()
    const draft = await documents.draft(draftId)
    expect(draft).toMatchObject({ code: 'permission', changes: 3, documentId })
    expect(String(A.load<{ description: string }>(draft.bytes).description)).toBe('typed on')
    expect(await description(documentId)).toBe('')
    // A new view writes with a new actor, on top of what the server has.
    const again = await view(documentId)
    await documents.append(documentId, [again.edit('new')], 'v')
    expect(await description(documentId)).toBe('new')
  })

  it('[HOSTDOC9] a local draft applied again brings its edit beside what happened meanwhile', async () => {
    const documentId = await create()
    await acknowledgeAll(documentId)
    await documents.edit(documentId, doc => described(doc, 'refused once'))
    const draftId = await documents.refuse(documentId, { code: 'permission', reason: 'no' })
    await documents.edit(documentId, doc => editPipeline(doc, 'tag', d => setTags(d, ['meanwhile'])))
    expect(await documents.applyDraft(draftId)).toEqual({ documentId })
    expect(await description(documentId)).toBe('refused once')
    expect(await documents.read(documentId, doc => pipelineFromDoc(doc).tags)).toEqual(['meanwhile'])
    expect(await documents.drafts(workspaceId)).toEqual([])
    expect(documents.waiting({ documentId })).toBe(2)
  })

  it('[HOSTDOC9] a local draft that is applied twice at once is applied once', async () => {
    const twice = async (draftId: string) => {
      const outcomes = await Promise.allSettled([
        documents.applyDraft(draftId),
        documents.applyDraft(draftId),
      ])
      const refused = outcomes.filter(outcome => outcome.status === 'rejected')
      expect(refused).toMatchObject([{ reason: { code: 'draft.not_found' } }])
      expect(await documents.drafts(workspaceId)).toEqual([])
    }
    const documentId = await create()
    await acknowledgeAll(documentId)
    await documents.edit(documentId, doc => described(doc, 'refused once'))
    await twice(await documents.refuse(documentId, { code: 'permission', reason: 'no' }))
    expect(await description(documentId)).toBe('refused once')
    const fresh = await create('refused-whole')
    await twice(await documents.refuse(fresh, { code: 'permission', reason: 'no' }))
    expect(documents.list(workspaceId).map(({ title }) => title)).toEqual(
      expect.arrayContaining(['weekly', 'refused-whole']),
    )
    expect(documents.list(workspaceId)).toHaveLength(2)
  })

  it('[HOSTDOC9] when the host dies right after the edit is stored the local draft is gone', async () => {
    const documentId = await create()
    await acknowledgeAll(documentId)
    await documents.edit(documentId, doc => described(doc, 'refused once'))
    const draftId = await documents.refuse(documentId, { code: 'permission', reason: 'no' })
    const write = state.write.bind(state)
    let stored = false
    state.write = async work => {
      if (stored) throw new Error('dead')
      stored = true
      return await write(work)
    }
    await documents.applyDraft(draftId).catch(() => undefined)
    await restart()
    expect(await description(documentId)).toBe('refused once')
    expect(await documents.drafts(workspaceId)).toEqual([])
  })

  it('[HOSTDOC9] a local draft whose ground was taken out is applied to what is there', async () => {
    const documentId = await create()
    await acknowledgeAll(documentId)
    const gone = described(A.load<PipelineDoc>((await documents.open(documentId)).bytes), 'taken out')
    const mine = editPipeline(A.clone(gone), 'tag', d => setTags(d, ['mine']))
    const draft = {
      ...{ draftId: newId(), workspaceId, documentId, kind: 'pipeline' as const, title: 'weekly' },
      ...{ code: 'permission', reason: 'no', changes: 1, createdAt: '2026-01-01T00:00:00.000Z' },
      ...{ bytes: A.save(mine), baseBytes: A.save(gone) },
    }
    await state.write(tx => putDraft(tx, draft))
    await documents.applyDraft(draft.draftId)
    expect(await documents.read(documentId, doc => pipelineFromDoc(doc).tags)).toEqual(['mine'])
    expect(await description(documentId)).toBe('')
    expect(documents.waiting({ documentId })).toBeGreaterThan(0)
    expect(await documents.drafts(workspaceId)).toEqual([])
  })

  it('[FORK6] a draft is not stored on top of what could not be stored of its pipeline', async () => {
    /** The disk takes everything but the first write, and not before what is asked for meanwhile waits behind that one. */
    const behindFailure = async (first: () => Promise<unknown>, then: () => Promise<unknown>) => {
      const gate = Promise.withResolvers<void>()
      const begun = Promise.withResolvers<void>()
      const write = state.write.bind(state)
      state.write = () => {
        state.write = write
        begun.resolve()
        return write(async () => {
          await gate.promise
          throw new Error('No space left on device')
        })
      }
      const deeds = [first()]
      await begun.promise
      deeds.push(then())
      await systemClock.sleep(50)
      gate.resolve()
      const ends = await Promise.allSettled(deeds)
      Reflect.deleteProperty(state, 'write')
      return ends.map(end => end.status)
    }
    const doc = createPipeline({ name: 'weekly' })
    const [pipeline, early, late] = [newId(), newId(), newId()]
    const items = A.getAllChanges(doc).map(bytes => nextItem(pipeline, bytes))
    const comes = () => documents.applyRemote(workspaceId, items, seq, [])

    const fork = (documentId: string, heads: readonly string[]) =>
      documents.fork({ documentId, base: pipeline, heads, title: 'try this' })
    const forked = () => fork(early, A.getHeads(doc))
    expect(await behindFailure(comes, forked)).toEqual(['rejected', 'rejected'])
    expect(documents.list(workspaceId)).toEqual([])
    await restart()
    expect(documents.list(workspaceId)).toEqual([])
    expect(documents.waiting({ workspaceId })).toBe(0)

    // Nor is there anything to keep for who leaves meanwhile.
    let left: unknown
    const leaves = async () => {
      const lost = expect(forked()).rejects.toThrow()
      left = await documents.leave(workspaceId, { code: 'permission', reason: 'removed' })
      await lost
    }
    expect(await behindFailure(comes, leaves)).toEqual(['rejected', 'fulfilled'])
    expect(left).toEqual({ drafts: [], unreadable: [] })

    await comes()
    await forked()
    const before = documents.waiting({ workspaceId })
    // Behind an edit that is lost: one draft is begun on it, and one takes it in.
    const edit = (text: string) => () => documents.edit(pipeline, one => described(one, text))
    const heads = () => documents.read(pipeline, one => A.getHeads(one))
    const onLost = async () => fork(late, await heads())
    expect(await behindFailure(edit('lost'), onLost)).toEqual(['rejected', 'rejected'])
    const takeIn = async () => documents.takeInBase(early, await heads())
    expect(await behindFailure(edit('lost too'), takeIn)).toEqual(['rejected', 'rejected'])
    expect(documents.has(late)).toBe(false)
    expect(documents.waiting({ workspaceId })).toBe(before)
    await documents.edit(early, one => described(one as A.Doc<PipelineDoc>, 'goes on'))
    await restart()
    expect([await description(pipeline), await description(early)]).toEqual(['', 'goes on'])
  })

  it('[HOSTDOC5] a refused new document leaves the list and stays as a draft', async () => {
    const documentId = await create()
    await documents.refuse(documentId, { code: 'permission', reason: 'no' })
    expect(documents.list(workspaceId)).toEqual([])
    await restart()
    expect(documents.list(workspaceId)).toEqual([])
    expect(await documents.drafts(workspaceId)).toMatchObject([{ documentId, title: 'weekly' }])
  })

  it('[HOSTDOC6] a long history becomes a snapshot; nothing unacknowledged is in it', async () => {
    const documentId = await create()
    const typing = await view(documentId)
    for (let i = 0; i < 60; i++)
      await documents.append(
        documentId,
        Array.from({ length: 10 }, (_, j) => typing.edit(`${i} ${j}`)),
        'v',
      )
    await restart()
    await description(documentId)
    expect(await state.read.first('select count(*) as n from snapshots')).toEqual({ n: 0 })
    await acknowledgeAll(documentId)
    await restart()
    await description(documentId)
    await state.write(async () => undefined)
    expect(await state.read.first('select count(*) as n from changes')).toEqual({ n: 0 })
    await restart()
    expect(await description(documentId)).toBe('59 9')
    expect(documents.info(documentId).heads).toEqual(typing.heads())
  })

  it('[HOSTDOC7] adopting the server’s state keeps what waits, and keeps as a draft what the server lost', async () => {
    const documentId = await create()
    await acknowledgeAll(documentId)
    const server = (await documents.open(documentId)).bytes
    const typing = await view(documentId)
    await documents.append(documentId, [typing.edit('waits')], 'v')
    const other = A.load<PipelineDoc>(server)
    const theirs = described(A.load<PipelineDoc>(server), 'theirs')
    expect((await documents.adopt(workspaceId, [serverItem(documentId, theirs)])).drafts).toEqual([])
    expect(documents.waiting({ documentId })).toBe(1)
    expect(documents.info(documentId).heads).toHaveLength(2)
    await restart()
    expect(documents.info(documentId).heads).toHaveLength(2)
    await acknowledgeAll(documentId)
    const { drafts } = await documents.adopt(workspaceId, [serverItem(documentId, other)])
    expect(drafts).toHaveLength(1)
    expect(documents.info(documentId).heads).toEqual(A.getHeads(other))
    expect((await documents.draft(drafts[0]!)).code).toBe('diverged')
  })

  it('[HOSTDOC20] a document that is not in memory is opened as it is stored; damage is found all the same', async () => {
    const id = await create('stored')
    const typed = await view(id)
    await documents.append(id, [typed.edit('one'), typed.edit('two')], 'view')
    await restart()
    const opened = await documents.open(id)
    const doc = A.load<PipelineDoc>(opened.bytes)
    expect(A.getHeads(doc).sort()).toEqual(opened.heads.toSorted())
    expect(String(doc.description)).toBe('two')
    expect(opened.heads).toEqual(await documents.read(id, held => A.getHeads(held).sort()))

    await restart()
    await state.write(async tx => {
      const row = await tx.first<{ ord: number; bytes: Uint8Array }>('select ord, bytes from changes limit 1')
      const bytes = row!.bytes.slice()
      bytes[bytes.length - 1]! ^= 1
      await tx.run('update changes set bytes = $1 where ord = $2', bytes, row!.ord)
    })
    await expect(documents.open(id)).rejects.toMatchObject({ code: 'document.corrupt' })
  })

  it('[HOSTDOC20] the schema of a document that came whole is told without loading it', async () => {
    const theirs = A.change(createPipeline({ name: 'theirs' }), d => {
      d.schema_version = 7
    })
    const later = A.change(A.clone(theirs), d => {
      d.schema_version = 8
    })
    const bytes = new Uint8Array([...A.save(theirs), ...A.getChanges(theirs, later).flatMap(one => [...one])])
    const documentId = newId()
    const heads = A.getHeads(later)
    await documents.adopt(workspaceId, [
      {
        document_id: documentId,
        kind: 'pipeline',
        subject: null,
        base: null,
        title: '',
        heads,
        seq: 2,
        bytes,
      },
    ])
    const opened = await documents.open(documentId)
    expect(opened.newer).toEqual({ version: 8, known: 1 })
    // As they came: a document that was loaded is saved as one chunk.
    expect(opened.bytes).toEqual(bytes)
  })

  it('[LEAVE1] what is written while a workspace goes is kept as a local draft too', async () => {
    const [first, second] = [await create('first'), await create('second')]
    await acknowledgeAll(first)
    const typing = await view(first)
    let written: Promise<unknown> | null = null
    documents.on(event => {
      if (event.kind === 'reset' && event.documentId === second)
        written = documents.append(first, [typing.edit('at the last moment')], 'v')
    })
    const { drafts } = await documents.leave(workspaceId, { code: 'permission', reason: 'removed' })
    await written
    expect(drafts).toHaveLength(2)
    const kept = (await documents.drafts(workspaceId)).find(draft => draft.documentId === first)
    const { bytes } = await documents.draft(kept?.draftId ?? '')
    expect(pipelineFromDoc(A.load<PipelineDoc>(bytes)).description).toBe('at the last moment')
    expect(documents.list(workspaceId)).toEqual([])
  })

  it('[HOSTDOC8] an edit by the host that throws leaves the document as it was', async () => {
    const documentId = await create()
    await expect(
      documents.edit(documentId, doc => {
        described(doc, 'half')
        throw new Error('no')
      }),
    ).rejects.toThrow('no')
    expect(await description(documentId)).toBe('')
    expect(await documents.edit(documentId, doc => doc)).toMatchObject({ changed: false })
    expect(await documents.edit(documentId, doc => described(doc, 'whole'))).toMatchObject({
      changed: true,
    })
    await restart()
    expect(await description(documentId)).toBe('whole')
  })
})
