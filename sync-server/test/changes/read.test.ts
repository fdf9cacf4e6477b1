import * as Automerge from '@automerge/automerge'
import { digestOfHeads } from '@pluto-duck/crdt-model/protocol'
import { sql } from 'kysely'
import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Trial, type TrialDocument } from '../../src/changes/admission/trial.ts'
import { Appender, type Commit } from '../../src/changes/append.ts'
import { Digests } from '../../src/changes/digest.ts'
import { LogWatcher } from '../../src/changes/log-watcher.ts'
import { readLog, readSnapshot } from '../../src/changes/read.ts'
import { Snapshots } from '../../src/changes/snapshots.ts'
import {
  actor,
  type LogFixture,
  logFixture,
  type Note,
  note,
  TestDevice,
  takenOut,
  untilWaiting,
} from './log-fixture.ts'

let log: LogFixture
let appender: Appender
const trial = new Trial()
const committed: ((commit: Commit) => void)[] = []

beforeAll(async () => {
  log = await logFixture()
  appender = new Appender({
    db: log.db,
    trial,
    onCommit: commit => {
      for (const heard of committed) heard(commit)
    },
  })
})
afterAll(async () => {
  await trial.close()
  await log?.close()
})

/** A workspace with one document of so many changes. */
async function written(count: number) {
  const device = new TestDevice(await log.workspace())
  const id = v7()
  const doc = note(actor())
  const changes = [doc.first, ...Array.from({ length: count - 1 }, (_, i) => doc.edit(`${i}`))]
  await appender.append(device.push(id, changes))
  return { device, id, doc, changes, workspaceId: device.workspaceId }
}

describe('reading', () => {
  it('[LOG9] pages follow each other without gaps, and say when there is more', async () => {
    const { workspaceId, changes, id, device } = await written(12)
    const first = await readLog(log.db, workspaceId, { after: 0, limit: 5 })
    expect([first.more, first.seq, first.items.length]).toEqual([true, 5, 5])
    const rest = await readLog(log.db, workspaceId, { after: first.seq, limit: 100 })
    expect([rest.more, rest.seq]).toEqual([false, 12])
    const all = [...first.items, ...rest.items]
    expect(all.map(item => item.seq)).toEqual(Array.from({ length: 12 }, (_, i) => i + 1))
    expect(all.map(item => Buffer.from(item.bytes).toString('hex'))).toEqual(
      changes.map(bytes => Buffer.from(bytes).toString('hex')),
    )
    expect(all[0]).toMatchObject({
      document_id: id,
      kind: 'pipeline',
      author_id: 'ann',
      device_id: device.id,
    })
    expect(await readLog(log.db, workspaceId, { after: 99, limit: 5 })).toEqual({
      items: [],
      seq: 12,
      more: false,
    })
  })

  it('[LOG9] who waits is answered as soon as something is stored', async () => {
    const { workspaceId, device, id, doc } = await written(1)
    const watcher = new LogWatcher({ db: log.db, pollMs: 60_000 })
    committed.push(commit => watcher.announce(commit.workspaceId, commit.seq))
    const waiting = watcher.waitBeyond(workspaceId, 1, { timeoutMs: 20_000 })
    await appender.append(device.push(id, [doc.edit('x')]))
    expect(await waiting).toBe(2)
    expect(await watcher.waitBeyond(workspaceId, 1, { timeoutMs: 20_000 })).toBe(2)
    expect(await watcher.waitBeyond(workspaceId, 2, { timeoutMs: 20 })).toBe(2)
    watcher.close()
  })

  it('[LOG13] a lost notification costs a poll and no change', async () => {
    const { workspaceId, device, id, doc } = await written(1)
    const deaf = new LogWatcher({ db: log.db, pollMs: 30 })
    const waiting = deaf.waitBeyond(workspaceId, 1, { timeoutMs: 20_000 })
    await appender.append(device.push(id, [doc.edit('x')]))
    expect(await waiting).toBe(2)
    deaf.close()
  })

  it('[LOG10] a snapshot and the tail behind it give the document, before and after compaction', async () => {
    const { workspaceId, device, id, doc } = await written(30)
    const corrupt: string[] = []
    const snapshots = new Snapshots({
      db: log.db,
      trial,
      onCorrupt: (_, documentId) => void corrupt.push(documentId),
      onError: error => {
        throw error
      },
    })
    const read = async () => {
      const all = []
      for await (const one of readSnapshot(log.db, workspaceId)) all.push(one)
      return all
    }
    const expectDocument = async (tail: number) => {
      const [only] = await read()
      expect(only?.tailChanges).toBe(tail)
      expect(only?.item).toMatchObject({
        document_id: id,
        title: 'note',
        heads: Automerge.getHeads(doc.doc()),
      })
      const loaded = Automerge.load(only!.item.bytes)
      expect(Automerge.toJS(loaded)).toEqual(Automerge.toJS(doc.doc()))
      expect(Automerge.getHeads(loaded)).toEqual(only!.item.heads)
      return only!.item.bytes.length
    }
    const before = await expectDocument(30)
    snapshots.request(workspaceId, id)
    await snapshots.idle()
    const after = await expectDocument(0)
    expect(after).toBeLessThan(before / 4)
    await appender.append(device.push(id, [doc.edit('more')]))
    await expectDocument(1)
    // A server that has just started appends on top of the snapshot.
    const fresh = new Appender({ db: log.db, trial: new Trial() })
    const appended = await fresh.append(device.push(id, [doc.edit('again')]))
    expect(appended.verdicts[0]).toMatchObject({ status: 'stored', seq: 32 })
    expect(corrupt).toEqual([])
    await snapshots.close()
  })

  it('[LOG11] a document whose bytes do not load becomes read-only', async () => {
    const { workspaceId, device, id, doc } = await written(3)
    await sql`update documents set heads = array[${'ab'.repeat(32)}] where id = ${id}`.execute(log.db)
    const corrupt: string[] = []
    const snapshots = new Snapshots({
      db: log.db,
      trial: new Trial(),
      onCorrupt: (workspace, documentId) => {
        corrupt.push(documentId)
        appender.forget(workspace, documentId)
      },
      onError: () => {},
    })
    snapshots.request(workspaceId, id)
    await snapshots.idle()
    expect(corrupt).toEqual([id])
    const appended = await appender.append(device.push(id, [doc.edit('x')]))
    expect(appended.verdicts[0]).toMatchObject({ status: 'refused', code: 'invalid' })
  })

  it('[LOG11] a document from which something is taken out while it is compacted stays writable, and is compacted after', async () => {
    const { workspaceId, id, doc, device, changes } = await written(6)
    const corrupt: string[] = []
    const slow = new (class extends Trial {
      override async snapshot(document: TrialDocument): ReturnType<Trial['snapshot']> {
        if (changes.length > 5) {
          const { hash } = Automerge.decodeChange(changes.pop()!)
          await takenOut(log, { workspaceId, documentId: id, hashes: [hash] })
        }
        return await super.snapshot(document)
      }
    })()
    const snapshots = new Snapshots({
      db: log.db,
      trial: slow,
      onCorrupt: (_workspace, _id, reason) => void corrupt.push(reason),
      onError: error => corrupt.push(String(error)),
    })
    snapshots.request(workspaceId, id)
    await snapshots.idle()
    await snapshots.close()
    await slow.close()
    expect(corrupt).toEqual([])
    const { rows } = await sql<{ corrupt: string | null; snapshot_seq: string }>`
      select corrupt, snapshot_seq from documents where id = ${id}`.execute(log.db)
    expect(rows).toEqual([{ corrupt: null, snapshot_seq: '7' }])
    const [kept] = Automerge.applyChanges(Automerge.init<Note>({ actor: actor() }), changes)
    const next = Automerge.change(kept, d => Automerge.splice(d, ['text'], 0, 0, doc.doc().text))
    const appended = await appender.append(device.push(id, [Automerge.getLastLocalChange(next)!]))
    expect(appended.verdicts).toMatchObject([{ status: 'stored', seq: 8 }])
  })

  for (const found of ['a snapshot', 'that it does not load'] as const)
    it(`[LOG11] what is taken out while ${found} is being stored of a document is in no snapshot and harms none`, async () => {
      const { workspaceId, id, changes } = await written(6)
      let fails = found === 'that it does not load'
      const own = new (class extends Trial {
        override async snapshot(document: TrialDocument): ReturnType<Trial['snapshot']> {
          const failed = fails
          fails = false
          return failed ? { failed: found } : await super.snapshot(document)
        }
      })()
      const corrupt: string[] = []
      const snapshots = new Snapshots({
        db: log.db,
        trial: own,
        onCorrupt: (_workspace, _id, reason) => void corrupt.push(reason),
        onError: error => corrupt.push(String(error)),
      })
      const { hash } = Automerge.decodeChange(changes.at(-1)!)
      let compacted: Promise<void> | undefined
      await takenOut(log, {
        workspaceId,
        documentId: id,
        hashes: [hash],
        meanwhile: async () => {
          compacted = snapshots.compact(workspaceId, id)
          await untilWaiting(log.db)
        },
      })
      await compacted
      await snapshots.idle()
      const { rows } = await sql<{ corrupt: string | null }>`
        select corrupt from documents where id = ${id}`.execute(log.db)
      expect([rows, corrupt]).toEqual([[{ corrupt: null }], []])
      for await (const { item } of readSnapshot(log.db, workspaceId))
        expect(Automerge.getHeads(Automerge.load(item.bytes))).toEqual(item.heads)
      await snapshots.close()
      await own.close()
    })

  it('[LOG12] the digest is that of all heads, and follows them', async () => {
    const { workspaceId, device, id, doc } = await written(2)
    const digests = new Digests(log.db)
    const expected = (documents: [string, Automerge.Doc<unknown>][]) =>
      digestOfHeads(documents.map(([document_id, one]) => ({ document_id, heads: Automerge.getHeads(one) })))
    expect(await digests.read(workspaceId)).toEqual({ seq: 2, digest: expected([[id, doc.doc()]]) })
    const other = note(actor())
    const otherId = v7()
    await appender.append(device.push(otherId, [other.first]))
    await appender.append(device.push(id, [doc.edit('x')]))
    const now = {
      seq: 4,
      digest: expected([
        [otherId, other.doc()],
        [id, doc.doc()],
      ]),
    }
    expect(await digests.read(workspaceId)).toEqual(now)
    expect(await digests.read(workspaceId)).toEqual(now)
    expect(await new Digests(log.db).read(workspaceId)).toEqual(now)
  })

  it('[LOG12] a digest that was being read while its workspace was forgotten is that of all heads', async () => {
    const { workspaceId, device } = await written(2)
    let held: Promise<void> | null = null
    const slow = log.db.withPlugin({
      transformQuery: ({ node }) => node,
      transformResult: async ({ result }) => {
        const until = held
        held = null
        await until
        return result
      },
    })
    const digests = new Digests(slow)
    await digests.read(workspaceId)
    await appender.append(device.push(v7(), [note(actor()).first]))
    const { promise, resolve } = Promise.withResolvers<void>()
    held = promise
    const reading = digests.read(workspaceId)
    await expect.poll(() => held === null).toBe(true)
    // So many other workspaces are asked for meanwhile that this one is forgotten.
    for (let i = 0; i < 100; i++) await digests.read(v7())
    resolve()
    expect(await reading).toEqual(await new Digests(log.db).read(workspaceId))
  })

  it('[LOG18] many heads are read in pages of one state, whatever is stored meanwhile', async () => {
    const { workspaceId, device } = await written(2)
    const hash = "encode(sha256(convert_to(n::text, 'UTF8')), 'hex')"
    await sql`
      insert into documents (workspace_id, id, kind, heads, created_seq, seq)
      select ${workspaceId}, gen_random_uuid(), 'pipeline',
        case when n % 7 = 0 then array[${sql.raw(hash)}, repeat('f', 64)] when n = 5 then '{}' else array[${sql.raw(hash)}] end, 2, 2
      from generate_series(1, 2500) n`.execute(log.db)
    const state = async () => {
      const { rows } = await sql<{ document_id: string; heads: string[] }>`
        select id as document_id, heads from documents where workspace_id = ${workspaceId}`.execute(log.db)
      return digestOfHeads(rows)
    }
    const before = await state()
    const held = holding(log.db, /string_agg/)
    const digests = new Digests(held.db)
    const first = digests.read(workspaceId)
    await held.reached
    // Ids that come behind the page that was read: without one state they would be in it, or only some of them.
    for (let i = 0; i < 3; i++) await appender.append(device.push(v7(), [note(actor()).first]))
    const [second, third] = [digests.read(workspaceId), digests.read(workspaceId)]
    held.release()
    expect(await first).toEqual({ seq: 2, digest: before })
    const after = { seq: 5, digest: await state() }
    expect(await Promise.all([second, third])).toEqual([after, after])
    expect(await digests.read(workspaceId)).toEqual(after)
  })

  it('[LOG18] a reading that fails leaves nothing of itself behind', async () => {
    const { workspaceId, device } = await written(2)
    const held = holding(log.db, /workspace_counters/)
    const digests = new Digests(held.db)
    const first = digests.read(workspaceId)
    await held.reached
    await appender.append(device.push(v7(), [note(actor()).first]))
    const second = digests.read(workspaceId)
    held.release(new Error('the connection is gone'))
    await expect(first).rejects.toThrow('the connection is gone')
    expect(await second).toEqual(await new Digests(log.db).read(workspaceId))
  })
})

/** Holds the result of the first statement that matches, until it is let go or fails. */
function holding(db: LogFixture['db'], pattern: RegExp) {
  const reached = Promise.withResolvers<void>()
  const until = Promise.withResolvers<void>()
  const wanted = new WeakSet<object>()
  let seen = false
  return {
    db: db.withPlugin({
      transformQuery: ({ node, queryId }) => {
        if (!seen && pattern.test(JSON.stringify(node))) {
          seen = true
          wanted.add(queryId)
        }
        return node
      },
      transformResult: async ({ result, queryId }) => {
        if (wanted.has(queryId)) {
          reached.resolve()
          await until.promise
        }
        return result
      },
    }),
    reached: reached.promise,
    release: (error?: Error) => (error ? until.reject(error) : until.resolve()),
  }
}
