import * as Automerge from '@automerge/automerge'
import { addThread, commentsDocumentId, createComments, editComments } from '@pluto-duck/crdt-model'
import { sql } from 'kysely'
import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DEFAULT_LIMITS } from '../../src/changes/admission/limits.ts'
import { Trial } from '../../src/changes/admission/trial.ts'
import { type Appended, Appender, type Commit } from '../../src/changes/append.ts'
import { forgeryWorld } from './forgeries.ts'
import { actor, type LogFixture, logFixture, note, TestDevice } from './log-fixture.ts'
import { HeldTrial, JointTrial } from './trials.ts'

let log: LogFixture
const trial = new Trial()
const commits: Commit[] = []
const appender = (): Appender => new Appender({ db: log.db, trial, onCommit: commit => commits.push(commit) })

beforeAll(async () => {
  log = await logFixture()
})
afterAll(async () => {
  await trial.close()
  await log?.close()
})

/** Tries as ever, and counts how often. */
class CountingTrial extends Trial {
  tries = 0

  override try(...given: Parameters<Trial['try']>): ReturnType<Trial['try']> {
    this.tries++
    return super.try(...given)
  }
}

/** Keeps one document, and tells which had to be loaded again. */
class ForgetfulTrial extends Trial {
  readonly loaded: string[] = []

  constructor() {
    super({ workers: 1, keep: 1 })
  }

  override try(...[document, changes]: Parameters<Trial['try']>): ReturnType<Trial['try']> {
    const load = (): Promise<Uint8Array> => {
      this.loaded.push(document.id)
      return document.load()
    }
    return super.try({ ...document, load }, changes)
  }
}

const titleAndHeads = async (id: string) =>
  (
    await sql<{
      title: string
      heads: string[]
    }>`select title, heads from documents where id = ${id}`.execute(log.db)
  ).rows[0]
const storedSeqs = (appended: Appended): (number | string)[] =>
  appended.verdicts.map(one => (one.status === 'stored' ? one.seq : one.code))
const rows = async (workspaceId: string) =>
  (
    await sql<{ seq: string; document_id: string }>`
      select seq, document_id from changes where workspace_id = ${workspaceId} order by seq`.execute(log.db)
  ).rows

describe('append', () => {
  it('[LOG1] stores changes and numbers them from 1 in the order of the push', async () => {
    const device = new TestDevice(await log.workspace())
    const id = v7()
    const doc = note(actor())
    const appended = await appender().append(device.push(id, [doc.first, doc.edit('a'), doc.edit('b')]))
    expect(storedSeqs(appended)).toEqual([1, 2, 3])
    expect(appended.seq).toBe(3)
    const { rows: documents } = await sql<{ title: string; heads: string[]; seq: string }>`
      select title, heads, seq from documents where id = ${id}`.execute(log.db)
    expect(documents).toEqual([{ title: 'note', heads: Automerge.getHeads(doc.doc()), seq: '3' }])
  })

  it('[LOG1] a commit of many pushes stores of each change its own bytes, hash, author and device', async () => {
    const workspaceId = await log.workspace()
    // Ids that an array of texts would take apart, or for none.
    const people = ['a,b', 'c"d\\e', '{f}', 'null', 'NULL', "g'h", ' i ', 'j-k_1']
    for (const id of people)
      await sql`insert into users (id, name, email) values (${id}, 'P', ${`${v7()}@example.org`})`.execute(
        log.db,
      )
    const pushes = people.map((userId, i) => {
      const doc = note(actor())
      return new TestDevice(workspaceId, userId).push(v7(), [doc.first, doc.edit('x'.repeat(7 ** (i % 5)))])
    })
    const one = new Appender({ db: log.db, trial: new JointTrial(trial, people.length) })
    await Promise.all(pushes.map(push => one.append({ ...push, live: push.userId !== '{f}' })))
    const { rows: stored } = await sql<Record<string, unknown>>`
      select document_id, encode(hash, 'hex') as hash, actor, actor_seq, author_id, device_id, live, bytes from changes
      where workspace_id = ${workspaceId} order by document_id, seq`.execute(log.db)
    const sent = pushes
      .toSorted((a, b) => (a.changes[0]!.documentId < b.changes[0]!.documentId ? -1 : 1))
      .flatMap(({ userId, deviceId, changes }) =>
        changes.map(({ documentId, bytes }) => {
          const { hash, actor: by, seq } = Automerge.decodeChange(bytes)
          const of = { document_id: documentId, hash, actor: by, actor_seq: seq }
          const live = userId !== '{f}'
          return { ...of, author_id: userId, device_id: deviceId, live, bytes: Buffer.from(bytes) }
        }),
      )
    expect(stored).toEqual(sent)
  })

  it('[LOG2] a repeated append is stored once and answered with the same numbers', async () => {
    const device = new TestDevice(await log.workspace())
    const id = v7()
    const doc = note(actor())
    const push = device.push(id, [doc.first, doc.edit('a')])
    const one = appender()
    const first = await one.append(push)
    expect(storedSeqs(first)).toEqual([1, 2])
    // Not live by now, and later; by this server, and by one that knows nothing yet.
    const later = { ...push, live: !push.live }
    expect((await one.append(later)).verdicts).toEqual(first.verdicts)
    expect((await appender().append(later)).verdicts).toEqual(first.verdicts)
    expect(first.verdicts[0]).toMatchObject({ authorId: push.userId, live: push.live })
    expect(storedSeqs(await one.append(device.push(id, [doc.edit('b'), doc.first])))).toEqual([3, 1])
    expect(await rows(device.workspaceId)).toHaveLength(3)
  })

  it('[LOG3] changes that passed their trial and wait together are committed together, without gaps', async () => {
    const device = new TestDevice(await log.workspace())
    const together = new JointTrial(trial, 20)
    const one = new Appender({ db: log.db, trial: together, onCommit: commit => commits.push(commit) })
    const before = commits.length
    const answers = await Promise.all(
      Array.from({ length: 20 }, () => one.append(device.push(v7(), [note(actor()).first]))),
    )
    expect(answers.flatMap(storedSeqs).sort((a, b) => Number(a) - Number(b))).toEqual(
      Array.from({ length: 20 }, (_, i) => i + 1),
    )
    expect(commits.length - before).toBe(1)
  })

  it('[LOG4] a server does not refuse for lack of what came by another one', async () => {
    const device = new TestDevice(await log.workspace())
    const [one, two] = [appender(), appender()]
    const id = v7()
    const doc = note(actor())
    await one.append(device.push(id, [doc.first]))
    expect(storedSeqs(await two.append(device.push(id, [doc.first, doc.edit('a')])))).toEqual([1, 2])
    expect(storedSeqs(await one.append(device.push(id, [doc.edit('b')])))).toEqual([3])
    expect(storedSeqs(await two.append(device.push(id, [doc.edit('c')])))).toEqual([4])
  })

  it('[LOG4] two servers append to one workspace at once: nothing is lost, doubled or skipped', async () => {
    const workspaceId = await log.workspace()
    const servers = [appender(), appender()]
    const id = v7()
    const base = note(actor())
    const owner = new TestDevice(workspaceId)
    await servers[0]!.append(owner.push(id, [base.first]))
    await Promise.all(
      servers.map(async server => {
        const device = new TestDevice(workspaceId)
        let doc = Automerge.applyChanges(Automerge.init<{ text: string }>({ actor: actor() }), [
          base.first,
        ])[0]
        for (let i = 0; i < 15; i++) {
          doc = Automerge.change(doc, draft => Automerge.splice(draft, ['text'], 0, 0, `${i}`))
          const appended = await server.append(device.push(id, [Automerge.getLastLocalChange(doc)!]))
          expect(appended.verdicts[0]?.status).toBe('stored')
        }
      }),
    )
    const stored = await rows(workspaceId)
    expect(stored.map(row => Number(row.seq))).toEqual(Array.from({ length: 31 }, (_, i) => i + 1))
    const { rows: all } = await sql<{ bytes: Uint8Array }>`
      select bytes from changes where workspace_id = ${workspaceId} order by seq`.execute(log.db)
    const merged = Automerge.applyChanges(
      Automerge.init(),
      all.map(row => row.bytes),
    )[0]
    const { rows: documents } = await sql<{
      heads: string[]
    }>`select heads from documents where id = ${id}`.execute(log.db)
    expect(documents[0]?.heads).toEqual(Automerge.getHeads(merged).toSorted())
  })

  it('[LOG4] documents that another server did not touch are stored without being tried again', async () => {
    const workspaceId = await log.workspace()
    const device = new TestDevice(workspaceId)
    const counting = new CountingTrial()
    const mine = new Appender({ db: log.db, trial: counting })
    const theirs = appender()
    const [a, b] = [note(actor()), note(actor())]
    const [idA, idB] = [v7(), v7()]
    await mine.append(device.push(idA, [a.first]))
    await theirs.append(device.push(idB, [b.first]))
    expect(storedSeqs(await mine.append(device.push(idA, [a.edit('x')])))).toEqual([3])
    expect(counting.tries).toBe(2)
    await theirs.append(device.push(idA, [a.edit('y')]))
    expect(storedSeqs(await mine.append(device.push(idA, [a.edit('z')])))).toEqual([5])
    expect(await titleAndHeads(idA)).toEqual({ title: 'note', heads: Automerge.getHeads(a.doc()) })
    await counting.close()
  })

  it('[LOG15] a document whose trial takes long holds up no other, of the same push neither', async () => {
    const device = new TestDevice(await log.workspace())
    const slow = v7()
    const held = new HeldTrial(trial, slow)
    const one = new Appender({ db: log.db, trial: held })
    const other = v7()
    const doc = note(actor())
    const both = one.append({
      ...device.push(slow, [note(actor()).first]),
      changes: [
        ...device.push(slow, [note(actor()).first]).changes,
        ...device.push(other, [doc.first]).changes,
      ],
    })
    await held.reached.promise
    expect(storedSeqs(await one.append(device.push(other, [doc.edit('a')])))).toEqual([2])
    expect(storedSeqs(await one.append(device.push(v7(), [note(actor()).first])))).toEqual([3])
    held.release.resolve()
    expect(storedSeqs(await both)).toEqual([4, 1])
  })

  it('[LOG6] of two devices that show one actor at once, in two documents, one is refused', async () => {
    const workspaceId = await log.workspace()
    const one = appender()
    const shared = actor()
    const answers = await Promise.all(
      [new TestDevice(workspaceId), new TestDevice(workspaceId)].map(device =>
        one.append(device.push(v7(), [note(shared).first])),
      ),
    )
    expect(answers.flatMap(storedSeqs).sort()).toEqual([1, 'actor'])
    expect(await rows(workspaceId)).toHaveLength(1)
  })

  it('[LOG5] of a push the bad changes are refused, and what depends on them as missing_deps; the rest is stored', async () => {
    const device = new TestDevice(await log.workspace())
    const good = note(actor())
    const bad = note(actor())
    const broken = bad.first.slice()
    broken[broken.length - 1]! ^= 1
    const [a, b] = [v7(), v7()]
    const appended = await appender().append(
      device.pushOf([
        ...device.push(a, [broken, bad.edit('x')]).changes,
        ...device.push(b, [good.first, good.edit('y')]).changes,
      ]),
    )
    expect(storedSeqs(appended)).toEqual(['invalid', 'missing_deps', 1, 2])
    const { rows: documents } = await sql<{ id: string }>`
      select id from documents where workspace_id = ${device.workspaceId}`.execute(log.db)
    expect(documents).toEqual([{ id: b }])
  })

  it('[LOG5] every forgery is refused with its code, and leaves the document as it was', async () => {
    const world = forgeryWorld()
    const device = new TestDevice(await log.workspace())
    const one = appender()
    const id = v7()
    await one.append(device.push(id, [...world.history, world.concurrent]))
    const appended = await one.append(
      device.push(
        id,
        world.forgeries.map(forgery => forgery.bytes),
      ),
    )
    expect(
      appended.verdicts.map(verdict => (verdict.status === 'refused' ? verdict.code : verdict.status)),
    ).toEqual(world.forgeries.map(forgery => forgery.code))
    expect(await rows(device.workspaceId)).toHaveLength(world.history.length + 1)
  })

  it('[LOG6] an actor belongs to the device that showed it first: a copied data folder is refused', async () => {
    const workspaceId = await log.workspace()
    const [device, copy] = [new TestDevice(workspaceId), new TestDevice(workspaceId)]
    const id = v7()
    const doc = note(actor())
    await appender().append(device.push(id, [doc.first]))
    const next = doc.edit('a')
    expect(storedSeqs(await appender().append(copy.push(id, [next])))).toEqual(['actor'])
    expect(storedSeqs(await appender().append(device.push(id, [next])))).toEqual([2])
  })

  it('[LOG7] a viewer may not write to a pipeline, and may comment', async () => {
    const workspaceId = await log.workspace()
    const editor = new TestDevice(workspaceId)
    const viewer = new TestDevice(workspaceId, 'ben', 'viewer')
    const one = appender()
    const id = v7()
    const doc = note(actor())
    await one.append(editor.push(id, [doc.first]))
    expect(storedSeqs(await one.append(viewer.push(id, [doc.edit('a')])))).toEqual(['permission'])
    expect(storedSeqs(await one.append(viewer.push(v7(), [note(actor()).first])))).toEqual(['permission'])

    const subject = { subject_kind: 'pipeline', subject_id: id } as const
    const comments = editComments(createComments(subject, { actor: actor() }), 'ask', draft => {
      addThread(draft, { anchor: { kind: 'subject' }, body: 'why?' })
    })
    const push = (device: TestDevice, changes: Uint8Array[]) =>
      device.pushOf(
        changes.map(bytes => ({
          documentId: commentsDocumentId(subject),
          kind: 'comments' as const,
          subject: { kind: 'pipeline' as const, id },
          base: null,
          bytes,
        })),
      )
    const changes = Automerge.getAllChanges(comments)
    expect(storedSeqs(await one.append(push(viewer, changes)))).toEqual([2, 3])
    expect(storedSeqs(await one.append(push(editor, changes.slice(0, 1))))).toEqual([2])
  })

  it("[LOG8] another workspace's document id is refused without saying where it is", async () => {
    const [here, there] = [await log.workspace(), await log.workspace()]
    const id = v7()
    await appender().append(new TestDevice(there).push(id, [note(actor()).first]))
    const appended = await appender().append(new TestDevice(here).push(id, [note(actor()).first]))
    expect(appended.verdicts[0]).toMatchObject({ status: 'refused', code: 'permission' })
    expect(JSON.stringify(appended)).not.toContain(there)
  })

  it('[ADM13] what fails its trial is refused with what depends on it, and nothing of it stays', async () => {
    const device = new TestDevice(await log.workspace())
    const id = v7()
    const doc = note(actor())
    const push = device.push(id, [doc.first, doc.edit('a')])
    const hasty = new Trial({ timeoutMs: 1 })
    const one = new Appender({ db: log.db, trial: hasty })
    expect(storedSeqs(await one.append(push))).toEqual(['invalid', 'missing_deps'])
    await hasty.close()
    expect(await rows(device.workspaceId)).toEqual([])
    expect(storedSeqs(await appender().append(push))).toEqual([1, 2])
  })

  it('[ADM2] a document takes no more operations than it may have', async () => {
    const device = new TestDevice(await log.workspace())
    const id = v7()
    const doc = note(actor())
    const small = new Appender({ db: log.db, trial, limits: { ...DEFAULT_LIMITS, documentOps: 10 } })
    const appended = await small.append(
      device.push(id, [doc.first, doc.edit('a'), doc.edit('much too much')]),
    )
    expect(storedSeqs(appended)).toEqual([1, 2, 'quota'])
    expect(storedSeqs(await small.append(device.push(v7(), [note(actor()).first])))).toEqual([3])
  })

  it('[LOG16] a workspace holds no more documents and bytes than it may have, and what it holds stays writable', async () => {
    const device = new TestDevice(await log.workspace())
    const docs = [note(actor()), note(actor()), note(actor())]
    const ids = [v7(), v7(), v7()]
    const few = new Appender({ db: log.db, trial, workspaceLimits: { bytes: 1e9, documents: 2 } })
    const answers = await Promise.all(ids.map((id, i) => few.append(device.push(id, [docs[i]!.first]))))
    expect(answers.flatMap(storedSeqs).sort()).toEqual([1, 2, 'quota'])
    const stored = answers.findIndex(one => one.verdicts[0]!.status === 'stored')
    const edit = docs[stored]!.edit('a')
    expect(storedSeqs(await few.append(device.push(ids[stored]!, [edit])))).toEqual([3])

    const counter = await sql<{ bytes: string; documents: number; real: string }>`
      select bytes, documents, (select sum(octet_length(bytes)) from changes where workspace_id = c.workspace_id) as real
      from workspace_counters c where workspace_id = ${device.workspaceId}`.execute(log.db)
    expect(counter.rows[0]).toMatchObject({ documents: 2, bytes: counter.rows[0]!.real })
    const bytes = Number(counter.rows[0]!.bytes)
    const next = docs[stored]!.edit('b')
    const full = new Appender({
      db: log.db,
      trial,
      workspaceLimits: { bytes: bytes + next.length, documents: 2 },
    })
    expect(storedSeqs(await full.append(device.push(ids[stored]!, [next])))).toEqual([4])
    expect(storedSeqs(await full.append(device.push(ids[stored]!, [docs[stored]!.edit('c')])))).toEqual([
      'quota',
    ])
    // What is there already is answered as ever.
    expect(storedSeqs(await full.append(device.push(ids[stored]!, [edit])))).toEqual([3])
  })

  it('[LOG16] room that a failed trial took is given back', async () => {
    const device = new TestDevice(await log.workspace())
    const limits = { bytes: 1e9, documents: 1 }
    const hasty = new Trial({ timeoutMs: 1 })
    const failing = new Appender({ db: log.db, trial: hasty, workspaceLimits: limits })
    for (let i = 0; i < 3; i++)
      expect(storedSeqs(await failing.append(device.push(v7(), [note(actor()).first])))).toEqual(['invalid'])
    await hasty.close()
    const one = new Appender({ db: log.db, trial, workspaceLimits: limits })
    expect(storedSeqs(await one.append(device.push(v7(), [note(actor()).first])))).toEqual([1])
  })

  it('[LOG17] a push that finds too much waiting is told to come back, and succeeds then', async () => {
    const device = new TestDevice(await log.workspace())
    const id = v7()
    const held = new HeldTrial(trial, id)
    const one = new Appender({ db: log.db, trial: held, maxWaitingBytes: 1_000 })
    const doc = note(actor())
    const first = one.append(device.push(id, [doc.first, doc.edit('a')]))
    await held.reached.promise
    const next = device.push(v7(), [note(actor()).first, note(actor()).first])
    await expect(one.append(next)).rejects.toMatchObject({
      code: 'request.rate_limited',
      details: { retry_after: expect.any(Number) },
    })
    held.release.resolve()
    expect(storedSeqs(await first)).toEqual([1, 2])
    expect((await one.append(next)).verdicts[0]!.status).toBe('stored')
  })

  it('[LOG19] what is not kept in memory is read again, and decided as if it had been kept', async () => {
    const forgetful = new ForgetfulTrial()
    const small = new Appender({ db: log.db, trial: forgetful, maxIndexedOps: 1, maxWorkspaces: 1 })
    const devices = [new TestDevice(await log.workspace()), new TestDevice(await log.workspace())]
    const all = devices.flatMap(device => [1, 2].map(() => ({ device, id: v7(), doc: note(actor()) })))
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(
        all.map(({ device, id, doc }) =>
          small.append(device.push(id, [round === 0 ? doc.first : doc.edit(`${round}`)])),
        ),
      )
      expect(answers.flatMap(storedSeqs).every(seq => typeof seq === 'number')).toBe(true)
    }
    // All but the last one of a round were pushed out by the others before they came again.
    expect(forgetful.loaded.length).toBeGreaterThanOrEqual(2 * (all.length - 1))
    for (const { workspaceId } of devices)
      expect((await rows(workspaceId)).map(row => Number(row.seq))).toEqual([1, 2, 3, 4, 5, 6])
    for (const { id, doc } of all)
      expect((await titleAndHeads(id))?.heads).toEqual(Automerge.getHeads(doc.doc()))
    const [{ device, id, doc }] = all as [(typeof all)[number]]
    const stranger = new TestDevice(device.workspaceId)
    expect(storedSeqs(await small.append(stranger.push(id, [doc.edit('mine')])))).toEqual(['actor'])
    await forgetful.close()
  })

  it('[MIG2] the changes refuse UPDATE, DELETE and TRUNCATE', async () => {
    await expect(sql`update changes set live = false`.execute(log.db)).rejects.toThrow(/append-only/)
    await expect(sql`delete from changes`.execute(log.db)).rejects.toThrow(/append-only/)
    await expect(sql`truncate log_records`.execute(log.db)).rejects.toThrow(/append-only/)
  })
})
