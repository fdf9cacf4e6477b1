import * as Automerge from '@automerge/automerge'
import { forkDraft } from '@pluto-duck/crdt-model'
import { sql } from 'kysely'
import pg from 'pg'
import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Trial } from '../../src/changes/admission/trial.ts'
import { Appender, type PushedChange } from '../../src/changes/append.ts'
import { createDatabase, type ServerDatabase } from '../../src/database/index.ts'
import { verify } from '../../src/integrity/index.ts'
import {
  actor,
  type LogFixture,
  logFixture,
  type Note,
  note,
  outcome,
  pipelineChange,
  TestDevice,
} from './log-fixture.ts'

let log: LogFixture
let database: ServerDatabase
const trial = new Trial()

beforeAll(async () => {
  log = await logFixture()
  database = await createDatabase({ databaseUrl: log.url, dataDir: '' })
})
afterAll(async () => {
  await trial.close()
  await database?.close()
  await log?.close()
})

/** A database of which the answer to an append is lost while `lost.next`: it was committed, and nobody hears of it. */
function forgetful() {
  const lost = { next: false }
  const db = log.db.withPlugin({
    transformQuery: ({ node }) => node,
    transformResult: async ({ result }) => {
      const [row] = result.rows
      if (lost.next && result.rows.length === 1 && Object.keys(row ?? {}).join() === 'seq') {
        lost.next = false
        throw new Error('Connection terminated unexpectedly')
      }
      return result
    },
  })
  return { db, lost }
}

/** What the records say is what the log says, and each change is there once. */
const sound = async (workspaceId: string, changes: number): Promise<void> =>
  expect(await verify(database.db, { workspaceId })).toMatchObject({ open: 0, findings: [], changes })

describe('a commit of which the server does not know whether it was made', () => {
  it('[LOG2] that was made: the changes are known when they come again, and what follows builds on them', async () => {
    const device = new TestDevice(await log.workspace())
    const { db, lost } = forgetful()
    const one = new Appender({ db, trial })
    const [id, other] = [v7(), v7()]
    const doc = note(actor())
    expect(outcome(await one.append(device.push(id, [doc.first])))).toEqual([1])
    lost.next = true
    const push = device.push(id, [doc.edit('a'), doc.edit('b')])
    await expect(one.append(push)).rejects.toThrow('Connection terminated')
    expect(lost.next).toBe(false)
    // Another document first, so that the log is found to be longer by that.
    expect(outcome(await one.append(device.push(other, [note(actor()).first])))).toEqual([4])
    expect(outcome(await one.append(push))).toEqual([2, 3])
    expect(outcome(await one.append(device.push(id, [doc.edit('c')])))).toEqual([5])
    await sound(device.workspaceId, 5)
  })

  it('[LOG6][DRAFT15] that was made: an actor is bound by it, and a draft finds what it said', async () => {
    const device = new TestDevice(await log.workspace())
    const { db, lost } = forgetful()
    const one = new Appender({ db, trial })
    const [base, draft] = [v7(), v7()]
    const source = note(actor())
    await one.append(device.push(base, [source.first]))
    const fork = forkDraft(source.doc(), Automerge.getHeads(source.doc()), 'a draft', { actor: actor() })
    const inDraft = (bytes: Uint8Array): PushedChange => ({ ...pipelineChange(draft, bytes), base })
    await one.append(device.pushOf([inDraft(Automerge.getLastLocalChange(fork)!)]))
    const by = actor()
    const written = (on: Automerge.Doc<Note>, text: string): Uint8Array =>
      Automerge.getLastLocalChange(
        Automerge.change(Automerge.clone(on, { actor: by }), d => Automerge.splice(d, ['text'], 0, 0, text)),
      )!
    lost.next = true
    const said = device.push(base, [written(source.doc(), 'here')])
    await expect(one.append(said)).rejects.toThrow('Connection terminated')
    const stranger = new TestDevice(device.workspaceId, 'ben')
    expect(outcome(await one.append(device.pushOf([inDraft(written(fork, 'there'))])))).toEqual(['actor'])
    expect(outcome(await one.append(stranger.push(v7(), [written(source.doc(), 'stolen')])))).toEqual([
      'actor',
    ])
    expect(outcome(await one.append(said))).toEqual([3])
    await sound(device.workspaceId, 3)
  })

  it('[LOG1] that was cancelled by the database: nothing of it is known, and it can come again', async () => {
    const device = new TestDevice(await log.workspace())
    const one = new Appender({ db: log.db, trial })
    const id = v7()
    const doc = note(actor())
    await one.append(device.push(id, [doc.first]))
    const admin = new pg.Client({ connectionString: log.url })
    await admin.connect()
    await admin.query('begin')
    await admin.query('select seq from workspace_counters where workspace_id = $1 for update', [
      device.workspaceId,
    ])
    const push = device.push(id, [doc.edit('a')])
    const refused = expect(one.append(push)).rejects.toMatchObject({ code: '57014' })
    await expect
      .poll(async () => {
        const { rows } = await sql<{ done: boolean }>`
          select pg_cancel_backend(pid) as done from pg_stat_activity
          where datname = current_database() and wait_event_type = 'Lock'`.execute(log.db)
        return rows.length
      })
      .toBe(1)
    await refused
    await admin.query('rollback')
    await admin.end()
    expect(outcome(await one.append(device.push(id, [doc.edit('b')])))).toEqual(['missing_deps'])
    expect(outcome(await one.append(push))).toEqual([2])
    await sound(device.workspaceId, 2)
  })
})
