import * as Automerge from '@automerge/automerge'
import { commentsDocumentId, createComments } from '@pluto-duck/crdt-model'
import type { DocumentKind, Subject } from '@pluto-duck/crdt-model/protocol'
import { Rng } from './rng.ts'

/** Inputs that share their documents. A new block has new ones, so that documents stay small however many inputs there are. */
export const BLOCK = 500

/** A document that is stored before a block's inputs are sent, and honest changes on top of it that are not. */
export interface CorpusDocument {
  readonly documentId: string
  readonly kind: DocumentKind
  readonly subject: Subject | null
  /** What it is a draft of. */
  readonly base: string | null
  readonly history: readonly Uint8Array[]
  readonly next: readonly Uint8Array[]
}

export interface Corpus {
  readonly documents: readonly CorpusDocument[]
  /** Things of the workspace that exist beside the log. */
  readonly runId: string
  readonly scheduleId: string
}

interface Note {
  title: string
  text: string
  n: number
  gone?: number
  clicks: Automerge.Counter
  list: string[]
  inner: Record<string, unknown>
}

const AT = { time: 1_700_000_000 }

/** The documents of a block: the same bytes in every run of a seed. */
export const corpusOf = (seed: number, block: number): Corpus => {
  const rng = new Rng('corpus', seed, block)
  const pipeline = noteDocument(rng)
  const subject = { kind: 'pipeline', id: pipeline.documentId } as const
  return {
    documents: [pipeline, draftOf(rng, pipeline), commentsDocument(rng, subject)],
    runId: rng.id(),
    scheduleId: rng.id(),
  }
}

const noteDocument = (rng: Rng): CorpusDocument => {
  const [a, b] = [rng.hex(16), rng.hex(16)]
  let doc = Automerge.change(Automerge.init<Note>({ actor: a }), AT, d => {
    d.title = 'weekly'
    d.text = 'select 1'
    d.n = 1
    d.gone = 2
    d.clicks = new Automerge.Counter(1)
    d.list = ['a', 'b']
    d.inner = { k: 1, deep: { er: [1, 2.5, null, true] } }
  })
  const other = Automerge.change(Automerge.clone(doc, { actor: b }), AT, d => {
    Automerge.splice(d, ['text'], 0, 0, '-- b\n')
    d.n = 3
    d.list.splice(1, 1)
  })
  doc = Automerge.change(doc, AT, d => {
    Automerge.splice(d, ['text'], 7, 1, '2 as two')
    delete d.gone
    d.clicks.increment(2)
    d.n = 4
  })
  doc = Automerge.merge(doc, other)
  const next = [
    (d: Note) => Automerge.splice(d, ['text'], 3, 2, 'more text'),
    (d: Note) => {
      d.n = 5
      d.list.push('c')
      d.clicks.increment(1)
    },
    (d: Note) => {
      d.inner.k = new Date(0)
      d.inner.added = { bytes: new Uint8Array([1, 2, 3]), text: 'x' }
      d.list.splice(0, 1)
    },
  ].map(edit => lastOf(Automerge.change(Automerge.clone(doc, { actor: rng.hex(16) }), AT, edit)))
  return {
    documentId: rng.id(),
    kind: 'pipeline',
    subject: null,
    base: null,
    history: Automerge.getAllChanges(doc),
    next,
  }
}

/** Its first change is empty and carries the title. */
const draftOf = (rng: Rng, pipeline: CorpusDocument): CorpusDocument => {
  const [base] = Automerge.applyChanges(Automerge.init<Note>({ actor: rng.hex(16) }), [...pipeline.history])
  const doc = Automerge.emptyChange(base, { ...AT, message: 'a draft' })
  const next = [
    (d: Note) => Automerge.splice(d, ['text'], 0, 0, '-- in a draft\n'),
    (d: Note) => {
      d.n = 7
      d.list.push('d')
    },
  ].map(edit => lastOf(Automerge.change(Automerge.clone(doc, { actor: rng.hex(16) }), AT, edit)))
  return {
    documentId: rng.id(),
    kind: 'pipeline',
    subject: null,
    base: pipeline.documentId,
    history: [lastOf(doc)],
    // Not the pipeline's own: an actor that says two things in both spoils the draft, as DRAFT14 says.
    next,
  }
}

/** As crdt-model writes comments, at a time that does not change. */
const commentsDocument = (rng: Rng, subject: Subject): CorpusDocument => {
  const about = { subject_kind: subject.kind, subject_id: subject.id }
  const base = createComments(about) as unknown as Automerge.Doc<CommentsLike>
  const anchor = new Automerge.ImmutableString('{"kind":"subject"}')
  const begun = Automerge.change(Automerge.clone(base, { actor: rng.hex(16) }), AT, d => {
    d.threads.t = { anchor, resolved: false, messages: { m: { deleted: false, body: 'Why 42?' } } }
  })
  const edits = [
    (d: CommentsLike) => {
      d.threads.t!.messages.n = { deleted: false, body: 'Because.' }
    },
    (d: CommentsLike) => {
      d.threads.t!.resolved = true
    },
    (d: CommentsLike) => Automerge.splice(d, ['threads', 't', 'messages', 'm', 'body'], 0, 3, 'How'),
  ]
  return {
    documentId: commentsDocumentId(about),
    kind: 'comments',
    subject,
    base: null,
    history: Automerge.getAllChanges(begun),
    next: edits.map(edit =>
      lastOf(Automerge.change(Automerge.clone(begun, { actor: rng.hex(16) }), AT, edit)),
    ),
  }
}

interface CommentsLike {
  threads: Record<
    string,
    {
      anchor: Automerge.ImmutableString
      resolved: boolean
      messages: Record<string, { deleted: boolean; body: string }>
    }
  >
}

const lastOf = (doc: Automerge.Doc<unknown>): Uint8Array => Automerge.getLastLocalChange(doc) as Uint8Array
