import * as Automerge from '@automerge/automerge'
import { decodeVoid } from '@pluto-duck/crdt-model/protocol'
import { sql } from 'kysely'
import { pino } from 'pino'
import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Audit } from '../../src/audit/index.ts'
import { Trial } from '../../src/changes/admission/trial.ts'
import { Appender } from '../../src/changes/append.ts'
import { Digests } from '../../src/changes/digest.ts'
import { readLog, readSnapshot } from '../../src/changes/read.ts'
import { appendVoid } from '../../src/changes/void.ts'
import { createDatabase, type ServerDatabase } from '../../src/database/index.ts'
import { verify } from '../../src/integrity/index.ts'
import { findGuilty, type MendParts, mendDocument } from '../../src/integrity/mend.ts'
import { Replayer } from '../../src/integrity/replay.ts'
import { actor, type LogFixture, logFixture, note, smuggle, TestDevice } from '../changes/log-fixture.ts'

let log: LogFixture
let database: ServerDatabase
let parts: MendParts
const trial = new Trial()

beforeAll(async () => {
  log = await logFixture()
  database = await createDatabase({ databaseUrl: log.url, dataDir: '' })
  const clock = { now: () => new Date() }
  parts = {
    db: database.db,
    clock,
    audit: new Audit(clock),
    bus: { publish: async () => {} },
    log: pino({ level: 'silent' }),
  }
})
afterAll(async () => {
  await trial.close()
  await database?.close()
  await log?.close()
})

/** A change on top of the document that applies and after which it never loads again: a value set on a text's own key. */
const forgedOn = (doc: Automerge.Doc<unknown>, name: string): Uint8Array => {
  const heads = Automerge.getHeads(doc)
  const last = Automerge.decodeChange(Automerge.getLastLocalChange(doc)!)
  const { ops } = last as unknown as { ops: { obj: string }[] }
  const text = ops.find(op => op.obj !== '_root')!.obj
  return Automerge.encodeChange({
    actor: actor(),
    seq: 1,
    startOp: last.startOp + last.ops.length,
    time: 0,
    message: name,
    deps: heads,
    ops: [{ action: 'set', obj: text, key: 'k', value: 1, datatype: 'int', pred: [] }],
  } as unknown as Automerge.DecodedChange)
}

const spoiled = async () => {
  const workspaceId = await log.workspace()
  const device = new TestDevice(workspaceId)
  const documentId = v7()
  const corrupt: string[] = []
  const appender = new Appender({
    db: log.db,
    trial,
    onCorrupt: (_, id) => void corrupt.push(id),
  })
  const doc = note(actor())
  await appender.append(device.push(documentId, [doc.first, doc.edit('one '), doc.edit('two ')]))
  const hash = await smuggle(log, workspaceId, documentId, device, forgedOn(doc.doc(), 'forged'))
  return { workspaceId, device, documentId, appender, corrupt, doc, hash }
}

describe('void', () => {
  it('[VOID1] a change that never could have been admitted is found and taken out; the document goes on', async () => {
    const { workspaceId, device, documentId, appender, corrupt, doc, hash } = await spoiled()
    const fresh = new Appender({ db: log.db, trial, onCorrupt: (_, id) => void corrupt.push(id) })
    const refused = await fresh.append(device.push(documentId, [doc.edit('three ')]))
    expect(refused.verdicts[0]).toMatchObject({ status: 'refused', code: 'invalid' })
    expect(corrupt).toEqual([documentId])

    expect(await mendDocument(parts, workspaceId, documentId)).toEqual({
      state: 'voided',
      hashes: [hash],
      changes: 1,
    })
    const page = await readLog(log.db, workspaceId, { after: 0, limit: 100 })
    expect(page.items.map(item => [item.seq, item.record])).toEqual([
      [1, undefined],
      [2, undefined],
      [3, undefined],
      [5, 'void'],
    ])
    expect(decodeVoid(page.items[3]!.bytes)).toMatchObject({ hashes: [hash], erase: false })
    // The same change again is refused, an honest one goes on, on a server that knew the document and on one that did not.
    const again = await fresh.append(
      device.push(documentId, [forgedOn(doc.doc(), 'other'), doc.edit('four ')]),
    )
    expect(again.verdicts[0]).toMatchObject({ status: 'refused' })
    const known = await appender.append(device.push(documentId, Automerge.getAllChanges(doc.doc()).slice(3)))
    expect(known.verdicts.map(one => one.status)).toEqual(['stored', 'stored'])
    for await (const { item } of readSnapshot(log.db, workspaceId)) {
      expect(item.heads).toEqual(Automerge.getHeads(doc.doc()))
      expect(Automerge.toJS(Automerge.load(item.bytes))).toMatchObject({ text: 'one two three four ' })
    }
    expect(await verify(database.db, { workspaceId })).toMatchObject({ open: 0, changes: 5, audit_rows: 1 })
  })

  it('[VOID2] what admission would let through is found by bisection', async () => {
    const { workspaceId, documentId, hash } = await spoiled()
    const replayer = new Replayer()
    const document = { id: documentId, base: null }
    const found = await findGuilty(database.db, replayer, workspaceId, document, false)
    await replayer.close()
    expect(found).toMatchObject({ guilty: [hash], title: 'note' })
  })

  it('[VOID3] what depends on a guilty change goes with it, and its own hash is refused from then on', async () => {
    const { workspaceId, device, documentId, hash } = await spoiled()
    const later = note(actor())
    const after = Automerge.encodeChange({
      ...Automerge.decodeChange(later.first),
      deps: [hash],
      startOp: 1_000,
    })
    const second = await smuggle(log, workspaceId, documentId, device, after)
    expect(await mendDocument(parts, workspaceId, documentId)).toMatchObject({ state: 'voided', changes: 2 })
    const pushed = await new Appender({ db: log.db, trial }).append(device.push(documentId, [after]))
    expect(pushed.verdicts[0]).toMatchObject({ status: 'refused', hash: second, code: 'invalid' })
    const digest = await new Digests(log.db).read(workspaceId)
    expect(digest.seq).toBe(6)
    expect(await verify(database.db, { workspaceId })).toMatchObject({ open: 0, changes: 3 })
  })

  it('[VOID3] a server that had the change open refuses it as well, when another one took it out', async () => {
    const workspaceId = await log.workspace()
    const device = new TestDevice(workspaceId)
    const documentId = v7()
    const appender = new Appender({ db: log.db, trial })
    const doc = note(actor())
    const changes = [doc.first, doc.edit('one ')]
    await appender.append(device.push(documentId, changes))
    const { hash } = Automerge.decodeChange(changes[1]!)
    await database.db.transaction().execute(async tx => {
      const record = async () => {
        const row = {
          workspaceId,
          actorUserId: null,
          action: 'document.purge',
          objectKind: 'document',
        } as const
        await parts.audit.record(tx, { ...row, objectId: documentId })
      }
      const of = { workspaceId, documentId, hashes: [hash], erase: true, reason: 'a password' }
      await appendVoid(tx, { ...of, at: new Date(), record })
    })
    const { verdicts } = await appender.append(device.push(documentId, changes))
    expect(verdicts).toMatchObject([
      { status: 'stored', seq: 1 },
      { status: 'refused', hash, code: 'invalid' },
    ])
  })

  it('[VOID4] bytes that the storage lost are nobody’s fault: nothing is taken out', async () => {
    const { workspaceId, documentId } = await spoiled()
    await sql`set session_replication_role = replica; update changes set bytes = '\\x00' where document_id = ${sql.lit(documentId)} and seq = 2; set session_replication_role = default`.execute(
      log.db,
    )
    expect(await mendDocument(parts, workspaceId, documentId)).toEqual({ state: 'damaged', seq: 2 })
  })

  it('[INT7] a void record that was changed or undone, and a change that is out without one, are found', async () => {
    const { workspaceId, documentId } = await spoiled()
    await mendDocument(parts, workspaceId, documentId)
    const codes = async () => (await verify(database.db, { workspaceId })).findings.map(one => one.code)
    expect(await codes()).toEqual([])
    const past = async (set: string, where: string) =>
      await sql`set session_replication_role = replica; update log_records set ${sql.raw(set)} where workspace_id = ${sql.lit(workspaceId)} and ${sql.raw(where)}; set session_replication_role = default`.execute(
        log.db,
      )
    await past('void_seq = null', 'seq = 4')
    expect(await codes()).toEqual(['void.undone', 'change.inadmissible'])
    await past('void_seq = 3', 'seq = 4')
    expect(await codes()).toEqual(['void.missing'])
    await past('void_seq = 5', 'seq = 4')
    await past(`bytes = bytes || '\\x00'`, 'seq = 5')
    expect(await codes()).toEqual(['void.damaged'])
  })

  it('[MIG3] rows of the log change only beside the audit’s row about it, and only by losing what they hold', async () => {
    const { workspaceId, documentId, hash } = await spoiled()
    const of = sql`${workspaceId}::uuid, ${documentId}::uuid`
    const call = sql`select void_changes(${of}, array[${Buffer.from(hash, 'hex')}]::bytea[], 9, true)`
    await expect(call.execute(database.db)).rejects.toThrow(/append-only/)
    await database.db
      .transaction()
      .execute(async tx => {
        await parts.audit.record(tx, {
          workspaceId,
          actorUserId: null,
          action: 'member.set_role',
          objectKind: 'x',
        })
        await expect(call.execute(tx)).rejects.toThrow(/append-only/)
      })
      .catch(() => {})
    await mendDocument(parts, workspaceId, documentId)
    for (const set of [sql`author_id = 'x'`, sql`void_seq = null`, sql`bytes = 'x'`])
      await expect(
        sql`update log_records set ${set} where document_id = ${documentId}`.execute(log.db),
      ).rejects.toThrow(/append-only/)
    await expect(sql`delete from log_records`.execute(log.db)).rejects.toThrow(/append-only/)
    await expect(sql`truncate log_records`.execute(log.db)).rejects.toThrow(/append-only/)
  })
})
