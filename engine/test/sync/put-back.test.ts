import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
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
  spliceReport,
} from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { readConfig, startServer } from '@pluto-duck/sync-server'
import { runProgram } from '@pluto-duck/sync-server/program'
import { testDatabase } from '@pluto-duck/test-fixtures/services'
import { pino } from 'pino'
import { expect, it, onTestFinished } from 'vitest'
import { Letters } from '../simulation/letters.ts'
import { Rng } from '../simulation/random.ts'
import { Device } from './device.ts'
import { TestServer } from './server.ts'

const AUTH_SECRET = 'a secret of forty characters, for tests.'
const FROM = Number(process.env.PLUTO_PUT_BACK_FROM ?? 1)
const SEEDS = Number(process.env.PLUTO_PUT_BACK_SEEDS ?? 4)

/** Each edit writes a letter that stands nowhere else, so its text shows what became of it. */
class People {
  readonly letters = new Letters()
  /** What was acknowledged, by the device that wrote it. */
  readonly written = new Map<number, string[]>()
  readonly #rng: Rng

  constructor(rng: Rng) {
    this.#rng = rng
  }

  async work(devices: readonly Device[], deeds: number): Promise<void> {
    for (let n = 0; n < deeds; n++) {
      const at = this.#rng.between(0, devices.length - 1)
      await this.#deed(devices[at] as Device, at)
    }
  }

  async #deed(on: Device, at: number): Promise<void> {
    const { documents, workspaceId } = on
    const all = documents.list(workspaceId)
    const pipelines = all.filter(one => one.kind === 'pipeline' && one.base === null)
    const what = this.#rng.weighted({
      create: 2,
      edit: 10,
      fork: 3,
      takeIn: 2,
      comment: 3,
      sync: 8,
      reopen: 1,
    })
    if (what === 'create' || pipelines.length === 0) {
      await on.createPipeline(`p${newId()}`)
      return
    }
    const pipeline = this.#rng.pick(pipelines).documentId
    const mark = this.letters.fresh()
    const wrote = () => this.written.set(at, [...(this.written.get(at) ?? []), mark])
    switch (what) {
      case 'edit': {
        const editable = all.filter(one => one.kind === 'pipeline')
        await documents.edit<PipelineDoc>(this.#rng.pick(editable).documentId, doc =>
          editPipeline(doc, 'type', d => spliceReport(d, 0, 0, mark)),
        )
        return void wrote()
      }
      case 'fork':
        await documents.fork(
          { documentId: newId(), base: pipeline, heads: await on.heads(pipeline), title: 'try this' },
          doc => editPipeline(doc, 'type', d => spliceReport(d, 0, 0, mark)),
        )
        return void wrote()
      case 'takeIn': {
        const drafts = all.filter(one => one.base !== null)
        if (drafts.length === 0) return
        const { documentId, base } = this.#rng.pick(drafts)
        await documents.takeInBase(documentId, await on.heads(base as string))
        return
      }
      case 'comment': {
        const subject = { subject_kind: 'pipeline', subject_id: pipeline } as const
        const documentId = commentsDocumentId(subject)
        if (!documents.has(documentId))
          await documents.create({
            documentId,
            workspaceId,
            kind: 'comments',
            subject: { kind: 'pipeline', id: pipeline },
            doc: createComments(subject),
          })
        await documents.edit<CommentsDoc>(documentId, doc =>
          editComments(doc, 'say', d => addThread(d, { anchor: { kind: 'subject' }, body: mark })),
        )
        return void wrote()
      }
      case 'sync':
        return await syncs(on)
      case 'reopen':
        await on.close()
        await on.open()
    }
  }
}

/** Only now: in between nothing is sent and nothing heard. */
const syncs = async (one: Device): Promise<void> => {
  one.sync.pause(false)
  await one.sync.start()
  await one.sync.now()
  one.sync.pause(true)
}

const contentOf = async (of: Device): Promise<string> => {
  const { documents, workspaceId } = of
  const parts: string[] = []
  for (const { documentId } of documents.list(workspaceId))
    parts.push(await documents.read<string, unknown>(documentId, doc => JSON.stringify(doc)))
  for (const { draftId } of await documents.drafts(workspaceId)) {
    const doc = A.load((await documents.draft(draftId)).bytes)
    parts.push(JSON.stringify(doc))
    A.free(doc)
  }
  return parts.join('\n')
}
const headsOf = async (of: Device) =>
  Object.fromEntries(
    await Promise.all(
      of.documents
        .list(of.workspaceId)
        .toSorted((a, b) => a.documentId.localeCompare(b.documentId))
        .map(async ({ documentId }) => [documentId, await of.heads(documentId)]),
    ),
  )

for (let seed = FROM; seed < FROM + SEEDS; seed++)
  it(`[SYNC15] work of three devices around a backup and its restore, seed ${seed}: all are equal, and what was written is there or a local draft of who wrote it`, async () => {
    const rng = new Rng(seed)
    const first = await TestServer.start()
    onTestFinished(() => first.database.drop())
    const [ada, bob] = [await first.person('ada'), await first.person('bob')]
    const workspaceId = await first.workspace(ada)
    await first.join(workspaceId, ada, bob, 'editor')
    const who = [ada, ada, bob]
    const before = await Promise.all(
      who.map(({ token }) => Device.start(first.server.url, token, workspaceId)),
    )
    onTestFinished(() => {
      for (const { folder } of before) rmSync(folder, { recursive: true, force: true })
    })
    const people = new People(rng)
    await people.work(before, rng.between(5, 25))
    const backup = join(mkdtempSync(join(tmpdir(), 'pluto-put-back-')), 'backup')
    onTestFinished(() => rmSync(join(backup, '..'), { recursive: true, force: true }))
    const settings = { DATABASE_URL: first.database.url, AUTH_SECRET }
    expect(await runProgram(['backup', backup], settings).ended).toBe(0)
    await people.work(before, rng.between(5, 40))
    for (const one of before) await one.close()
    await first.server.close()

    const database = await testDatabase()
    onTestFinished(() => database.drop())
    const restore = runProgram(['restore', backup], { ...settings, DATABASE_URL: database.url })
    expect([await restore.ended, restore.err()]).toEqual([0, expect.anything()])
    const config = readConfig({ PORT: '0', DATABASE_URL: database.url, AUTH_SECRET })
    const server = await startServer(config, { log: pino({ level: 'silent' }) })
    const after: Device[] = []
    onTestFinished(async () => {
      for (const one of after) await one.close()
      await server.close()
    })
    const tokens = new Map<string, string>()
    for (const { email } of [ada, bob])
      tokens.set(
        email,
        await server.issueSession(
          await server.ensureLocalOwner({ name: email.split('@')[0] as string, email }),
        ),
      )
    for (const [at, { folder }] of before.entries())
      after.push(
        await Device.start(server.url, tokens.get(who[at]?.email as string) as string, workspaceId, folder),
      )
    // They come back one after the other, and some go on before all are there.
    await people.work(after, rng.between(0, 25))
    for (let round = 0; round < 3; round++) for (const one of after) await syncs(one)

    const late = await Device.start(server.url, tokens.get(ada.email) as string, workspaceId)
    onTestFinished(() => late.remove())
    await syncs(late)
    const heads = await headsOf(late)
    for (const [at, one] of after.entries()) {
      expect([at, one.sync.status()]).toMatchObject([at, { waiting: 0, diverged: [], error: null }])
      expect([at, await headsOf(one)]).toEqual([at, heads])
      const content = await contentOf(one)
      const lost = (people.written.get(at) ?? []).filter(mark => !content.includes(mark))
      expect([at, lost]).toEqual([at, []])
    }
  })
