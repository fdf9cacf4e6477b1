import * as Automerge from '@automerge/automerge'
import { composeDraft, forkDraft } from '@pluto-duck/crdt-model'
import { sql } from 'kysely'
import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Trial } from '../../src/changes/admission/trial.ts'
import { type Appended, Appender, type PushedChange } from '../../src/changes/append.ts'
import { readSnapshot } from '../../src/changes/read.ts'
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
} from './log-fixture.ts'

let log: LogFixture
const trial = new Trial()
const appender = (): Appender => new Appender({ db: log.db, trial })

beforeAll(async () => {
  log = await logFixture()
})
afterAll(async () => {
  await trial.close()
  await log?.close()
})

const changeOf = (draft: string, base: string | null, bytes: Uint8Array): PushedChange => ({
  ...pipelineChange(draft, bytes),
  base,
})
const edited = (doc: Automerge.Doc<Note>, text: string): Automerge.Doc<Note> =>
  Automerge.change(doc, d => Automerge.splice(d, ['text'], 0, 0, text))
const last = (doc: Automerge.Doc<Note>): Uint8Array => Automerge.getLastLocalChange(doc)!
const headsIn = async (id: string): Promise<string[]> =>
  (await sql<{ heads: string[] }>`select heads from documents where id = ${id}`.execute(log.db)).rows[0]!
    .heads

/** A pipeline of three changes in the log, and a draft of it with a title and one edit. */
async function world(one: Appender) {
  const device = new TestDevice(await log.workspace())
  const [base, draft] = [v7(), v7()]
  const source = note(actor())
  await one.append(device.push(base, [source.first, source.edit('a'), source.edit('b')]))
  const opened = forkDraft(source.doc(), Automerge.getHeads(source.doc()), 'try this', { actor: actor() })
  const begun = last(opened)
  const fork = edited(opened, 'X')
  return { device, base, draft, source, fork, own: [begun, last(fork)] }
}

describe('drafts in the log', () => {
  it('[DRAFT1] a draft is its own changes: what they build on stays in the base’s log', async () => {
    const one = appender()
    const { device, base, draft, source, fork, own } = await world(one)
    const stored = await one.append(device.pushOf(own.map(bytes => changeOf(draft, base, bytes))))
    expect(outcome(stored)).toEqual([4, 5])
    expect(await headsIn(draft)).toEqual(Automerge.getHeads(fork))
    const items = []
    for await (const { item } of readSnapshot(log.db, device.workspaceId)) items.push(item)
    const item = items.find(found => found.document_id === draft)!
    expect(item).toMatchObject({ base, heads: Automerge.getHeads(fork) })
    expect(Buffer.from(item.bytes)).toEqual(Buffer.concat(own))
    expect(composeDraft(source.doc(), own).text).toBe('Xab')
  })

  it('[DRAFT15] an actor that says two things, in a draft and in its base, is refused the second', async () => {
    for (const first of ['draft', 'base', 'sibling'] as const)
      for (const together of [false, true]) {
        const one = appender()
        const { device, base, draft, source, fork, own } = await world(one)
        await one.append(device.pushOf(own.map(bytes => changeOf(draft, base, bytes))))
        const sibling = v7()
        const beside = forkDraft(source.doc(), Automerge.getHeads(source.doc()), 'too', { actor: actor() })
        await one.append(device.pushOf([changeOf(sibling, base, last(beside))]))
        const two = actor()
        const inDraft = changeOf(draft, base, last(edited(Automerge.clone(fork, { actor: two }), 'one')))
        const inBase = pipelineChange(
          base,
          last(edited(Automerge.clone(source.doc(), { actor: two }), 'other')),
        )
        const inSibling = changeOf(
          sibling,
          base,
          last(edited(Automerge.clone(beside, { actor: two }), 'third')),
        )
        const both =
          first === 'draft' ? [inDraft, inBase] : first === 'base' ? [inBase, inDraft] : [inSibling, inDraft]
        // Also a server that knows of nothing but the log.
        const verdicts = together
          ? outcome(await one.append(device.pushOf(both)))
          : [
              ...outcome(await one.append(device.pushOf([both[0]!]))),
              ...outcome(await appender().append(device.pushOf([both[1]!]))),
            ]
        // Of what comes together either is first.
        expect(verdicts.toSorted(), `${first} ${together}`).toEqual([7, 'actor'])
        const more = last(edited(fork, 'more'))
        expect(outcome(await one.append(device.pushOf([changeOf(draft, base, more)])))).toEqual([8])
        expect(outcome(await one.append(device.push(base, [source.edit('c')])))).toEqual([9])
      }
  })

  it('[DRAFT14] such changes that a log holds all the same spoil the draft alone', async () => {
    const found: string[] = []
    const one = new Appender({
      db: log.db,
      trial,
      onCorrupt: (_workspace, documentId) => void found.push(documentId),
    })
    const { device, base, draft, source, fork, own } = await world(one)
    await one.append(device.pushOf(own.map(bytes => changeOf(draft, base, bytes))))
    const two = actor()
    const inDraft = last(edited(Automerge.clone(fork, { actor: two }), 'one thing'))
    const inBase = last(edited(Automerge.clone(source.doc(), { actor: two }), 'another'))
    expect(outcome(await one.append(device.pushOf([changeOf(draft, base, inDraft)])))).toEqual([6])
    // An older server looked before that was committed.
    await smuggle(log, device.workspaceId, base, device, inBase)
    const more = last(edited(fork, 'more'))
    // One that reads the log anew; who had the draft open has not seen both together.
    const fresh = new Appender({
      db: log.db,
      trial,
      onCorrupt: (_workspace, documentId) => void found.push(documentId),
    })
    expect(outcome(await fresh.append(device.pushOf([changeOf(draft, base, more)])))).toEqual(['invalid'])
    expect(new Set(found)).toEqual(new Set([draft]))
    expect(outcome(await one.append(device.push(base, [source.edit('c')])))).toEqual([8])
  })

  it('[DRAFT15] an actor of the pipeline does not go on in a draft, and one of a draft goes on there after a merge', async () => {
    const one = appender()
    const { device, base, draft, source, fork, own } = await world(one)
    const astray = edited(
      Automerge.clone(source.doc(), { actor: Automerge.getActorId(source.doc()) }),
      'astray',
    )
    expect(outcome(await one.append(device.pushOf([changeOf(draft, base, own[0]!)])))).toEqual([4])
    expect(outcome(await one.append(device.pushOf([changeOf(draft, base, last(astray))])))).toEqual(['actor'])
    const merged = Automerge.clone(fork, { actor: Automerge.getActorId(fork) })
    await one.append(device.pushOf([changeOf(draft, base, own[1]!)]))
    expect(outcome(await one.append(device.push(base, own)))).toEqual([6, 7])
    expect(
      outcome(await one.append(device.pushOf([changeOf(draft, base, last(edited(fork, 'more')))]))),
    ).toEqual([8])
    const other = last(edited(merged, 'other'))
    expect(outcome(await appender().append(device.push(base, [other])))).toEqual(['actor'])
  })

  it('[DRAFT2] a draft goes on beside its base, and may take in what the base became', async () => {
    const one = appender()
    const { device, base, draft, source, fork, own } = await world(one)
    await one.append(device.pushOf(own.map(bytes => changeOf(draft, base, bytes))))
    expect(outcome(await one.append(device.push(base, [source.edit('c')])))).toEqual([6])
    const further = edited(fork, 'Y')
    expect(outcome(await one.append(device.pushOf([changeOf(draft, base, last(further))])))).toEqual([7])
    expect(await headsIn(draft)).toEqual(Automerge.getHeads(further))

    const merged = edited(Automerge.merge(further, Automerge.clone(source.doc())), 'Z')
    const push = device.pushOf([changeOf(draft, base, last(merged))])
    // Another server, which reads everything from the log, says the same.
    expect(outcome(await appender().append(push))).toEqual([8])
    expect(outcome(await one.append(push))).toEqual([8])
    expect(await headsIn(draft)).toEqual(Automerge.getHeads(merged))
    expect(outcome(await one.append(device.push(base, [source.edit('d')])))).toEqual([9])
    const later = edited(merged, '!')
    expect(outcome(await one.append(device.pushOf([changeOf(draft, base, last(later))])))).toEqual([10])
  })

  it('[DRAFT3] a draft’s changes are the same changes in the base, and what follows them is admitted in both', async () => {
    const one = appender()
    const { device, base, draft, source, fork, own } = await world(one)
    await one.append(device.pushOf(own.map(bytes => changeOf(draft, base, bytes))))
    expect(outcome(await one.append(device.push(base, own)))).toEqual([6, 7])
    const merged = Automerge.merge(Automerge.clone(source.doc(), { actor: actor() }), fork)
    const after = edited(merged, 'after')
    expect(outcome(await one.append(device.push(base, [last(after)])))).toEqual([8])
    const further = edited(fork, 'more')
    for (const server of [one, appender()])
      expect(outcome(await server.append(device.pushOf([changeOf(draft, base, last(further))])))).toEqual([9])
    expect(await headsIn(draft)).toEqual(Automerge.getHeads(further))
  })

  it('[DRAFT4] a draft of what is not there, of another workspace’s, of a draft, and another base are refused', async () => {
    const one = appender()
    const { device, base, draft, own, fork } = await world(one)
    const other = new TestDevice(await log.workspace())
    const refused = async (push: Promise<Appended>) => outcome(await push)
    expect(await refused(one.append(device.pushOf([changeOf(draft, v7(), own[0]!)])))).toEqual([
      'missing_deps',
    ])
    expect(await refused(one.append(other.pushOf([changeOf(v7(), base, own[0]!)])))).toEqual(['missing_deps'])
    await one.append(device.pushOf(own.map(bytes => changeOf(draft, base, bytes))))
    const next = last(edited(fork, 'n'))
    expect(await refused(one.append(device.pushOf([changeOf(v7(), draft, next)])))).toEqual(['invalid'])
    expect(await refused(one.append(device.pushOf([changeOf(draft, null, next)])))).toEqual(['invalid'])
    expect(await refused(one.append(device.pushOf([changeOf(draft, v7(), next)])))).toEqual(['invalid'])
    const viewer = new TestDevice(device.workspaceId, 'ben', 'viewer')
    expect(await refused(one.append(viewer.pushOf([changeOf(draft, base, next)])))).toEqual(['permission'])
    // Nothing of that stays behind.
    expect(await refused(one.append(device.pushOf([changeOf(draft, base, next)])))).toEqual([6])
  })

  it('[DRAFT5] a change of a draft that is refused takes no other with it', async () => {
    const one = appender()
    const { device, base, draft, own, fork } = await world(one)
    const gap = Automerge.clone(fork, { actor: actor() })
    const next = last(edited(fork, 'n'))
    const lost = last(edited(edited(gap, 'gap'), 'n'))
    const push = device.pushOf([...own, lost, next].map(bytes => changeOf(draft, base, bytes)))
    expect(outcome(await one.append(push))).toEqual([4, 5, 'missing_deps', 6])
  })
})
