import * as Automerge from '@automerge/automerge'
import { type CommentAnchor, commentAnchor } from '../documents/anchors.ts'
import { isMap, stringOf } from '../documents/registers.ts'
import type { SubjectKind } from '../documents/schema.ts'
import type { CommentsDoc } from './comments-document.ts'
import { type Mention, mentionsOf } from './mentions.ts'

export interface CommentMessage {
  readonly message_id: string
  readonly body: string
  readonly deleted: boolean
  readonly mentions: readonly Mention[]
  /** The change that made the message: the server's record of it says who wrote it and when. */
  readonly change_hash: string
}

export interface CommentThread {
  readonly thread_id: string
  readonly anchor: CommentAnchor
  readonly resolved: boolean
  readonly messages: readonly CommentMessage[]
}

export interface Comments {
  readonly subject_kind: SubjectKind
  readonly subject_id: string
  readonly threads: readonly CommentThread[]
}

/**
 * The comments as they are shown: threads and messages in the order in which they were made as far as their authors knew of
 * each other, the same on every device. Removed messages stay as `deleted` with an empty body. A message that took another's id at the same time
 * does not hide it: both are shown.
 */
export function readComments(doc: Automerge.Doc<CommentsDoc>): Comments {
  const hashOf = changeFinder(doc)
  const threads = entries(doc.threads).map(({ id, value, made }) => ({
    made,
    thread: {
      thread_id: id,
      anchor: readAnchor(value.anchor),
      resolved: value.resolved === true,
      messages: entries(value.messages)
        .sort(byMaking)
        .map(message => readMessage(message, hashOf)),
    },
  }))
  return {
    subject_kind: (stringOf(doc.subject_kind) ?? 'pipeline') as SubjectKind,
    subject_id: stringOf(doc.subject_id) ?? '',
    threads: threads.sort(byMaking).map(({ thread }) => thread),
  }
}

/** For each message the hash of the change that made it: with the server's record of that change, its author. */
export function authorsOf(doc: Automerge.Doc<CommentsDoc>): Map<string, string> {
  const hashes = new Map<string, string>()
  for (const thread of readComments(doc).threads)
    for (const message of thread.messages) hashes.set(message.message_id, message.change_hash)
  return hashes
}

interface Entry {
  readonly id: string
  readonly value: Record<string, unknown>
  /** The op that made it. */
  readonly made: { readonly counter: number; readonly actor: string }
}

function entries(map: unknown): Entry[] {
  if (!isMap(map)) return []
  return Object.keys(map).flatMap(key => {
    const winner = map[key]
    const conflicts = Automerge.getConflicts(map, key)
    if (!conflicts) return isMap(winner) ? [entry(key, winner, Automerge.getObjectId(winner) ?? '')] : []
    return Object.entries(conflicts).flatMap(([op, value]) =>
      isMap(value) ? [entry(value === winner ? key : `${key}#${op}`, value, op)] : [],
    )
  })
}

function entry(id: string, value: Record<string, unknown>, op: string): Entry {
  const [counter = '', actor = ''] = op.split('@')
  return { id, value, made: { counter: Number(counter), actor } }
}

const byMaking = (a: { made: Entry['made'] }, b: { made: Entry['made'] }): number =>
  a.made.counter - b.made.counter || (a.made.actor < b.made.actor ? -1 : 1)

function readMessage({ id, value, made }: Entry, hashOf: (made: Entry['made']) => string): CommentMessage {
  const deleted = value.deleted === true
  const body = deleted ? '' : (stringOf(value.body) ?? '')
  return { message_id: id, body, deleted, mentions: mentionsOf(body), change_hash: hashOf(made) }
}

function readAnchor(value: unknown): CommentAnchor {
  try {
    const parsed = commentAnchor.safeParse(JSON.parse(stringOf(value) ?? ''))
    if (parsed.success) return parsed.data
  } catch {
    // Another program wrote it: the thread is shown on the subject as a whole.
  }
  return { kind: 'subject' }
}

/** Finds the change of an op: actor and counter name it. */
function changeFinder(doc: Automerge.Doc<unknown>): (made: Entry['made']) => string {
  const byActor = new Map<string, { startOp: number; maxOp: number; hash: string }[]>()
  for (const change of Automerge.getChangesMetaSince(doc, [])) {
    const list = byActor.get(change.actor)
    if (list) list.push(change)
    else byActor.set(change.actor, [change])
  }
  return ({ actor, counter }) =>
    byActor.get(actor)?.find(change => change.startOp <= counter && counter <= change.maxOp)?.hash ?? ''
}
