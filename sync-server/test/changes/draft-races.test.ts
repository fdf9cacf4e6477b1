import * as Automerge from '@automerge/automerge'
import { commentsDocumentId, createComments, forkDraft } from '@pluto-duck/crdt-model'
import { sql } from 'kysely'
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
  smuggle,
  TestDevice,
  takenOut,
} from './log-fixture.ts'
import { HeldTrial, JointTrial } from './trials.ts'

let log: LogFixture
let database: ServerDatabase
const trial = new Trial()
const corrupt: string[] = []
const appender = (by: Trial = trial): Appender =>
  new Appender({ db: log.db, trial: by, onCorrupt: (_workspace, id) => void corrupt.push(id) })

beforeAll(async () => {
  log = await logFixture()
  database = await createDatabase({ databaseUrl: log.url, dataDir: '' })
})
afterAll(async () => {
  await trial.close()
  await database?.close()
  await log?.close()
})

const inDraft = (draft: string, base: string, bytes: Uint8Array): PushedChange => ({
  ...pipelineChange(draft, bytes),
  base,
})
const last = (doc: Automerge.Doc<Note>): Uint8Array => Automerge.getLastLocalChange(doc)!
const edited = (doc: Automerge.Doc<Note>, text: string): Automerge.Doc<Note> =>
  Automerge.change(doc, d => Automerge.splice(d, ['text'], 0, 0, text))
/** What an actor writes on top of a document, as often as there are texts. */
const written = (doc: Automerge.Doc<Note>, by: string, ...texts: readonly string[]): Uint8Array[] => {
  let own = Automerge.clone(doc, { actor: by })
  return texts.map(text => {
    own = edited(own, text)
    return last(own)
  })
}

/** A pipeline of two changes, and two drafts of it that were begun (3 and 4 in the log). */
async function world() {
  const device = new TestDevice(await log.workspace())
  const [base, draft, sibling] = [v7(), v7(), v7()]
  const source = note(actor())
  await appender().append(device.push(base, [source.first, source.edit('a')]))
  const fork = forkDraft(source.doc(), Automerge.getHeads(source.doc()), 'one', { actor: actor() })
  const beside = forkDraft(source.doc(), Automerge.getHeads(source.doc()), 'two', { actor: actor() })
  await appender().append(
    device.pushOf([inDraft(draft, base, last(fork)), inDraft(sibling, base, last(beside))]),
  )
  return { device, base, draft, sibling, source, fork, beside }
}

const sound = async (workspaceId: string): Promise<void> =>
  expect(await verify(database.db, { workspaceId })).toMatchObject({ open: 0, findings: [] })

describe('drafts that are written at the same moment', () => {
  for (const [first, second] of [
    ['draft', 'base'],
    ['base', 'draft'],
    ['sibling', 'draft'],
  ] as const)
    it(`[DRAFT14] of what one actor says in a ${first} and in a ${second} to two servers at once, one side is stored`, async () => {
      const { device, base, draft, sibling, source, fork, beside } = await world()
      const joint = new JointTrial(trial, 2)
      const [one, two] = [appender(joint), appender(joint)]
      const twice = actor()
      const to = {
        base: () =>
          written(source.doc(), twice, 'base', 'base again').map(bytes => pipelineChange(base, bytes)),
        draft: () => written(fork, twice, 'draft', 'draft again').map(bytes => inDraft(draft, base, bytes)),
        sibling: () =>
          written(beside, twice, 'sibling', 'sibling again').map(bytes => inDraft(sibling, base, bytes)),
      }
      const answers = await Promise.all([
        one.append(device.pushOf(to[first]())),
        two.append(device.pushOf(to[second]())),
      ])
      // Whoever would have committed later decides again.
      const [stored, refused] = answers
        .map(outcome)
        .toSorted((a, b) => String(a[0]).localeCompare(String(b[0])))
      expect(stored).toEqual([5, 6])
      expect(refused).toEqual(['actor', expect.stringMatching(/^(actor|missing_deps)$/)])
      // All three say the same about what comes next.
      for (const server of [one, two, appender()]) {
        const next = [
          inDraft(draft, base, written(fork, actor(), 'more')[0]!),
          inDraft(sibling, base, written(beside, actor(), 'more')[0]!),
          pipelineChange(base, written(source.doc(), actor(), 'more')[0]!),
        ]
        const { verdicts } = await server.append(device.pushOf(next))
        expect(verdicts.map(one => one.status)).toEqual(['stored', 'stored', 'stored'])
      }
      expect(corrupt).toEqual([])
      await sound(device.workspaceId)
    })

  it('[DRAFT3] a change that came to the pipeline first, and to its draft at the same moment, counts in both', async () => {
    const { device, base, draft, fork } = await world()
    const held = new HeldTrial(trial, draft)
    const one = appender(held)
    const [first, second] = written(fork, actor(), 'first', 'second') as [Uint8Array, Uint8Array]
    const later = one.append(device.pushOf([inDraft(draft, base, first), inDraft(draft, base, second)]))
    await held.reached.promise
    expect(outcome(await one.append(device.push(base, [last(fork), first])))).toEqual([5, 6])
    held.release.resolve()
    expect(outcome(await later)).toEqual([7, 8])
    // Who reads the log anew finds the pipeline's copy first.
    const more = written(Automerge.applyChanges(fork, [first, second])[0], actor(), 'more')[0]!
    expect(outcome(await appender().append(device.pushOf([inDraft(draft, base, more)])))).toEqual([9])
    const { rows } = await sql<{ heads: string[] }>`select heads from documents where id = ${draft}`.execute(
      log.db,
    )
    expect(rows[0]?.heads).toEqual([Automerge.decodeChange(more).hash])
    await sound(device.workspaceId)
  })

  it('[DRAFT15] a change of the pipeline is not stored again in a draft of it', async () => {
    const { device, base, draft, source } = await world()
    for (const server of [appender(), appender()])
      expect(outcome(await server.append(device.pushOf([inDraft(draft, base, source.first)])))).toEqual([
        'invalid',
      ])
    await sound(device.workspaceId)
  })

  it('[LOG15] what names itself, or another draft, as what it is a draft of is decided all the same, and holds up nobody', async () => {
    const { device, base, draft, sibling, source, fork, beside } = await world()
    const one = appender()
    const change = (on: Automerge.Doc<Note>) => written(on, actor(), 'x')[0]!
    // Each push by itself: those of one document that wait together are one group.
    const pushes = [
      inDraft(draft, base, change(fork)),
      inDraft(draft, base, change(fork)),
      inDraft(draft, draft, change(fork)),
      inDraft(sibling, base, change(beside)),
      inDraft(sibling, draft, change(beside)),
      inDraft(draft, sibling, change(fork)),
      { ...pipelineChange(base, change(source.doc())), base: draft },
      pipelineChange(base, change(source.doc())),
    ]
    for (let round = 0; round < 3; round++) {
      const answers = await Promise.all(pushes.map(item => one.append(device.pushOf([item]))))
      const known = round > 0
      expect(answers.map(answer => outcome(answer)[0])).toEqual(
        ['new', 'new', 'invalid', 'new', 'invalid', 'invalid', 'invalid', 'new'].map(expected =>
          expected === 'new' ? expect.any(Number) : known ? expect.anything() : expected,
        ),
      )
    }
  }, 20_000)

  it('[INT3] a change of another device than its actor’s is found, and what belongs to no device is none', async () => {
    const { device, base, source } = await world()
    const other = new TestDevice(device.workspaceId)
    const subject = { kind: 'pipeline', id: base } as const
    const about = { subject_kind: subject.kind, subject_id: subject.id }
    const genesis = Automerge.getAllChanges(createComments(about))[0]!
    const comments = { documentId: commentsDocumentId(about), kind: 'comments', subject, base: null } as const
    const one = appender()
    expect(outcome(await one.append(device.pushOf([{ ...comments, bytes: genesis }])))).toEqual([5])
    // As a pipeline of its own it shows the actor, which is bound then.
    expect(outcome(await one.append(other.push(v7(), [genesis])))).toEqual([6])
    await sound(device.workspaceId)
    await smuggle(log, device.workspaceId, base, other, source.edit('by another device'))
    expect((await verify(database.db, { workspaceId: device.workspaceId })).findings).toMatchObject([
      { code: 'change.actor', object: 'change 7' },
    ])
  })

  for (const when of ['before', 'after'] as const)
    it(`[VOID3] what a draft took in and another server took out of the pipeline, ${when} its trial, is refused`, async () => {
      const { device, base, draft, source, fork } = await world()
      const edit = source.edit('secret')
      await appender().append(device.push(base, [edit]))
      const held = new HeldTrial(trial, draft, when)
      const one = appender(held)
      const taking = written(Automerge.merge(Automerge.clone(fork), source.doc()), actor(), 'on top')
      const push = one.append(device.pushOf(taking.map(bytes => inDraft(draft, base, bytes))))
      await held.reached.promise
      const { workspaceId } = device
      const { hash } = Automerge.decodeChange(edit)
      await takenOut(log, { workspaceId, documentId: base, hashes: [hash] })
      held.release.resolve()
      expect(outcome(await push)).toEqual(['missing_deps'])
      const more = written(fork, actor(), 'more').map(bytes => inDraft(draft, base, bytes))
      expect(outcome(await one.append(device.pushOf(more)))).toEqual([7])
      await sound(workspaceId)
    })
})
