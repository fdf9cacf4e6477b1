import { randomBytes } from 'node:crypto'
import { zstdCompressSync } from 'node:zlib'
import * as Automerge from '@automerge/automerge'
import {
  appendVerdict,
  decodeBundle,
  decodeSequence,
  encodeItem,
  encodeSequence,
  type LogItem,
  logItem,
  logRun,
  parseAppend,
  SequenceReader,
  type SnapshotItem,
  snapshotItem,
  storedRun,
  unpacked,
} from '@pluto-duck/crdt-model/protocol'
import { sql } from 'kysely'
import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Trial } from '../../src/changes/admission/trial.ts'
import { Appender } from '../../src/changes/append.ts'
import { packLog, verdictItems } from '../../src/changes/log-runs.ts'
import { packItemOf, unpack } from '../../src/changes/packs.ts'
import { readLog } from '../../src/changes/read.ts'
import { sendSnapshot } from '../../src/changes/send-snapshot.ts'
import { SnapshotPages } from '../../src/changes/snapshot-pages.ts'
import { Snapshots } from '../../src/changes/snapshots.ts'
import { actor, type LogFixture, logFixture, note, TestDevice, takenOut } from './log-fixture.ts'

let log: LogFixture
let appender: Appender
let snapshots: Snapshots
let pages: SnapshotPages
const trial = new Trial()
const fail = (error: unknown): void => {
  throw error
}

beforeAll(async () => {
  log = await logFixture()
  appender = new Appender({ db: log.db, trial })
  snapshots = new Snapshots({ db: log.db, trial, onCorrupt: fail, onError: fail })
  pages = new SnapshotPages({
    db: log.db,
    onError: fail,
    compact: (workspaceId, documentId) => snapshots.compact(workspaceId, documentId),
  })
})
afterAll(async () => {
  await pages.close()
  await trial.close()
  await log?.close()
})

interface Written {
  readonly device: TestDevice
  readonly documents: { readonly id: string; readonly doc: ReturnType<typeof note> }[]
}

/** A workspace of so many documents with so many changes each. */
async function workspace(count: number, changes = 8): Promise<Written> {
  const device = new TestDevice(await log.workspace())
  const written: Written = { device, documents: [] }
  for (let i = 0; i < count; i++) await add(written, changes)
  return written
}

async function add({ device, documents }: Written, changes = 8): Promise<void> {
  const one = { id: v7(), doc: note(actor()) }
  const edits = Array.from({ length: changes - 1 }, (_, i) => one.doc.edit(`${i}`))
  await appender.append(device.push(one.id, [one.doc.first, ...edits]))
  documents.push(one)
}

/** What a device takes from the answer: the first item of each document. */
async function taken(
  workspaceId: string,
  packed = true,
  heard: (bytes: number) => void = () => {},
): Promise<Map<string, SnapshotItem>> {
  const reader = new SequenceReader()
  const found = new Map<string, SnapshotItem>()
  const write = async (part: Uint8Array): Promise<void> => {
    heard(part.length)
    for (const item of unpacked(reader.push(new Uint8Array(part)), unpack)) {
      const document = snapshotItem.parse(item)
      if (!found.has(document.document_id)) found.set(document.document_id, document)
    }
  }
  await sendSnapshot(log.db, workspaceId, { write, packed, signal: new AbortController().signal })
  return found
}

/** They are what was written. */
function expectAll(found: Map<string, SnapshotItem>, { documents }: Written): void {
  expect([...found.keys()].sort()).toEqual(documents.map(one => one.id).sort())
  for (const { id, doc } of documents) {
    const item = found.get(id)!
    expect(item.heads).toEqual(Automerge.getHeads(doc.doc()))
    expect(Automerge.toJS(Automerge.load(item.bytes))).toEqual(Automerge.toJS(doc.doc()))
  }
}

const countPages = async (workspaceId: string): Promise<number> => {
  const { rows } = await sql<{ count: string }>`
    select count(*) as count from snapshot_pages
    where workspace_id = ${workspaceId} and replaced_at is null`.execute(log.db)
  return Number(rows[0]!.count)
}

/** Three documents in pages, of which the first was changed since. */
const pagedAndChanged = async () => {
  const { device, documents } = await workspace(3)
  await pages.build(device.workspaceId)
  const [first, second] = documents as [(typeof documents)[0], (typeof documents)[0]]
  await appender.append(device.push(first.id, [first.doc.edit('later')]))
  return { device, documents, second }
}

describe('what a new device is sent', () => {
  it('[READ1] pages and what changed since give every document as it is', async () => {
    const written = await workspace(6)
    const { workspaceId } = written.device
    expectAll(await taken(workspaceId), written)
    await pages.build(workspaceId)
    expect(await countPages(workspaceId)).toBe(1)
    expectAll(await taken(workspaceId), written)

    const [first] = written.documents
    await appender.append(written.device.push(first!.id, [first!.doc.edit('later')]))
    await add(written)
    expectAll(await taken(workspaceId), written)
    expectAll(await taken(workspaceId, false), written)
    await pages.build(workspaceId)
    expectAll(await taken(workspaceId), written)
  })

  it('[READ2] an answer out of which something is taken while it is sent does not end as if it were whole', async () => {
    const { device, second } = await pagedAndChanged()
    const { workspaceId } = device
    let parts = 0
    const write = async (): Promise<void> => {
      const hashes = Automerge.getHeads(second.doc.doc())
      if (++parts === 1) await takenOut(log, { workspaceId, documentId: second.id, hashes })
    }
    await expect(
      sendSnapshot(log.db, workspaceId, { write, packed: false, signal: new AbortController().signal }),
    ).rejects.toThrow(/thrown away/)
    expect((await taken(workspaceId)).size).toBe(3)
  })

  it('[READ1] an answer is whole although pages are made while it is sent', async () => {
    const { device, documents, second } = await pagedAndChanged()
    const { workspaceId } = device
    const found = new Set<string>()
    let parts = 0
    const reader = new SequenceReader()
    const write = async (part: Uint8Array): Promise<void> => {
      for (const item of reader.push(new Uint8Array(part))) found.add(snapshotItem.parse(item).document_id)
      if (++parts > 1) return
      await appender.append(device.push(second.id, [second.doc.edit('later')]))
      await pages.build(workspaceId)
    }
    await sendSnapshot(log.db, workspaceId, { write, packed: false, signal: new AbortController().signal })
    expect([...found].sort()).toEqual(documents.map(one => one.id).sort())
  })

  it('[READ5] a page of many bytes is written in pieces, and is what it was', async () => {
    const written = await workspace(3)
    for (const { id, doc } of written.documents.slice(0, 2)) {
      const edits = Array.from({ length: 6 }, () => doc.edit(randomBytes(6_000).toString('base64')))
      const { verdicts } = await appender.append(written.device.push(id, edits))
      expect(verdicts.map(one => one.status)).toEqual(edits.map(() => 'stored'))
    }
    await pages.build(written.device.workspaceId)
    expect(await countPages(written.device.workspaceId)).toBe(1)
    const pieces: number[] = []
    expectAll(await taken(written.device.workspaceId, true, bytes => void pieces.push(bytes)), written)
    expect(pieces.reduce((sum, one) => sum + one, 0)).toBeGreaterThan(60_000)
    expect(Math.max(...pieces)).toBeLessThanOrEqual(45_000)
    expectAll(await taken(written.device.workspaceId, false), written)
  })

  it('[READ1] nothing is missing while documents change and pages are made', async () => {
    const written = await workspace(4)
    const { device, documents } = written
    await pages.build(device.workspaceId)
    const writing = (async () => {
      for (let round = 0; round < 12; round++) {
        const { id, doc } = documents[round % documents.length]!
        await appender.append(device.push(id, [doc.edit(`round ${round}`)]))
        if (round % 3 === 0) await add(written, 2)
      }
    })()
    const building = (async () => {
      for (let round = 0; round < 6; round++) await pages.build(device.workspaceId)
    })()
    for (let round = 0; round < 8; round++) {
      const { rows } = await sql<{ id: string; seq: string }>`
        select id, seq from documents where workspace_id = ${device.workspaceId}`.execute(log.db)
      const found = await taken(device.workspaceId)
      for (const { id, seq } of rows) expect(found.get(id)!.seq).toBeGreaterThanOrEqual(Number(seq))
    }
    await Promise.all([writing, building])
    expectAll(await taken(device.workspaceId), written)
  })

  it('[READ2] what is taken out of the log is in no page', async () => {
    const written = await workspace(2)
    const { workspaceId } = written.device
    const take = async (remove: () => Promise<unknown>): Promise<void> => {
      await pages.build(workspaceId)
      expect(await countPages(workspaceId)).toBe(1)
      await remove()
      expect(await countPages(workspaceId)).toBe(0)
    }
    const [one] = written.documents
    await take(() =>
      sql`update documents set snapshot = null, snapshot_seq = 0 where id = ${one!.id}`.execute(log.db),
    )
    await take(() =>
      sql`update documents set heads = '{}' where workspace_id = ${workspaceId}`.execute(log.db),
    )
  })
})

describe('packs', () => {
  const header = encodeItem({ v: 1, device_id: v7(), live: false })
  const item = { document_id: v7(), kind: 'pipeline', subject: null, base: null, bytes: new Uint8Array(9) }

  it('[READ3] an append’s items may come in packs', () => {
    const plain = parseAppend(Buffer.concat([header, encodeItem(item), encodeItem(item)]))
    const packed = parseAppend(
      Buffer.concat([header, packItemOf(encodeSequence([item])), encodeItem(item)]),
      { unpack },
    )
    expect(packed).toEqual(plain)
  })

  it('[READ3] a packed page of the log has the same records, and packed verdicts the same numbers', async () => {
    const written = await workspace(3, 12)
    const { items } = await readLog(log.db, written.device.workspaceId, { after: 2, limit: 100 })
    const packed = await packLog(items)
    expect(packed.length * 3).toBeLessThan(encodeSequence(items).length)
    const back = [...unpacked(decodeSequence(packed), unpack)].flatMap(one => {
      if (!('bundle' in one)) return [logItem.parse(one)]
      const { bundle, ...of } = logRun.parse(one)
      return decodeBundle(bundle, { changes: 100, bytes: 1e6 }).map((change, i) => ({
        ...of,
        ...change,
        seq: of.seq + i,
      }))
    })
    const plain = (of: readonly LogItem[]) =>
      of.map(one => ({ ...one, bytes: Buffer.from(one.bytes).toString('hex') }))
    expect(plain(back)).toEqual(plain(items))

    const receivedAt = new Date(1_767_225_600_000)
    const stored = (seq: number, live = true) =>
      ({ status: 'stored', hash: 'a'.repeat(64), seq, authorId: 'u1', receivedAt, live }) as const
    const refused = { status: 'refused', hash: null, code: 'invalid', reason: '' } as const
    const all = [stored(4), stored(5), refused, stored(7), stored(6), stored(7, false)]
    const of = { status: 'stored', author_id: 'u1', received_at: receivedAt.getTime(), live: true }
    const sent = verdictItems(all, true)
    expect(sent).toEqual([
      { ...of, index: 0, count: 2, seq: 4 },
      { ...refused, index: 2 },
      { ...of, index: 3, count: 1, seq: 7 },
      { ...of, index: 4, count: 1, seq: 6 },
      { ...of, index: 5, count: 1, seq: 7, live: false },
    ])
    for (const one of sent) if ('count' in one) storedRun.parse(one)
    for (const one of verdictItems(all, false)) appendVerdict.parse(one)
  })

  it('[READ4] broken, nested, lying and huge packs are refused', () => {
    const pack = (of: Record<string, unknown>): Uint8Array => encodeItem({ pack: 'zstd', ...of })
    const honest = packItemOf(encodeSequence([item]))
    const refused = (body: Uint8Array, code = 'request.invalid'): void => {
      expect(() => parseAppend(Buffer.concat([header, body]), { unpack })).toThrow(
        expect.objectContaining({ code }),
      )
    }
    refused(pack({ size: 3, bytes: new Uint8Array([1, 2, 3]) }))
    refused(packItemOf(honest))
    refused(packItemOf(new Uint8Array([0xff, 0xff])))
    // A thousand times longer than it says.
    refused(pack({ size: 1024, bytes: zstdCompressSync(new Uint8Array(1024 * 1024)) }))
    refused(pack({ size: 1e12, bytes: new Uint8Array(4) }), 'request.too_large')
    expect(() => parseAppend(Buffer.concat([header, honest]))).toThrow(
      expect.objectContaining({ code: 'request.invalid' }),
    )
  })
})
