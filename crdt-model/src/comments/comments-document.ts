import * as Automerge from '@automerge/automerge'
import { sha256Hex } from '../canonical/canonical.ts'
import type { DocumentOptions } from '../documents/pipeline-document.ts'
import { register } from '../documents/registers.ts'
import { type Register, SCHEMA_VERSION, type SubjectKind } from '../documents/schema.ts'

/** Map keys are ids made by clients. Authors and times are never in the document: they come from the server's records. */
export interface MessageDoc {
  deleted: boolean
  body: string
}

export interface ThreadDoc {
  /** Canonical JSON of a `CommentAnchor`. */
  anchor: Register
  resolved: boolean
  messages: Record<string, MessageDoc>
}

export type CommentsDoc = {
  schema_version: number
  kind: Register
  subject_kind: Register
  subject_id: Register
  threads: Record<string, ThreadDoc>
}

export interface CommentsSubject {
  readonly subject_kind: SubjectKind
  readonly subject_id: string
}

/**
 * The comments of one subject. Two devices that begin to comment offline make one document: its first change is the same bytes
 * everywhere (an actor derived from the subject, time 0), and what follows is the caller's actor's.
 */
export function createComments(
  subject: CommentsSubject,
  options: DocumentOptions = {},
): Automerge.Doc<CommentsDoc> {
  const first = genesis(subject)
  const doc = Automerge.clone(first, options.actor === undefined ? {} : { actor: options.actor })
  Automerge.free(first)
  return doc
}

/** The hash of the first change of a subject's comments, the same on every device. */
export function commentsGenesisHash(subject: CommentsSubject): string {
  const first = genesis(subject)
  const [hash] = Automerge.getHeads(first)
  Automerge.free(first)
  return hash!
}

function genesis(subject: CommentsSubject): Automerge.Doc<CommentsDoc> {
  return Automerge.change(
    Automerge.init<CommentsDoc>({ actor: commentsGenesisActor(subject) }),
    { time: 0, message: 'create' },
    d => {
      d.schema_version = SCHEMA_VERSION
      d.kind = register('comments')
      d.subject_kind = register(subject.subject_kind)
      d.subject_id = register(subject.subject_id)
      d.threads = {}
    },
  )
}

const subjectKey = (subject: CommentsSubject): string =>
  `comments:${subject.subject_kind}:${subject.subject_id}`

/** The actor of a comments document's first change: any device may be the one that sends it. */
export function commentsGenesisActor(subject: CommentsSubject): string {
  return sha256Hex(`${subjectKey(subject)}:actor`).slice(0, 32)
}

/**
 * The id of a subject's comments document, the same on every device: a well-formed UUID v7 with the subject's own time when
 * the subject's id is one (else a made-up time), and bits from its hash.
 */
export function commentsDocumentId(subject: CommentsSubject): string {
  const bits = sha256Hex(`${subjectKey(subject)}:document`)
  const hex = subject.subject_id.replaceAll('-', '').toLowerCase()
  const time = /^[0-9a-f]{12}7[0-9a-f]{19}$/.test(hex) ? hex.slice(0, 12) : `0${bits.slice(53)}`
  const variant = (8 + (Number.parseInt(bits.charAt(3), 16) % 4)).toString(16)
  return `${time.slice(0, 8)}-${time.slice(8)}-7${bits.slice(0, 3)}-${variant}${bits.slice(4, 7)}-${bits.slice(7, 19)}`
}
