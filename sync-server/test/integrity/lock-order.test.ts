import * as Automerge from '@automerge/automerge'
import { editPipeline, forkDraft, updateStepSql } from '@pluto-duck/crdt-model'
import type { Draft } from '@pluto-duck/crdt-model/protocol'
import { Kysely, PostgresDialect, sql, type Transaction } from 'kysely'
import pg from 'pg'
import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Audit } from '../../src/audit/index.ts'
import { findInvitation, newToken, useInvitation } from '../../src/auth/index.ts'
import { Trial } from '../../src/changes/admission/trial.ts'
import { Appender } from '../../src/changes/append.ts'
import { createDatabase, type Database, type ServerDatabase, transact } from '../../src/database/index.ts'
import { mergeDraft } from '../../src/drafts/merge.ts'
import { readDraft } from '../../src/drafts/read.ts'
import { settle } from '../../src/drafts/settle.ts'
import { type PurgeParts, purgeDocument, purgeWorkspace } from '../../src/integrity/index.ts'
import { Materialiser } from '../../src/versions/materialise.ts'
import { publish } from '../../src/versions/publish.ts'
import { type LogFixture, logFixture, outcome, TestDevice, untilWaiting } from '../changes/log-fixture.ts'
import { somePipeline } from '../server.ts'

/** A database that counts the transactions which Postgres ended for a deadlock. */
class CountingDatabase extends Kysely<Database> {
  deadlocks = 0

  override transaction() {
    const builder = super.transaction()
    const execute = builder.execute.bind(builder)
    builder.execute = async <T>(work: (tx: Transaction<Database>) => Promise<T>): Promise<T> => {
      try {
        return await execute(work)
      } catch (error) {
        if (error instanceof pg.DatabaseError && error.code === '40P01') this.deadlocks++
        throw error
      }
    }
    return builder
  }
}

let log: LogFixture
let database: ServerDatabase
let db: CountingDatabase
let parts: PurgeParts
let appender: Appender
const trial = new Trial()
const materialiser = new Materialiser()

beforeAll(async () => {
  log = await logFixture()
  database = await createDatabase({ databaseUrl: log.url, dataDir: '' })
  db = new CountingDatabase({ dialect: new PostgresDialect({ pool: database.pool }) })
  const clock = { now: () => new Date() }
  parts = { db, clock, audit: new Audit(clock), bus: { publish: async () => {} } }
  appender = new Appender({ db, trial })
})
afterAll(async () => {
  await trial.close()
  await materialiser.close()
  await database?.close()
  await log?.close()
})

const asked = (device: TestDevice) => ({
  userId: 'ann',
  deviceId: device.id,
  origin: '127.0.0.1',
  role: 'editor' as const,
})
const setSql = (doc: ReturnType<typeof somePipeline>, text: string) =>
  editPipeline(doc, 'edit', d => updateStepSql(d, 'a', text))

/** A published pipeline with a draft of it. */
async function world(device: TestDevice) {
  const { workspaceId } = device
  const pipeline = v7()
  const doc = somePipeline()
  await appender.append(device.push(pipeline, Automerge.getAllChanges(doc)))
  await publish(parts, materialiser, {
    ...asked(device),
    workspaceId,
    body: {
      workspace_id: workspaceId,
      pipeline_id: pipeline,
      version_id: v7(),
      heads: Automerge.getHeads(doc),
      parent: null,
      resolved: [],
      message: 'm',
    },
  })
  const draftId = v7()
  const fork = setSql(forkDraft(doc, Automerge.getHeads(doc), 'seven'), 'select 7 as x')
  const own = Automerge.getChangesSince(fork, Automerge.getHeads(doc))
  const pushed = await appender.append(
    device.pushOf(
      own.map(bytes => ({ documentId: draftId, kind: 'pipeline', subject: null, base: pipeline, bytes })),
    ),
  )
  expect(outcome(pushed).every(one => typeof one === 'number')).toBe(true)
  return { pipeline, draft: await readDraft(db, workspaceId, draftId) }
}

const merge = (device: TestDevice, draft: Draft) =>
  mergeDraft(parts, { materialiser, appender }, draft, {
    ...asked(device),
    body: { version_id: v7(), heads: draft.heads, parent: 1, resolved: [], message: '' },
  })
const close = (device: TestDevice, draft: Draft) =>
  transact(db, tx => settle(parts, tx, draft, asked(device), { state: 'closed' }))

/** Holds the head of the workspace's audit while both begin, the second when the first waits for something, and answers both. */
async function bothWait<A, B>(workspaceId: string, first: () => Promise<A>, second: () => Promise<B>) {
  const holder = new pg.Client({ connectionString: log.url })
  await holder.connect()
  try {
    await holder.query('begin')
    await holder.query('select seq from audit_heads where workspace_id = $1 for update', [workspaceId])
    const answers: [Promise<A>, Promise<B> | null] = [first(), null]
    await untilWaiting(log.db, 1)
    answers[1] = second()
    const all = Promise.allSettled(answers)
    await untilWaiting(log.db, 2)
    await holder.query('commit')
    return await all
  } finally {
    await holder.end()
  }
}

describe('transactions of one workspace', () => {
  it('[LOCK1] a merge waits for the end of another draft, and is not ended by Postgres', async () => {
    const device = new TestDevice(await log.workspace())
    const [one, two] = [await world(device), await world(device)]
    const before = db.deadlocks
    const answers = await bothWait(
      device.workspaceId,
      () => merge(device, one.draft),
      () => close(device, two.draft),
    )
    expect(answers).toMatchObject([{ value: { made: true } }, { status: 'fulfilled' }])
    expect(db.deadlocks - before).toBe(0)
  })

  it('[LOCK1] a purge of a workspace waits for who is made a member, or the other way round', async () => {
    const device = new TestDevice(await log.workspace())
    const { workspaceId } = device
    await world(device)
    const files = { removeAll: async () => 0 }
    const { token, hash } = newToken()
    await sql`
      insert into invitations (id, workspace_id, email, role, token_hash, created_by, expires_at)
      values (${v7()}, ${workspaceId}, 'ben@example.org', 'editor', ${hash}, 'ann', now() + interval '1 day')`.execute(
      log.db,
    )
    const invitation = await findInvitation(db, token)
    const before = db.deadlocks
    const answers = await bothWait(
      workspaceId,
      () => purgeWorkspace({ ...parts, files }, workspaceId, 'a password'),
      () => transact(db, tx => useInvitation(parts, tx, invitation, 'ben', '127.0.0.1')),
    )
    expect(answers).toMatchObject([
      { status: 'fulfilled' },
      { status: 'rejected', reason: { code: 'invitation.expired' } },
    ])
    expect(db.deadlocks - before).toBe(0)
  })

  it('[LOCK1] of merges, closings and purges at once, again and again, Postgres ends none', async () => {
    const device = new TestDevice(await log.workspace())
    const before = db.deadlocks
    for (let round = 0; round < 2; round++) {
      const worlds = [await world(device), await world(device), await world(device)]
      const [one, two, three] = worlds as [Given, Given, Given]
      const answers = await Promise.allSettled([
        merge(device, one.draft),
        merge(device, two.draft),
        close(device, three.draft),
        purgeDocument(parts, two.pipeline, [], 'a password'),
        purgeDocument(parts, three.pipeline, [], 'a password'),
      ])
      expect(answers[0]).toMatchObject({ value: { made: true } })
      // These meet their like: refused or done, with a word for it.
      for (const answer of answers)
        if (answer.status === 'rejected')
          expect([
            'request.rate_limited',
            'draft.settled',
            'draft.moved',
            'version.parent_moved',
            'version.unknown_heads',
            'change.invalid',
          ]).toContain(answer.reason.code)
    }
    expect(db.deadlocks - before).toBe(0)
  })
})

type Given = Awaited<ReturnType<typeof world>>
