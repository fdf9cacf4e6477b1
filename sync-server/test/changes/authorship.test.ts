import * as Automerge from '@automerge/automerge'
import {
  addThread,
  type CommentsDoc,
  commentsDocumentId,
  createComments,
  editComments,
  editMessage,
  forkDraft,
  removeMessage,
} from '@pluto-duck/crdt-model'
import {
  type AppendVerdict,
  type AuditEntry,
  CBOR_SEQUENCE,
  decodeSequence,
  encodeSequence,
  HEADER,
  newId,
  type Subject,
} from '@pluto-duck/crdt-model/protocol'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AUDIT_START, auditHash } from '../../src/audit/audit.ts'
import { type Person, TestServer } from '../server.ts'
import { actor, type Note, note } from './log-fixture.ts'

let test: TestServer
let ann: Person
let ben: Person
let vic: Person
let eve: Person
let workspace: string
let elsewhere: string
const devices = new Map<string, string>()
const deviceOf = (who: Person): string => {
  if (!devices.has(who.id)) devices.set(who.id, newId())
  return devices.get(who.id) as string
}

beforeAll(async () => {
  test = await TestServer.start()
  ann = await test.person('ann')
  ben = await test.person('ben')
  vic = await test.person('vic')
  eve = await test.person('eve')
  workspace = await test.workspace(ann)
  await test.join(workspace, ann, ben, 'editor')
  await test.join(workspace, ann, vic, 'viewer')
  elsewhere = await test.workspace(eve)
})
afterAll(() => test?.stop())

interface Pushed {
  readonly documentId: string
  readonly subject?: Subject
  readonly base?: string
  readonly changes: readonly Uint8Array[]
}
const frameOf = ({ documentId, subject, base, changes }: Pushed, device: string): Uint8Array =>
  encodeSequence([
    { v: 1, device_id: device, live: true },
    ...changes.map(bytes => ({
      document_id: documentId,
      kind: subject ? 'comments' : 'pipeline',
      subject: subject ?? null,
      base: base ?? null,
      bytes,
    })),
  ])
const send = (who: Person, frame: Uint8Array, device = deviceOf(who), to = workspace) =>
  fetch(`${test.server.url}/v1/workspaces/${to}/changes`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${who.token}`,
      'content-type': CBOR_SEQUENCE,
      [HEADER.device]: device,
    },
    body: Buffer.from(frame),
  })
/** The verdicts of a push: the number or the refusal's code of each change. */
const push = async (who: Person, pushed: Pushed, device = deviceOf(who), to = workspace) => {
  const response = await send(who, frameOf(pushed, device), device, to)
  expect(response.status).toBe(200)
  const items = decodeSequence(new Uint8Array(await response.arrayBuffer())).slice(0, -1)
  return (items as unknown as AppendVerdict[]).map(one => (one.status === 'stored' ? one.seq : one.code))
}
const codeOf = async (response: Response) => ((await response.json()) as { code: string }).code

const audit = async (of = workspace, owner = ann): Promise<AuditEntry[]> =>
  (await test.call('GET', `/v1/workspaces/${of}/audit?limit=1000`, { as: owner })).body.entries
const logLength = async (): Promise<number> =>
  (await test.sql.query('select count(*)::int as n from changes')).rows[0].n

/** Does what is to be refused; gives the rows that tell of it, and holds that nothing was stored. */
const refused = async (act: () => Promise<unknown>, of = workspace, owner = ann): Promise<AuditEntry[]> => {
  const [before, stored] = [await audit(of, owner), await logLength()]
  await act()
  expect(await logLength()).toBe(stored)
  return (await audit(of, owner)).slice(before.length)
}

describe('forged authorship', () => {
  it('[LOG6][AUD3] another member’s actor, and another device’s of the same person', async () => {
    const pipeline = newId()
    const mine = note(actor())
    expect(await push(ann, { documentId: pipeline, changes: [mine.first] })).toEqual([expect.any(Number)])
    const forged = mine.edit('as if Ann had')
    expect(
      await refused(async () =>
        expect(await push(ben, { documentId: pipeline, changes: [forged] })).toEqual(['actor']),
      ),
    ).toMatchObject([
      {
        action: 'change.refused',
        actor_user_id: ben.id,
        device_id: deviceOf(ben),
        origin: expect.stringMatching(/127\.0\.0\.1|::1/),
        object_kind: 'document',
        object_id: pipeline,
        details: { code: 'actor', count: 1, role: 'editor' },
      },
    ])
    const second = newId()
    expect(
      await refused(async () =>
        expect(await push(ann, { documentId: pipeline, changes: [forged] }, second)).toEqual(['actor']),
      ),
    ).toMatchObject([{ actor_user_id: ann.id, device_id: second, details: { code: 'actor' } }])
  })

  it('[LOG2][LOG6][AUD4] frames that are sent again, by whomever, store nothing and change no author', async () => {
    const pipeline = newId()
    const { first } = note(actor())
    const frame = frameOf({ documentId: pipeline, changes: [first] }, deviceOf(ann))
    expect((await send(ann, frame)).status).toBe(200)
    const rows = await refused(async () => {
      // By herself, after a lost reply: no refusal.
      expect((await send(ann, frame)).status).toBe(200)
      // As caught on the way: with the other's own device, or with hers.
      expect(await codeOf(await send(ben, frame))).toBe('auth.device_mismatch')
      expect(await codeOf(await send(ben, frame, deviceOf(ann)))).toBe('auth.device_mismatch')
      // Unpacked and packed again: known, as Ann's; as the beginning of another document it is hers too.
      expect(await push(ben, { documentId: pipeline, changes: [first] })).toEqual([expect.any(Number)])
      expect(await push(ben, { documentId: newId(), changes: [first] })).toEqual(['actor'])
    })
    expect(rows.map(row => [row.actor_user_id, row.device_id, row.action, row.details.code])).toEqual([
      [ben.id, deviceOf(ben), 'request.refused', 'auth.device_mismatch'],
      [ben.id, deviceOf(ann), 'request.refused', 'auth.device_mismatch'],
      [ben.id, deviceOf(ben), 'change.refused', 'actor'],
    ])
    const { rows: authors } = await test.sql.query('select author_id from changes where document_id = $1', [
      pipeline,
    ])
    expect(authors).toEqual([{ author_id: ann.id }])
  })

  it('[LOG7][AUD3] a viewer in a pipeline, and an edit of somebody’s comment', async () => {
    const pipeline = newId()
    const viewed = note(actor())
    await push(ann, { documentId: pipeline, changes: [viewed.first] })
    let own = Automerge.load<{ text: string }>(Automerge.save(viewed.doc()), { actor: actor() })
    own = Automerge.change(own, doc => Automerge.splice(doc, ['text'], 0, 0, 'x'))
    const edit = Automerge.getLastLocalChange(own) as Uint8Array
    expect(
      await refused(async () =>
        expect(await push(vic, { documentId: pipeline, changes: [edit] })).toEqual(['permission']),
      ),
    ).toMatchObject([{ actor_user_id: vic.id, object_id: pipeline, details: { code: 'permission' } }])

    const subject: Subject = { kind: 'pipeline', id: pipeline }
    const about = { subject_kind: subject.kind, subject_id: subject.id }
    const documentId = commentsDocumentId(about)
    let hers = createComments(about, { actor: actor() })
    hers = editComments(hers, 'comment', d =>
      addThread(d, { anchor: { kind: 'subject' }, body: 'Why 42?', thread_id: 't', message_id: 'm' }),
    )
    const changes = Automerge.getAllChanges(hers)
    expect(await push(ann, { documentId, subject, changes })).toEqual(changes.map(() => expect.any(Number)))
    let theirs = Automerge.load<CommentsDoc>(Automerge.save(hers), { actor: actor() })
    theirs = editComments(theirs, 'edit', d => editMessage(d, 't', 'm', 'I was wrong'))
    const rewritten = Automerge.getLastLocalChange(theirs) as Uint8Array
    theirs = Automerge.load<CommentsDoc>(Automerge.save(hers), { actor: actor() })
    theirs = editComments(theirs, 'remove', d => removeMessage(d, 't', 'm'))
    const removed = Automerge.getLastLocalChange(theirs) as Uint8Array
    for (const who of [vic, ben])
      expect(
        await refused(async () =>
          expect(await push(who, { documentId, subject, changes: [rewritten, removed] })).toEqual([
            'permission',
            'permission',
          ]),
        ),
      ).toMatchObject([
        { actor_user_id: who.id, object_id: documentId, details: { code: 'permission', count: 2 } },
      ])
    // Hers, by herself: what is refused above is refused for who sent it.
    let rightly = Automerge.load<CommentsDoc>(Automerge.save(hers), { actor: actor() })
    rightly = editComments(rightly, 'edit', d => editMessage(d, 't', 'm', 'Why 43?'))
    const rightful = Automerge.getLastLocalChange(rightly) as Uint8Array
    expect(await push(ann, { documentId, subject, changes: [rightful] })).toEqual([expect.any(Number)])
  })

  it('[DRAFT4][DRAFT15][AUD3] in drafts: a viewer, another workspace’s pipeline, an actor that says something else, a change of the pipeline', async () => {
    const [base, draft] = [newId(), newId()]
    const source = note(actor())
    await push(ann, { documentId: base, changes: [source.first] })
    const fork = forkDraft(source.doc(), Automerge.getHeads(source.doc()), 'a draft', { actor: actor() })
    const begun = Automerge.getLastLocalChange(fork) as Uint8Array
    expect(await push(ann, { documentId: draft, base, changes: [begun] })).toEqual([expect.any(Number)])
    const written = (on: Automerge.Doc<Note>, by: string, text: string): Uint8Array => {
      const own = Automerge.clone(on, { actor: by })
      return Automerge.getLastLocalChange(
        Automerge.change(own, d => Automerge.splice(d, ['text'], 0, 0, text)),
      ) as Uint8Array
    }
    const twice = actor()
    await push(ann, { documentId: base, changes: [written(source.doc(), twice, 'here')] })
    const foreign = newId()
    await push(eve, { documentId: foreign, changes: [note(actor()).first] }, deviceOf(eve), elsewhere)
    const wrong: [Person, string, string, Uint8Array, string][] = [
      [vic, draft, base, written(fork, actor(), 'a viewer'), 'permission'],
      [ann, newId(), foreign, begun, 'missing_deps'],
      [ann, draft, base, written(fork, twice, 'there'), 'actor'],
      [ann, draft, base, source.first, 'invalid'],
    ]
    for (const [who, documentId, of, change, code] of wrong)
      expect(
        await refused(async () =>
          expect(await push(who, { documentId, base: of, changes: [change] })).toEqual([code]),
        ),
      ).toMatchObject([{ actor_user_id: who.id, object_id: documentId, details: { code, count: 1 } }])
  })

  it('[LOG8][API3][AUD3][AUD4] ids of other workspaces', async () => {
    const foreign = newId()
    const { first } = note(actor())
    await push(eve, { documentId: foreign, changes: [first] }, deviceOf(eve), elsewhere)
    const grab = note(actor())
    expect(
      await refused(async () =>
        expect(await push(ann, { documentId: foreign, changes: [grab.first] })).toEqual(['permission']),
      ),
    ).toMatchObject([{ object_id: foreign, details: { code: 'permission' } }])

    const frame = frameOf({ documentId: newId(), changes: [grab.first] }, deviceOf(ann))
    const before = (await audit(elsewhere, eve)).length
    expect(await codeOf(await send(ann, frame, deviceOf(ann), elsewhere))).toBe('workspace.not_found')
    expect(await codeOf(await send(ann, frame, deviceOf(ann), newId()))).toBe('workspace.not_found')
    await expect
      .poll(async () => (await audit(elsewhere, eve)).slice(before))
      .toMatchObject([
        {
          action: 'request.refused',
          actor_user_id: ann.id,
          object_id: 'changes.append',
          details: { code: 'workspace.not_found', role: null },
        },
      ])
  })

  it('[AUD4] what a role does not allow', async () => {
    const rows = await refused(async () => {
      const reply = await test.call('GET', `/v1/workspaces/${workspace}/audit`, { as: vic })
      expect(reply).toMatchObject({ status: 403, body: { code: 'auth.forbidden' } })
    })
    expect(rows).toMatchObject([
      { actor_user_id: vic.id, object_id: 'audit.list', details: { code: 'auth.forbidden', role: 'viewer' } },
    ])
  })

  it('[AUD5] nobody floods the audit: repeats are counted, and all are told in the end', async () => {
    const other = await TestServer.start()
    try {
      const owner = await other.person('owner')
      const id = await other.workspace(owner)
      const device = newId()
      const documents = Array.from({ length: 60 }, () => newId())
      const sent = documents.flatMap(documentId => Array.from({ length: 5 }, () => documentId))
      for (let at = 0; at < 4; at++) {
        const response = await fetch(`${other.server.url}/v1/workspaces/${id}/changes`, {
          method: 'POST',
          headers: {
            authorization: `Bearer ${owner.token}`,
            'content-type': CBOR_SEQUENCE,
            [HEADER.device]: device,
          },
          body: Buffer.from(
            encodeSequence([
              { v: 1, device_id: device, live: true },
              ...sent.map(document_id => ({
                document_id,
                kind: 'pipeline',
                subject: null,
                base: null,
                bytes: new Uint8Array([1, 2, 3]),
              })),
            ]),
          ),
        })
        expect(response.status).toBe(200)
      }
      const rows = async () =>
        (await other.sql.query('select * from audit where action = $1 order by seq', ['change.refused'])).rows
      const soon = await rows()
      // Thirty documents by name, the others together.
      expect(soon).toHaveLength(31)
      expect(soon.at(-1)).toMatchObject({ object_id: null, device_id: null })
      await other.server.close()
      const all = await rows()
      expect(all).toHaveLength(62)
      expect(all.reduce((sum, row) => sum + row.details.count, 0)).toBe(4 * sent.length)
      let previous = AUDIT_START
      const chain = await other.sql.query('select * from audit where workspace_id = $1 order by seq', [id])
      for (const { workspace_id, hash, at, seq, ...row } of chain.rows) {
        expect(row.previous_hash).toBe(previous)
        expect(auditHash({ ...row, seq: Number(seq), at: at.toISOString() }, workspace_id)).toBe(hash)
        previous = hash
      }
    } finally {
      await other.stop()
    }
  })
})
