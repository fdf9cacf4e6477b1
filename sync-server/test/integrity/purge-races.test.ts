import * as Automerge from '@automerge/automerge'
import {
  editPipeline,
  forkDraft,
  type PipelineDoc,
  pipelineFromDoc,
  spliceStepSql,
  updateStepSql,
} from '@pluto-duck/crdt-model'
import { Kysely, PostgresDialect, sql, type Transaction } from 'kysely'
import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Audit } from '../../src/audit/index.ts'
import { Trial } from '../../src/changes/admission/trial.ts'
import { Appender } from '../../src/changes/append.ts'
import { createDatabase, type Database, type ServerDatabase } from '../../src/database/index.ts'
import { type PurgeParts, purgeDocument, verify } from '../../src/integrity/index.ts'
import { Materialiser } from '../../src/versions/materialise.ts'
import { publish } from '../../src/versions/publish.ts'
import { type LogFixture, logFixture, outcome, TestDevice, takenOut } from '../changes/log-fixture.ts'
import { somePipeline } from '../server.ts'

/** A database of which a transaction begins when what happens before it is done. */
class LateTransactions extends Kysely<Database> {
  before: () => Promise<void> = async () => {}

  override transaction() {
    const builder = super.transaction()
    const execute = builder.execute.bind(builder)
    builder.execute = async <T>(work: (tx: Transaction<Database>) => Promise<T>): Promise<T> => {
      const { before } = this
      this.before = async () => {}
      await before()
      return await execute(work)
    }
    return builder
  }
}

/** Something happens between the reading of a document and the transaction that stores its version. */
class LateMaterialiser extends Materialiser {
  after: () => Promise<void> = async () => {}

  override async read(...given: Parameters<Materialiser['read']>): ReturnType<Materialiser['read']> {
    const result = await super.read(...given)
    const { after } = this
    this.after = async () => {}
    await after()
    return result
  }
}

let log: LogFixture
let database: ServerDatabase
let late: LateTransactions
let parts: PurgeParts
let appender: Appender
const trial = new Trial()
const materialiser = new LateMaterialiser()

beforeAll(async () => {
  log = await logFixture()
  database = await createDatabase({ databaseUrl: log.url, dataDir: '' })
  late = new LateTransactions({ dialect: new PostgresDialect({ pool: database.pool }) })
  const clock = { now: () => new Date() }
  parts = { db: late, clock, audit: new Audit(clock), bus: { publish: async () => {} } }
  appender = new Appender({ db: log.db, trial })
})
afterAll(async () => {
  await trial.close()
  await materialiser.close()
  await database?.close()
  await log?.close()
})

const setSql = (doc: ReturnType<typeof somePipeline>, text: string) =>
  editPipeline(doc, 'edit', d => updateStepSql(d, 'a', text))

/** A pipeline that nobody published, with a secret in its past. */
async function world() {
  const device = new TestDevice(await log.workspace())
  const pipeline = v7()
  const secret = setSql(somePipeline(), `select 'hunter2' as x`)
  const doc = setSql(Automerge.clone(secret), 'select 2 as x')
  expect(outcome(await appender.append(device.push(pipeline, Automerge.getAllChanges(doc))))).toEqual([
    1, 2, 3,
  ])
  const publishAt = (heads: readonly string[], parent: number | null = null) =>
    publish({ ...parts, db: database.db }, materialiser, {
      workspaceId: device.workspaceId,
      userId: 'ann',
      deviceId: device.id,
      origin: '127.0.0.1',
      body: {
        workspace_id: device.workspaceId,
        pipeline_id: pipeline,
        version_id: v7(),
        heads: [...heads],
        parent,
        resolved: [],
        message: 'm',
      },
    })
  return { device, pipeline, secret, doc, publishAt, workspaceId: device.workspaceId }
}

const purge = (pipeline: string) => purgeDocument(parts, pipeline, [], 'a password')
const busy = { code: 'request.rate_limited' }

const versionsOf = async (pipeline: string) =>
  (
    await sql<{ number: number; purged: boolean }>`
      select number, purged from versions where pipeline_id = ${pipeline} order by number`.execute(log.db)
  ).rows

const sound = async (workspaceId: string): Promise<void> =>
  expect(await verify(database.db, { workspaceId })).toMatchObject({ open: 0, findings: [] })

describe('a purge', () => {
  it('[PURGE2] of a named change no letter is left, though somebody edited its word since', async () => {
    const { pipeline, device, workspaceId, publishAt, doc } = await world()
    const edits = [
      [9, 'hunter2'],
      [12, '-'],
      [9, 'my'],
    ] as const
    let now = setSql(doc, `select '' as x`)
    await appender.append(device.push(pipeline, [Automerge.getLastLocalChange(now)!]))
    const written: string[] = []
    for (const [at, text] of edits) {
      now = editPipeline(now, 'type', d => spliceStepSql(d, 'a', at - 1, 0, text))
      const change = Automerge.getLastLocalChange(now)!
      await appender.append(device.push(pipeline, [change]))
      written.push(Automerge.decodeChange(change).hash)
    }
    expect(await publishAt([written[1]!])).toMatchObject({ made: true })
    const guilty = [written[0]!]
    expect(await purgeDocument(parts, pipeline, guilty, 'a password')).toMatchObject({
      reverted: guilty,
      versions: [1],
      new_version: 2,
    })
    const { rows } = await sql<{ bytes: Buffer }>`
      select bytes from changes where document_id = ${pipeline} order by seq`.execute(log.db)
    const left = Automerge.applyChanges(
      Automerge.init<PipelineDoc>(),
      rows.map(row => row.bytes),
    )[0]
    const text = pipelineFromDoc(left).steps[0]!.sql
    expect(text).toBe(`select 'my-' as x`)
    const versions = await sql<{ text: string }>`
      select definition as text from versions where pipeline_id = ${pipeline}`.execute(log.db)
    expect(versions.rows.map(row => row.text).join()).not.toMatch(/hun|ter2/)
    await sound(workspaceId)
  })

  it('[PURGE3] of what a newer program wrote is refused with a word, and changes nothing', async () => {
    const { device, pipeline, doc, workspaceId } = await world()
    const newer = Automerge.change(doc, d => {
      d.schema_version = 99
    })
    const change = Automerge.getLastLocalChange(newer)!
    expect(outcome(await appender.append(device.push(pipeline, [change])))).toEqual([4])
    await expect(purge(pipeline)).rejects.toMatchObject({ code: 'document.too_new' })
    await sound(workspaceId)
  })

  it('[PURGE3] is refused when a first version is published between its reading and its lock', async () => {
    const { pipeline, secret, doc, publishAt, workspaceId, device } = await world()
    late.before = async () => {
      await publishAt(Automerge.getHeads(secret))
    }
    await expect(purge(pipeline)).rejects.toMatchObject(busy)
    expect(await versionsOf(pipeline)).toEqual([{ number: 1, purged: false }])

    // Begun again it finds the version.
    expect(await purge(pipeline)).toMatchObject({ versions: [1], new_version: 2 })
    expect(await versionsOf(pipeline)).toEqual([
      { number: 1, purged: true },
      { number: 2, purged: false },
    ])
    const again = await appender.append(device.push(pipeline, Automerge.getAllChanges(doc)))
    expect(again.verdicts.every(one => one.status === 'refused')).toBe(true)
    await sound(workspaceId)
  })

  it('[PURGE2][VER15] leaves nothing to a first version that was made before it and is stored after it', async () => {
    const { pipeline, secret, publishAt, workspaceId, device } = await world()
    materialiser.after = async () => {
      expect(await purge(pipeline)).toMatchObject({ new_version: null })
    }
    await expect(publishAt(Automerge.getHeads(secret))).rejects.toMatchObject({
      code: 'version.unknown_heads',
    })
    expect(await versionsOf(pipeline)).toEqual([])

    // What stays can be edited and published.
    const { rows } = await sql<{ bytes: Buffer }>`
      select bytes from changes where document_id = ${pipeline} order by seq`.execute(log.db)
    const [kept] = Automerge.applyChanges(
      Automerge.init<ReturnType<typeof somePipeline>>(),
      rows.map(row => row.bytes),
    )
    const next = setSql(kept, 'select 3 as x')
    const pushed = await appender.append(device.push(pipeline, [Automerge.getLastLocalChange(next)!]))
    expect(pushed.verdicts).toMatchObject([{ status: 'stored' }])
    expect(await publishAt(Automerge.getHeads(next))).toMatchObject({ made: true, version: { number: 1 } })
    await sound(workspaceId)
  })

  it('[PURGE3] is refused when a draft becomes the pipeline’s between its reading and its lock', async () => {
    const { pipeline, doc, device, workspaceId } = await world()
    const fork = setSql(forkDraft(doc, Automerge.getHeads(doc), 'seven'), 'select 7 as x')
    const own = Automerge.getChangesSince(fork, Automerge.getHeads(doc))
    const draft = v7()
    const into = (documentId: string, base: string | null) =>
      appender.append(
        device.pushOf(
          own.map(bytes => ({ documentId, kind: 'pipeline' as const, subject: null, base, bytes })),
        ),
      )
    expect(outcome(await into(draft, pipeline))).toEqual([4, 5])
    late.before = async () => {
      expect(outcome(await into(pipeline, null))).toEqual([6, 7])
    }
    await expect(purge(pipeline)).rejects.toMatchObject(busy)

    expect(await purge(pipeline)).toMatchObject({ drafts: [draft], changes: 5 })
    const { rows } = await sql<{ bytes: Buffer }>`
      select bytes from changes where document_id = ${pipeline} order by seq`.execute(log.db)
    const [kept] = Automerge.applyChanges(
      Automerge.init<ReturnType<typeof somePipeline>>(),
      rows.map(row => row.bytes),
    )
    expect(kept.steps.a?.sql).toBe('select 7 as x')
    await sound(workspaceId)
  })

  it('[PURGE4] ends drafts for who is about to review them, and takes a first change that builds on nothing with it', async () => {
    const { pipeline, doc, device, workspaceId } = await world()
    const [draft, stray, ended] = [v7(), v7(), v7()]
    const fork = forkDraft(doc, Automerge.getHeads(doc), 'seven')
    const append = async (documentId: string, bytes: Uint8Array) =>
      outcome(
        await appender.append(
          device.pushOf([{ documentId, kind: 'pipeline', subject: null, base: pipeline, bytes }]),
        ),
      )
    expect(await append(draft, Automerge.getLastLocalChange(fork)!)).toEqual([4])
    expect(await append(stray, Automerge.getLastLocalChange(somePipeline({ name: 'hunter2' }))!)).toEqual([5])
    // One that a mend took out whole before.
    const gone = forkDraft(doc, Automerge.getHeads(doc), 'hunter2')
    expect(await append(ended, Automerge.getLastLocalChange(gone)!)).toEqual([6])
    const hashes = Automerge.getHeads(gone)
    await takenOut(log, { workspaceId, documentId: pipeline, hashes, erase: false })
    expect(await purge(pipeline)).toMatchObject({ drafts: [draft, stray].sort(), changes: 5 })
    const { rows } = await sql<{ id: string; state: string }>`
      select id, state from drafts where workspace_id = ${workspaceId} order by id`.execute(log.db)
    expect(rows).toEqual([draft, stray, ended].sort().map(id => ({ id, state: 'closed' })))
    const left = await sql<{ n: number }>`
      select count(*)::int as n from log_records
      where document_id = any (${[draft, stray, ended]}::uuid[]) and record = 'change' and octet_length(bytes) > 0`.execute(
      log.db,
    )
    expect(left.rows).toEqual([{ n: 0 }])
    await sound(workspaceId)
  })
})
