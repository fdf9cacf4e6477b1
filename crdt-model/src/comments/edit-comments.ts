import * as Automerge from '@automerge/automerge'
import { v7 } from 'uuid'
import { canonicalJson } from '../canonical/canonical.ts'
import { type CommentAnchor, commentAnchor } from '../documents/anchors.ts'
import { writeText } from '../documents/long-texts.ts'
import { isMap, register } from '../documents/registers.ts'
import { AppError } from '../errors/index.ts'
import type { CommentsDoc, MessageDoc, ThreadDoc } from './comments-document.ts'

/** The longest message, in UTF-16 code units. */
export const MESSAGE_LIMIT = 20_000

/**
 * Opens one change of a comments document. Throws `document.invalid` from its operations for a thread or message that
 * is not there, an empty or too long body or a wrong anchor; nothing of the change is then kept.
 */
export function editComments<D extends CommentsDoc>(
  doc: Automerge.Doc<D>,
  message: string,
  edit: (d: CommentsDoc) => void,
): Automerge.Doc<D> {
  return Automerge.change(doc, { message }, d => edit(d as unknown as CommentsDoc))
}

export interface NewThread {
  readonly anchor: CommentAnchor
  readonly body: string
  /** Defaults: new UUIDs v7. */
  readonly thread_id?: string
  readonly message_id?: string
}

/** Begins a thread with its first message. */
export function addThread(d: CommentsDoc, thread: NewThread): { thread_id: string; message_id: string } {
  const { thread_id = v7(), message_id = v7() } = thread
  const anchor = commentAnchor.safeParse(thread.anchor)
  if (!anchor.success) throw invalid('The anchor of the comment is invalid.')
  if (Object.hasOwn(d.threads, thread_id)) throw invalid(`There is a thread ${thread_id} already.`)
  d.threads[thread_id] = {
    anchor: register(canonicalJson(anchor.data)),
    resolved: false,
    messages: { [message_id]: { deleted: false, body: checkedBody(thread.body) } },
  }
  return { thread_id, message_id }
}

/** Adds a message to a thread and returns its id. */
export function reply(
  d: CommentsDoc,
  threadId: string,
  message: { readonly body: string; readonly message_id?: string },
): string {
  const id = message.message_id ?? v7()
  const { messages } = threadOf(d, threadId)
  if (Object.hasOwn(messages, id)) throw invalid(`There is a message ${id} already.`)
  messages[id] = { deleted: false, body: checkedBody(message.body) }
  return id
}

/** Changes one's own message: the server refuses a change to another's. */
export function editMessage(d: CommentsDoc, threadId: string, messageId: string, body: string): void {
  messageOf(d, threadId, messageId)
  writeText(d, ['threads', threadId, 'messages', messageId, 'body'], checkedBody(body))
}

/** A tombstone on one's own message. */
export function removeMessage(d: CommentsDoc, threadId: string, messageId: string): void {
  const message = messageOf(d, threadId, messageId)
  if (!message.deleted) message.deleted = true
}

export function resolveThread(d: CommentsDoc, threadId: string): void {
  const thread = threadOf(d, threadId)
  if (!thread.resolved) thread.resolved = true
}

export function reopenThread(d: CommentsDoc, threadId: string): void {
  const thread = threadOf(d, threadId)
  if (thread.resolved) thread.resolved = false
}

function checkedBody(body: string): string {
  if (body.trim() === '') throw invalid('The message is empty.')
  if (body.length > MESSAGE_LIMIT) throw invalid(`The message is longer than ${MESSAGE_LIMIT} characters.`)
  return body.toWellFormed()
}

function threadOf(d: CommentsDoc, threadId: string): ThreadDoc {
  const thread: unknown = Object.hasOwn(d.threads, threadId) ? d.threads[threadId] : undefined
  if (!isMap(thread)) throw invalid(`There is no thread ${threadId}.`)
  return thread as unknown as ThreadDoc
}

function messageOf(d: CommentsDoc, threadId: string, messageId: string): MessageDoc {
  const { messages } = threadOf(d, threadId)
  const message: unknown = Object.hasOwn(messages, messageId) ? messages[messageId] : undefined
  if (!isMap(message)) throw invalid(`There is no message ${messageId}.`)
  return message as unknown as MessageDoc
}

const invalid = (message: string): AppError =>
  new AppError('document.invalid', message, { hint: 'Look at the comments again, then try once more.' })
