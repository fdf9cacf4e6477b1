import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import * as A from '@automerge/automerge'
import {
  addThread,
  type CommentsDoc,
  commentsDocumentId,
  createComments,
  editComments,
  editPipeline,
  type PipelineDoc,
  pipelineFromDoc,
  readComments,
  spliceStepSql,
} from '@pluto-duck/crdt-model'
import { type LogItem, newId, versionRoutes } from '@pluto-duck/crdt-model/protocol'
import { readConfig, startServer } from '@pluto-duck/sync-server'
import { type Purging, purging } from '@pluto-duck/sync-server/purging'
import pg from 'pg'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Drafts } from '../../src/drafts/drafts.ts'
import { dueRewrite } from '../../src/state/index.ts'
import { readLog } from '../../src/sync/exchange.ts'
import type { ServerCalls } from '../../src/versions/server-calls.ts'
import { VersionCache } from '../../src/versions/version-cache.ts'
import { Device } from './device.ts'
import { TwoPeople } from './two-people.ts'

const SECRET = 'hunter2-pasted-by-mistake-7d1f'
const AUTH_SECRET = 'a secret of forty characters, for tests.'
const world = new TwoPeople()
let server: Purging
let sql: pg.Pool
beforeAll(async () => {
  server = await purging(world.server.database.url)
  sql = new pg.Pool({ connectionString: world.server.database.url, max: 1 })
})
afterAll(async () => {
  await sql?.end()
  await server?.close()
})

const insert = (of: Device, documentId: string, text: string) =>
  of.documents.edit<PipelineDoc>(documentId, doc =>
    editPipeline(doc, 'type', d => spliceStepSql(d, 'orders', 0, 0, text)),
  )
const sqlIn = (doc: A.Doc<unknown>): string | undefined =>
  pipelineFromDoc(doc as A.Doc<PipelineDoc>).steps.find(step => step.id === 'orders')?.sql
const sqlOf = (of: Device, documentId: string) => of.documents.read(documentId, sqlIn)
const fork = async (on: Device, base: string) => {
  const documentId = newId()
  await on.documents.fork({ documentId, base, heads: await on.heads(base), title: 'try this' })
  return documentId
}
const reopen = async (one: Device) => {
  await one.close()
  await one.open()
}
const filesWithSecret = (of: Device): string[] =>
  readdirSync(of.folder, { recursive: true, encoding: 'utf8' })
    .map(name => join(of.folder, name))
    .filter(path => statSync(path).isFile())
    .filter(path => {
      const content = readFileSync(path)
      return [SECRET, SECRET.slice(0, 12), SECRET.slice(-12)].some(text => content.includes(text))
    })
/** The local drafts with their text, without what is the same in all. */
const draftsOf = async (of: Device) => {
  const found = await Promise.all(
    (await of.documents.drafts(of.workspaceId)).map(({ draftId }) => of.documents.draft(draftId)),
  )
  return found
    .map(({ documentId, code, bytes }) => ({ documentId, code, text: sqlIn(A.load(bytes)) }))
    .sort((a, b) => String(a.text).localeCompare(String(b.text)))
}
/** A device that is in sync, its pipeline with the secret, and the change that brought it. */
const pasted = async () => {
  const a = await world.device(world.ada)
  const pipeline = await a.createPipeline('weekly')
  await insert(a, pipeline, `/* ${SECRET} */ `)
  const [guilty] = (await a.heads(pipeline)) as [string]
  await synced(a)
  return { a, pipeline, guilty }
}
/** Asked for, it does not wait until nobody types any more. */
const synced = async (one: Device) => {
  await one.sync.start()
  await one.sync.now()
  await one.until('in_sync', 0)
}
/** What waits is sent and stored there, and the device dies before it hears of it. */
const sendUnheard = async (a: Device) => {
  const answered = new Promise<void>(resolve => {
    a.onPush = when => when === 'answered' && resolve()
  })
  a.loseReplies = Number.POSITIVE_INFINITY
  await a.sync.start()
  await answered
  a.cut = true
  await reopen(a)
  a.loseReplies = 0
  a.cut = false
}
const follow = async (a: Device) => {
  a.sync.pause(false)
  await synced(a)
  expect(filesWithSecret(a)).toEqual([])
}
const HEALING = 'this device and the server differ; healing'

describe('what was erased on the server, on a device', () => {
  it('[SYNC14] what waits in drafts of the pipeline becomes local drafts of it, also after a restart', async () => {
    const { a, pipeline, guilty } = await pasted()
    const sent = await fork(a, pipeline)
    await insert(a, sent, 'sent; ')
    const untouched = await fork(a, pipeline)
    await synced(a)
    a.sync.pause(true)
    await insert(a, sent, '-- unsent\n')
    const unsent = await fork(a, pipeline)
    await insert(a, unsent, '-- never sent\n')
    await reopen(a)
    await server.purge(pipeline, [guilty])
    await follow(a)
    expect(await sqlOf(a, pipeline)).toBe('select 1')
    for (const draft of [sent, untouched, unsent]) expect(a.documents.has(draft)).toBe(false)
    expect(await draftsOf(a)).toEqual([
      { documentId: pipeline, code: 'void', text: '-- never sent\nselect 1' },
      { documentId: pipeline, code: 'void', text: '-- unsent\nselect 1' },
    ])
    expect(a.logged).not.toContain(HEALING)
    const [first] = await a.documents.drafts(a.workspaceId)
    await a.documents.applyDraft(first!.draftId)
    await synced(a)
    await reopen(a)
    await follow(a)
    expect(await sqlOf(a, pipeline)).toMatch(/sent\nselect 1$/)
  })

  it('[SYNC14] a new draft of the pipeline that comes with the void record stands on the new history', async () => {
    const { a, pipeline, guilty } = await pasted()
    a.sync.pause(true)
    await insert(a, pipeline, '-- unsent\n')
    await reopen(a)
    await server.purge(pipeline, [guilty])
    const b = await world.device(world.bob)
    await follow(b)
    const draft = await fork(b, pipeline)
    await insert(b, draft, 'better; ')
    await synced(b)
    await follow(a)
    expect([await sqlOf(a, pipeline), await sqlOf(a, draft)]).toEqual(['select 1', 'better; select 1'])
    expect(await draftsOf(a)).toMatchObject([{ documentId: pipeline, text: '-- unsent\nselect 1' }])
    expect(a.logged).not.toContain(HEALING)
  })

  it('[SYNC13] a draft that was never sent, of what was taken out of its pipeline, becomes a local draft; others stay', async () => {
    const a = await world.device(world.ada)
    const pipeline = await a.createPipeline('weekly')
    await synced(a)
    const early = await fork(a, pipeline)
    await insert(a, early, 'early; ')
    await insert(a, pipeline, 'guilty; ')
    const [guilty] = (await a.heads(pipeline)) as [string]
    await synced(a)
    a.sync.pause(true)
    await insert(a, early, 'unsent; ')
    const late = await fork(a, pipeline)
    await insert(a, late, 'late; ')
    await server.takeOut(a.workspaceId, pipeline, [guilty])
    await follow(a)
    expect([await sqlOf(a, pipeline), await sqlOf(a, early)]).toEqual(['select 1', 'unsent; early; select 1'])
    expect(await draftsOf(a)).toEqual([
      { documentId: pipeline, code: 'void', text: 'late; guilty; select 1' },
    ])
    expect(a.logged).not.toContain(HEALING)
  })

  it('[FORK5] of a pipeline whose current version lost changes a draft begins with what it is, as is said', async () => {
    const { a, pipeline, guilty } = await pasted()
    const about = { workspace_id: a.workspaceId, pipeline_id: pipeline, version_id: newId() }
    const body = { ...about, heads: [guilty], parent: null, message: '', resolved: [] }
    const { value: version } = await world.ada.client.call(versionRoutes.publish, { body })
    await server.takeOut(a.workspaceId, pipeline, [guilty])
    await synced(a)
    const calls: ServerCalls = {
      call: async (route, asked) => (await a.client.call(route, asked as never)).value,
    }
    const versions = new VersionCache(a.state, calls)
    await versions.remember(version)
    const drafts = new Drafts({
      documents: a.documents,
      server: calls,
      versions,
      workspaceId: () => a.workspaceId,
      sync: async () => {
        await a.sync.now()
      },
      stepFacts: async () => new Map(),
      toMarks: async () => [],
    })
    await expect(drafts.create(newId(), pipeline, 'try this', 'current')).rejects.toMatchObject({
      code: 'version.unknown_heads',
      hint: expect.stringContaining('--from-working'),
    })
    const { draft_id } = await drafts.create(newId(), pipeline, 'try this', 'working')
    expect(await sqlOf(a, draft_id)).toBe('select 1')
  })

  it('[SYNC14] void records that come alone lose nothing: what waits is kept until the new history is there', async () => {
    const { a, pipeline, guilty } = await pasted()
    a.sync.pause(true)
    await insert(a, pipeline, '-- refused\n')
    await a.documents.refuse(pipeline, { code: 'quota', reason: 'full' })
    await insert(a, pipeline, '-- unsent\n')
    const draft = await fork(a, pipeline)
    await insert(a, draft, '-- never sent\n')
    await server.purge(pipeline, [guilty])
    // The history that the first one began is never sent.
    await server.purge(pipeline)
    const { cursor } = (await a.state.read.first<{ cursor: number }>('select cursor from workspaces'))!
    const { items } = await readLog(a.client, a.workspaceId, cursor, new AbortController().signal)
    expect(items.map(item => item.record ?? 'change')).toEqual(['void', 'void', 'change'])
    // As pages that end anywhere bring them.
    for (const item of items as LogItem[]) {
      expect(await a.documents.applyRemote(a.workspaceId, [item], item.seq)).toEqual({ diverged: [] })
      await reopen(a)
    }
    await follow(a)
    expect(await sqlOf(a, pipeline)).toBe('select 1')
    expect(await draftsOf(a)).toEqual([
      { documentId: pipeline, code: 'void', text: '-- never sent\nselect 1' },
      { documentId: pipeline, code: 'quota', text: '-- refused\nselect 1' },
      { documentId: pipeline, code: 'void', text: '-- unsent\nselect 1' },
    ])
    expect(a.logged).not.toContain(HEALING)
  })

  it('[SYNC13] a void record of a document that cannot be read here takes nothing of what waits in it', async () => {
    const { a, pipeline } = await pasted()
    const b = await world.device(world.bob)
    await synced(b)
    a.sync.pause(true)
    await insert(a, pipeline, '-- unsent\n')
    await insert(b, pipeline, 'guilty; ')
    const [guilty] = (await b.heads(pipeline)) as [string]
    await synced(b)
    await server.takeOut(a.workspaceId, pipeline, [guilty])
    await a.state.write(tx =>
      tx.run(
        `update changes set bytes = encode('broken') where document_id = $1 and ord not in (select ord from outbox)`,
        pipeline,
      ),
    )
    await reopen(a)
    await synced(a)
    expect(await sqlOf(a, pipeline)).toBe(`-- unsent\n/* ${SECRET} */ select 1`)
    expect(await draftsOf(a)).toEqual([])
  })

  it('[SYNC14] of unsent edits of an erased document that cannot be read here the letters are kept', async () => {
    const { a, pipeline, guilty } = await pasted()
    a.sync.pause(true)
    await insert(a, pipeline, '-- unsent\n')
    await a.state.write(tx =>
      tx.run(
        `update changes set bytes = encode('broken') where document_id = $1 and ord not in (select ord from outbox)`,
        pipeline,
      ),
    )
    await reopen(a)
    await server.purge(pipeline, [guilty])
    await follow(a)
    const [draft, ...more] = await a.documents.drafts(a.workspaceId)
    expect(more).toEqual([])
    const { bytes } = await a.documents.draft(draft!.draftId)
    expect(pipelineFromDoc(A.load<PipelineDoc>(bytes)).description).toBe('-- unsent\n')
    expect(await sqlOf(a, pipeline)).toBe('select 1')
  })

  for (const way of ['waits', 'refused before', 'refused before, healed'] as const)
    it(`[SYNC14] of a pipeline that was sent, whose answer was never stored, what was typed since is kept: ${way}`, async () => {
      const a = await world.device(world.ada)
      const pipeline = await a.createPipeline('weekly')
      const about = { subject_kind: 'pipeline', subject_id: pipeline } as const
      const comments = commentsDocumentId(about)
      const subject = { kind: 'pipeline', id: pipeline } as const
      const doc = createComments(about)
      await a.documents.create({
        documentId: comments,
        workspaceId: a.workspaceId,
        kind: 'comments',
        subject,
        doc,
      })
      const say = (body: string) =>
        a.documents.edit<CommentsDoc>(comments, d =>
          editComments(d, 'say', open => addThread(open, { anchor: { kind: 'subject' }, body })),
        )
      await insert(a, pipeline, 'sent; ')
      await say('sent')
      await sendUnheard(a)
      await insert(a, pipeline, '-- unsent\n')
      await say('unsent')
      if (way !== 'waits')
        for (const one of [pipeline, comments])
          await a.documents.refuse(one, { code: 'quota', reason: 'full' })
      await server.purge(pipeline)
      await server.purge(comments)
      if (way === 'refused before, healed')
        await a.state.write(tx => tx.run('update workspaces set cursor = cursor + 100'))
      await reopen(a)
      await synced(a)
      expect(await sqlOf(a, pipeline)).toBe('sent; select 1')
      const drafts = await Promise.all(
        (await a.documents.drafts(a.workspaceId)).map(({ draftId }) => a.documents.draft(draftId)),
      )
      const [written] = drafts.filter(one => one.kind === 'pipeline')
      const [said] = drafts.filter(one => one.kind === 'comments')
      expect(drafts.length).toBe(2)
      expect(sqlIn(A.load(written!.bytes))).toBe('-- unsent\nsent; select 1')
      expect(
        readComments(A.load<CommentsDoc>(said!.bytes)).threads.flatMap(({ messages }) =>
          messages.map(({ body }) => body),
        ),
      ).toContain('unsent')
      // It is a pipeline of its own, which can be taken up again.
      const { documentId } = await a.documents.applyDraft(written!.draftId)
      await synced(a)
      expect(documentId).not.toBe(pipeline)
      expect(await sqlOf(a, documentId)).toBe('-- unsent\nsent; select 1')
    })

  it('[SYNC14] a device that dies right after it took the void record forgets the content when it starts again', async () => {
    const { a, pipeline, guilty } = await pasted()
    a.sync.pause(true)
    await server.purge(pipeline, [guilty])
    let dead = false
    a.state.rewrite = async () => {
      dead = true
      throw new Error('killed')
    }
    a.sync.pause(false)
    await a.sync.now()
    expect(dead).toBe(true)
    expect(await a.state.read.all("select value from meta where key = 'rewrite'")).toEqual([{ value: 'due' }])
    expect(filesWithSecret(a)).not.toEqual([])
    await reopen(a)
    await follow(a)
  })

  it('[SYNC14] a disk that takes nothing more right after the void record was taken holds nothing up', async () => {
    const { a, pipeline, guilty } = await pasted()
    a.sync.pause(true)
    await server.purge(pipeline, [guilty])
    const write = a.state.write.bind(a.state)
    a.state.write = work =>
      (work as unknown) === dueRewrite ? Promise.reject(new Error('No space left on device')) : write(work)
    a.sync.pause(false)
    await synced(a)
    a.state.write = write
    expect(
      await a.state.read.all('select hash from records group by document_id, hash having count(*) > 1'),
    ).toEqual([])
    await reopen(a)
    await follow(a)
    expect(await sqlOf(a, pipeline)).toBe('select 1')
  })

  for (const way of ['healed', 'added again'] as const)
    it(`[SYNC14] a device that did not read the void record keeps nothing either: ${way}`, async () => {
      const { a, pipeline, guilty } = await pasted()
      const draft = await fork(a, pipeline)
      await insert(a, draft, 'sent; ')
      await synced(a)
      a.sync.pause(true)
      await insert(a, pipeline, '-- refused\n')
      await a.documents.refuse(pipeline, { code: 'quota', reason: 'full' })
      await insert(a, draft, '-- unsent\n')
      if (way === 'added again')
        await a.documents.leave(a.workspaceId, { code: 'permission', reason: 'removed' })
      await server.purge(pipeline, [guilty])
      if (way === 'healed')
        // The log's numbers are not what they were: as after a restore, when others wrote more than was lost.
        await a.state.write(tx => tx.run('update workspaces set cursor = cursor + 100'))
      await reopen(a)
      await follow(a)
      expect(await sqlOf(a, pipeline)).toBe('select 1')
      expect((await draftsOf(a)).map(one => [one.documentId, one.text])).toEqual([
        [pipeline, '-- refused\nselect 1'],
        [pipeline, '-- unsent\nselect 1'],
      ])
      for (const { draftId } of await a.documents.drafts(a.workspaceId)) await a.documents.applyDraft(draftId)
      await synced(a)
      expect(await sqlOf(a, pipeline)).toMatch(/^-- (unsent|refused)\n-- (unsent|refused)\nselect 1$/)
    })

  it('[SYNC14] a version that was asked for before its content was erased is not kept when it comes after', async () => {
    const { a, pipeline, guilty } = await pasted()
    await a.client.call(versionRoutes.publish, {
      body: {
        workspace_id: a.workspaceId,
        pipeline_id: pipeline,
        version_id: newId(),
        heads: await a.heads(pipeline),
        parent: null,
        message: 'm',
        resolved: [],
      },
    })
    let erase = async (): Promise<void> => {
      erase = async () => undefined
      a.sync.pause(true)
      await server.purge(pipeline, [guilty])
      await follow(a)
    }
    const cache = new VersionCache(a.state, {
      call: async (route, request) => {
        const { value } = await a.client.call(route, request as never)
        await erase()
        return value
      },
    })
    expect((await cache.read(pipeline, 1)).definition.steps[0]?.sql).toContain(SECRET)
    await expect(cache.read(pipeline, 1)).rejects.toMatchObject({ code: 'version.purged' })
    await a.state.write(async () => undefined)
    expect(filesWithSecret(a)).toEqual([])
    expect((await cache.list(pipeline)).map(one => one.number)).toEqual([2, 1])
  })

  it('[SYNC15] a server that was put back and then purged: nothing of the old history comes back', async () => {
    const { a, pipeline, guilty } = await pasted()
    const kept = await seqOf(a)
    const heads = await a.heads(pipeline)
    await insert(a, pipeline, 'after the backup; ')
    await synced(a)
    a.sync.pause(true)
    await insert(a, pipeline, '-- unsent\n')
    await a.close()
    await putBack(a.workspaceId, pipeline, kept, heads)
    const config = { PORT: '0', DATABASE_URL: world.server.database.url, AUTH_SECRET }
    const restored = await startServer(readConfig(config), { log: pino({ level: 'silent' }) })
    await server.purge(pipeline, [guilty])
    const again = await Device.start(restored.url, world.ada.token, a.workspaceId, a.folder)
    await synced(again)
    expect(filesWithSecret(again)).toEqual([])
    expect(await sqlOf(again, pipeline)).toBe('select 1')
    expect((await draftsOf(again)).map(one => one.text)).toEqual(['-- unsent\nselect 1'])
    await again.close()
    await restored.close()
    await a.open()
  })

  it('[SYNC14] of erased comments unsent messages are kept as text, also one that was refused before', async () => {
    const a = await world.device(world.ada)
    const subject = { subject_kind: 'pipeline', subject_id: await a.createPipeline('weekly') } as const
    const documentId = commentsDocumentId(subject)
    await a.documents.create({
      documentId,
      workspaceId: a.workspaceId,
      kind: 'comments',
      subject: { kind: 'pipeline', id: subject.subject_id },
      doc: createComments(subject),
    })
    const say = (body: string) =>
      a.documents.edit<CommentsDoc>(documentId, doc =>
        editComments(doc, 'say', d => addThread(d, { anchor: { kind: 'subject' }, body })),
      )
    const bodies = (doc: A.Doc<unknown>) =>
      readComments(doc as A.Doc<CommentsDoc>).threads.flatMap(one => one.messages.map(({ body }) => body))
    await say(`it is ${SECRET}`)
    await synced(a)
    a.sync.pause(true)
    await say('refused')
    await a.documents.refuse(documentId, { code: 'quota', reason: 'full' })
    await say('unsent')
    await server.purge(documentId)
    await follow(a)
    expect(await a.documents.read(documentId, bodies)).toEqual([])
    const drafts = await a.documents.drafts(a.workspaceId)
    const texts = await Promise.all(
      drafts.map(async ({ draftId }) => bodies(A.load((await a.documents.draft(draftId)).bytes))),
    )
    expect(texts.sort()).toEqual([['refused'], ['unsent']])
  })
})

const seqOf = async (of: Device): Promise<number> => {
  const { rows } = await sql.query('select seq from workspace_counters where workspace_id = $1', [
    of.workspaceId,
  ])
  return Number(rows[0].seq)
}

/** What a restore leaves: rows, records and counter of an earlier moment. */
const putBack = async (workspaceId: string, documentId: string, seq: number, heads: readonly string[]) => {
  await sql.query(`set session_replication_role = replica`)
  await sql.query('delete from log_records where workspace_id = $1 and seq > $2', [workspaceId, seq])
  await sql.query('update documents set seq = $2, heads = $3 where id = $1', [documentId, seq, heads])
  await sql.query('update workspace_counters set seq = $2 where workspace_id = $1', [workspaceId, seq])
  await sql.query(`set session_replication_role = default`)
}
