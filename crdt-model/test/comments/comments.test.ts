import * as Automerge from '@automerge/automerge'
import * as fc from 'fast-check'
import { validate, version } from 'uuid'
import { describe, expect, it } from 'vitest'
import {
  addThread,
  authorsOf,
  type CommentsDoc,
  CommentsIndex,
  commentsChangeVerdict,
  commentsDocumentId,
  createComments,
  editComments,
  editMessage,
  mentionsOf,
  mentionText,
  readComments,
  removeMessage,
  reopenThread,
  reply,
  resolveThread,
} from '../../src/index.ts'
import { anActor, anyHeldJson } from '../../src/testing/index.ts'

const subject = { subject_kind: 'pipeline', subject_id: '019ab000-0000-7000-8000-000000000001' } as const
type Doc = Automerge.Doc<CommentsDoc>

const edit = (doc: Doc, change: (d: CommentsDoc) => void): Doc => editComments(doc, 'comment', change)
const fork = (doc: Doc): Doc => Automerge.clone(doc, { actor: anActor() })
const lastHash = (doc: Doc) => Automerge.decodeChange(Automerge.getLastLocalChange(doc)!).hash

/** Anna's thread `t` with message `m`, and a fork of it for Ben. */
function setUp() {
  const anna = edit(createComments(subject, { actor: anActor() }), d => {
    addThread(d, { anchor: { kind: 'subject' }, body: 'Why 42?', thread_id: 't', message_id: 'm' })
  })
  const ben = fork(anna)
  const authors = new Map([[lastHash(anna), 'anna']])
  return { anna, ben, authors }
}

function judge(before: Doc, after: Doc, author: string, authors: ReadonlyMap<string, string>) {
  return commentsChangeVerdict({
    subject,
    index: CommentsIndex.of(before),
    change: Automerge.decodeChange(Automerge.getLastLocalChange(after)!),
    author_id: author,
    authorOf: hash => authors.get(hash),
  })
}

describe('comments', () => {
  it('[CMT1] two devices that begin offline make one document', () => {
    const a = createComments(subject, { actor: anActor() })
    const b = createComments(subject, { actor: anActor() })
    expect(Automerge.getHeads(a)).toEqual(Automerge.getHeads(b))
    const first = edit(a, d => void addThread(d, { anchor: { kind: 'subject' }, body: 'one' }))
    const second = edit(b, d => void addThread(d, { anchor: { kind: 'subject' }, body: 'two' }))
    const merged = Automerge.merge(first, second)
    expect(
      readComments(merged)
        .threads.map(thread => thread.messages[0]!.body)
        .sort(),
    ).toEqual(['one', 'two'])
    const id = commentsDocumentId(subject)
    expect(validate(id) && version(id) === 7).toBe(true)
    expect(commentsDocumentId({ ...subject })).toBe(id)
    expect(id.slice(0, 13)).toBe(subject.subject_id.slice(0, 13))
    const other = commentsDocumentId({ subject_kind: 'run', subject_id: 'x' })
    expect(validate(other) && version(other) === 7).toBe(true)
  })

  it('[CMT2] threads, replies, edits, tombstones, resolve and reopen show when read', () => {
    const { anna } = setUp()
    const doc = edit(anna, d => {
      reply(d, 't', { body: 'Because.', message_id: 'm2' })
      editMessage(d, 't', 'm', 'Why 43?')
      resolveThread(d, 't')
    })
    expect(readComments(doc)).toMatchObject({
      ...subject,
      threads: [{ thread_id: 't', resolved: true, messages: [{ body: 'Why 43?' }, { body: 'Because.' }] }],
    })
    const next = edit(doc, d => {
      removeMessage(d, 't', 'm2')
      reopenThread(d, 't')
    })
    expect(readComments(next).threads[0]).toMatchObject({
      resolved: false,
      messages: [{ deleted: false }, { deleted: true, body: '' }],
    })
    expect(() => edit(next, d => void reply(d, 'nowhere', { body: 'x' }))).toThrow(
      expect.objectContaining({ code: 'document.invalid' }),
    )
    expect(() => edit(next, d => void reply(d, 't', { body: ' ' }))).toThrow(
      expect.objectContaining({ code: 'document.invalid' }),
    )
  })

  it('[CMT2] whatever a document holds, reading it never throws', () => {
    fc.assert(
      fc.property(fc.nat(6), anyHeldJson, (place, value) => {
        const { anna } = setUp()
        const doc = Automerge.change(anna, d => {
          const thread = d.threads.t!
          const places: [object, string][] = [
            [d, 'threads'],
            [d, 'subject_id'],
            [d.threads, 't'],
            [thread, 'anchor'],
            [thread, 'messages'],
            [thread.messages, 'm'],
            [thread.messages.m!, 'body'],
          ]
          const [parent, key] = places[place]!
          Object.assign(parent, { [key]: value })
        })
        readComments(doc)
        authorsOf(doc)
      }),
      { numRuns: 100 },
    )
  })

  it('[CMT3] who wrote a message is the author of the change that made it', () => {
    const { anna, ben } = setUp()
    const replied = edit(ben, d => void reply(d, 't', { body: 'Mine', message_id: 'b' }))
    const merged = Automerge.merge(fork(anna), replied)
    const edited = edit(merged, d => editMessage(d, 't', 'm', 'Other'))
    expect(authorsOf(edited)).toEqual(
      new Map([
        ['m', lastHash(anna)],
        ['b', lastHash(replied)],
      ]),
    )
  })

  it('[CMT4] anybody may begin, reply, resolve and reopen; only its author edits or removes a message', () => {
    const { anna, ben, authors } = setUp()
    const allowed: [string, (d: CommentsDoc) => void][] = [
      ['ben', d => void addThread(d, { anchor: { kind: 'subject' }, body: 'x' })],
      ['ben', d => void reply(d, 't', { body: 'x' })],
      ['ben', d => resolveThread(d, 't')],
      ['anna', d => editMessage(d, 't', 'm', 'other words')],
      ['anna', d => removeMessage(d, 't', 'm')],
    ]
    for (const [author, change] of allowed) {
      const before = fork(ben)
      expect(judge(before, edit(before, change), author, authors)).toMatchObject({ ok: true })
    }
    const before = fork(ben)
    const resolved = judge(
      before,
      edit(before, d => resolveThread(d, 't')),
      'ben',
      authors,
    )
    expect(resolved).toMatchObject({ ok: true, touched: { resolved: ['t'], edited: [] } })
    for (const change of [
      (d: CommentsDoc) => editMessage(d, 't', 'm', 'forged'),
      (d: CommentsDoc) => removeMessage(d, 't', 'm'),
      (d: CommentsDoc) => {
        resolveThread(d, 't')
        editMessage(d, 't', 'm', 'Why 4?')
      },
    ]) {
      const doc = fork(anna)
      expect(judge(doc, edit(doc, change), 'ben', authors)).toMatchObject({
        ok: false,
        code: 'change.permission',
      })
    }
  })

  it('[CMT5] ids, anchors, the subject and the kinds of things never change', () => {
    const { anna, authors } = setUp()
    const text = (value: string) => new Automerge.ImmutableString(value)
    const forgeries: ((d: CommentsDoc) => void)[] = [
      d => {
        d.subject_id = text('other')
      },
      d => {
        d.threads = {}
      },
      d => {
        delete d.threads.t
      },
      d => {
        d.threads.t = { anchor: text('{}'), resolved: false, messages: {} }
      },
      d => {
        d.threads.t!.anchor = text('{}')
      },
      d => {
        d.threads.t!.messages = {}
      },
      d => {
        delete d.threads.t!.messages.m
      },
      d => {
        d.threads.t!.messages.m = { deleted: false, body: 'mine' }
      },
      d => {
        d.threads.t!.messages.m!.body = 'assigned'
      },
      d => {
        d.threads.t!.resolved = 'yes' as never
      },
      d => {
        Object.assign(d, { extra: 1 })
      },
      d => {
        Object.assign(d.threads.t!.messages.m!, { author: text('ben') })
      },
    ]
    for (const forge of forgeries) {
      const before = fork(anna)
      const after = Automerge.change(before, d => forge(d as unknown as CommentsDoc))
      expect(judge(before, after, 'anna', authors), forge.toString()).toMatchObject({
        ok: false,
        code: 'change.invalid',
      })
    }
    const beginning = Automerge.from<Record<string, unknown>>({ threads: {} }) as unknown as Doc
    const change = Automerge.decodeChange(Automerge.getLastLocalChange(beginning)!)
    const input = { subject, index: new CommentsIndex(), author_id: 'ben', authorOf: () => undefined }
    expect(commentsChangeVerdict({ ...input, change })).toMatchObject({ ok: false })
    const [genesis] = Automerge.getAllChanges(anna).map(bytes => Automerge.decodeChange(bytes))
    expect(commentsChangeVerdict({ ...input, change: genesis! })).toMatchObject({ ok: true })
  })

  it('[CMT6] the verdict is the same whatever else has arrived', () => {
    const { anna, ben, authors } = setUp()
    const bens = edit(ben, d => void reply(d, 't', { body: 'mine', message_id: 'b' }))
    const known = new Map([...authors, [lastHash(bens), 'ben']])
    const annas = edit(fork(anna), d => resolveThread(d, 't'))
    const own = edit(fork(bens), d => editMessage(d, 't', 'b', 'mine!'))
    const forged = edit(fork(bens), d => editMessage(d, 't', 'm', 'forged'))
    const more = Automerge.merge(fork(bens), annas)
    for (const before of [bens, more]) {
      expect(judge(before, own, 'ben', known)).toMatchObject({ ok: true })
      expect(judge(before, forged, 'ben', known)).toMatchObject({ ok: false, code: 'change.permission' })
    }
  })

  it("[CMT7] a message that takes another's id at the same time does not hide it", () => {
    const { anna, ben } = setUp()
    const left = edit(anna, d => void reply(d, 't', { body: 'left', message_id: 'x' }))
    const right = edit(ben, d => void reply(d, 't', { body: 'right', message_id: 'x' }))
    const bodies = readComments(Automerge.merge(left, right)).threads[0]!.messages.map(
      message => message.body,
    )
    expect(bodies.sort()).toEqual(['Why 42?', 'left', 'right'])
  })

  it('[CMT8] mentions are read from the body, code is passed over, each once', () => {
    const body = `${mentionText('u1', 'Anna [A]')} and @ben@example.org, @[Anna](u1); not \`@[X](u2)\`, nor mail ben@example.org`
    expect(mentionsOf(body)).toEqual([
      { kind: 'member', id: 'u1', label: 'Anna  A ' },
      { kind: 'email', email: 'ben@example.org' },
    ])
    expect(mentionsOf('```\n@[X](u2)\n```')).toEqual([])
  })
})
