import * as Automerge from '@automerge/automerge'
import type { ChangeOp } from '../documents/object-paths.ts'
import { type CommentsSubject, commentsGenesisHash } from './comments-document.ts'

type Change = Automerge.DecodedChange

type Place =
  | { readonly is: 'root' }
  | { readonly is: 'threads' }
  | { readonly is: 'thread'; readonly thread: string }
  | { readonly is: 'messages'; readonly thread: string }
  | { readonly is: 'message' | 'body'; readonly thread: string; readonly message: string }
  | { readonly is: 'foreign' }

interface Made {
  readonly place: Place
  /** The change that made the object. */
  readonly by: string
}

/** What a change of a comments document does. */
export interface CommentsTouch {
  readonly threads: readonly string[]
  readonly messages: readonly { readonly thread_id: string; readonly message_id: string }[]
  readonly edited: readonly { readonly thread_id: string; readonly message_id: string }[]
  readonly removed: readonly { readonly thread_id: string; readonly message_id: string }[]
  readonly resolved: readonly string[]
  readonly reopened: readonly string[]
}

export type CommentsVerdict =
  | { readonly ok: true; readonly touched: CommentsTouch }
  | { readonly ok: false; readonly code: 'change.permission' | 'change.invalid'; readonly message: string }

/**
 * Which object of a comments document is what, and which change made it. Built from changes in any order that respects their
 * dependencies. An object never moves and its maker never changes, so an index that knows more than a change's past gives
 * the same answers.
 */
export class CommentsIndex {
  readonly #objects = new Map<string, Made>([['_root', { place: { is: 'root' }, by: '' }]])

  /** The index of a document's whole history. */
  static of(doc: Automerge.Doc<unknown>): CommentsIndex {
    const index = new CommentsIndex()
    for (const bytes of Automerge.getAllChanges(doc)) index.add(Automerge.decodeChange(bytes))
    return index
  }

  /** Learns the objects of an admitted change. */
  add(change: Change): void {
    change.ops.forEach((op, at) => {
      if (!op.action.startsWith('make')) return
      const parent = this.#objects.get(op.obj)?.place ?? { is: 'foreign' }
      this.#objects.set(`${change.startOp + at}@${change.actor}`, {
        place: childPlace(parent, op),
        by: change.hash,
      })
    })
  }

  get(objectId: string): Made | undefined {
    return this.#objects.get(objectId)
  }
}

export interface CommentsVerdictInput {
  /** What the document is about, by the server's record. */
  readonly subject: CommentsSubject
  /** Must hold the change's whole causal past; may hold more. The change itself is not added. */
  readonly index: CommentsIndex
  readonly change: Change
  readonly author_id: string
  /** The author of a change of the past, by the server's record. */
  readonly authorOf: (hash: string) => string | undefined
}

/**
 * Whether a change touches only what its author may touch: anybody may begin a thread, add messages, resolve and reopen; a message's body and
 * tombstone belong to who made it; ids, anchors and the subject never change; the first change is the one that every device
 * makes. Depends on the change's causal past alone.
 */
export function commentsChangeVerdict(input: CommentsVerdictInput): CommentsVerdict {
  const { change, author_id, authorOf } = input
  const touched = {
    threads: new Set<string>(),
    messages: new Map<string, MessageRef>(),
    edited: new Map<string, MessageRef>(),
    removed: new Map<string, MessageRef>(),
    resolved: new Set<string>(),
    reopened: new Set<string>(),
  }
  // A second beginning would hide the first one's threads, so there is exactly one for each subject.
  if (change.deps.length === 0 && change.hash !== commentsGenesisHash(input.subject))
    return invalid('It begins the comments in another way than every device does.')
  const makes = new Map<string, Made>()

  for (const [at, op] of change.deps.length === 0 ? [] : change.ops.entries()) {
    const target = makes.get(op.obj) ?? input.index.get(op.obj)
    if (!target) return invalid(`It writes to ${op.obj}, which is not in its past.`)
    const isOwn = target.by === change.hash && op.obj !== '_root'
    const refusal = refuse(op, target, isOwn, id => id !== '' && authorOf(id) === author_id)
    if (refusal) return refusal
    if (op.action.startsWith('make'))
      makes.set(`${change.startOp + at}@${change.actor}`, {
        place: childPlace(target.place, op),
        by: change.hash,
      })
    record(op, target.place, isOwn, touched)
  }
  return {
    ok: true,
    touched: {
      threads: [...touched.threads],
      messages: [...touched.messages.values()],
      edited: [...touched.edited.values()],
      removed: [...touched.removed.values()],
      resolved: [...touched.resolved],
      reopened: [...touched.reopened],
    },
  }
}

interface MessageRef {
  readonly thread_id: string
  readonly message_id: string
}

function childPlace(parent: Place, op: ChangeOp): Place {
  const key = keyOf(op)
  if (key === undefined) return { is: 'foreign' }
  switch (parent.is) {
    case 'root':
      return key === 'threads' && op.action === 'makeMap' ? { is: 'threads' } : { is: 'foreign' }
    case 'threads':
      return op.action === 'makeMap' ? { is: 'thread', thread: key } : { is: 'foreign' }
    case 'thread':
      return key === 'messages' && op.action === 'makeMap'
        ? { is: 'messages', thread: parent.thread }
        : { is: 'foreign' }
    case 'messages':
      return op.action === 'makeMap'
        ? { is: 'message', thread: parent.thread, message: key }
        : { is: 'foreign' }
    case 'message':
      return key === 'body' && op.action === 'makeText' ? { ...parent, is: 'body' } : { is: 'foreign' }
    default:
      return { is: 'foreign' }
  }
}

function refuse(
  op: ChangeOp,
  target: Made,
  isOwn: boolean,
  isAuthors: (hash: string) => boolean,
): CommentsVerdict | undefined {
  const key = keyOf(op)
  const overwrites = op.pred.length > 0
  const { place } = target
  switch (place.is) {
    case 'root':
      return invalid('It rewrites what the comments are about.')
    case 'threads':
    case 'messages':
      return op.action === 'makeMap' && !overwrites
        ? undefined
        : invalid(
            `It ${op.action === 'makeMap' ? 'replaces' : 'deletes'} ${place.is === 'threads' ? 'a thread' : 'a message'}.`,
          )
    case 'thread':
      if (key === 'resolved' && op.action === 'set' && typeof writtenValue(op) === 'boolean') return undefined
      return isOwn && !overwrites && (key === 'anchor' || key === 'messages')
        ? undefined
        : invalid(`It rewrites «${key ?? op.action}» of a thread.`)
    case 'message':
      if (isOwn && !overwrites && (key === 'body' || key === 'deleted')) return undefined
      if (!isAuthors(target.by) && !isOwn) return permission('It changes a message of somebody else.')
      return key === 'deleted' && op.action === 'set' && typeof writtenValue(op) === 'boolean'
        ? undefined
        : invalid(`It rewrites «${key ?? op.action}» of a message.`)
    case 'body':
      if (op.action !== 'set' && op.action !== 'del') return invalid(`It does «${op.action}» in a message.`)
      return isOwn || isAuthors(target.by) ? undefined : permission('It changes a message of somebody else.')
    default:
      return invalid('It writes to what is no part of comments.')
  }
}

function record(
  op: ChangeOp,
  place: Place,
  isOwn: boolean,
  touched: {
    threads: Set<string>
    messages: Map<string, MessageRef>
    edited: Map<string, MessageRef>
    removed: Map<string, MessageRef>
    resolved: Set<string>
    reopened: Set<string>
  },
): void {
  const key = keyOf(op)
  if (place.is === 'threads' && key !== undefined) touched.threads.add(key)
  else if (place.is === 'messages' && key !== undefined)
    touched.messages.set(`${place.thread}/${key}`, { thread_id: place.thread, message_id: key })
  else if (place.is === 'thread' && key === 'resolved' && !isOwn)
    (writtenValue(op) === true ? touched.resolved : touched.reopened).add(place.thread)
  else if ((place.is === 'body' || place.is === 'message') && !isOwn) {
    const ref = { thread_id: place.thread, message_id: place.message }
    const list = place.is === 'message' && writtenValue(op) === true ? touched.removed : touched.edited
    list.set(`${place.thread}/${place.message}`, ref)
  }
}

const keyOf = (op: ChangeOp): string | undefined => {
  const { key } = op as { key?: unknown }
  return typeof key === 'string' ? key : undefined
}
const writtenValue = (op: ChangeOp): unknown => (op as { value?: unknown }).value

const invalid = (message: string): CommentsVerdict => ({ ok: false, code: 'change.invalid', message })
const permission = (message: string): CommentsVerdict => ({ ok: false, code: 'change.permission', message })
