import * as Automerge from '@automerge/automerge'
import {
  addThread,
  type CommentAnchor,
  type CommentsDoc,
  editComments,
  makeAnchor,
  type PipelineDoc,
  pipelineFromDoc,
  readComments,
} from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { InputOf } from '../contract/index.ts'
import { placeOf } from '../drafts/comments-text.ts'
import type { Session } from './session.ts'

type Subject = InputOf<'pipeline.comments'>

export interface Thread {
  /** What it is about: `revenue, line 3`, or the whole. */
  readonly where: string
  readonly resolved: boolean
  readonly messages: readonly { readonly author: string | null; readonly body: string }[]
}

/** Begins a thread on a subject; with a step it is anchored to the step's text, with a line to that line. */
export const commentOn = async (
  session: Session,
  subject: Subject,
  body: string,
  at: { readonly documentId: string; readonly step: string | null; readonly line: number | null },
): Promise<{ thread_id: string; message_id: string }> => {
  const anchor =
    at.step === null
      ? ({ kind: 'subject' } as const)
      : await anchorAt(session, at.documentId, at.step, at.line)
  const { document_id } = await session.value('pipeline.comments', subject)
  const { bytes, actor } = await session.value('document.open', { document_id })
  const doc = Automerge.load<CommentsDoc>(Buffer.from(bytes, 'base64'), { actor })
  let made = { thread_id: '', message_id: '' }
  const next = editComments(doc, 'comment', d => {
    made = addThread(d, { anchor, body })
  })
  const change = Buffer.from(Automerge.getLastLocalChange(next) as Uint8Array).toString('base64')
  await session.value('document.append', { document_id, changes: [change] })
  return made
}

/** The threads on a subject, with their authors by the server's record; null for what it does not have yet. */
export const readThreads = async (session: Session, subject: Subject): Promise<Thread[]> => {
  const { document_id } = await session.value('pipeline.comments', subject)
  const doc = await open<CommentsDoc>(session, document_id)
  const { threads } = readComments(doc)
  const hashes = threads.flatMap(thread => thread.messages.map(message => message.change_hash))
  if (hashes.length === 0) return []
  const { authors } = await session.value('document.authors', { document_id, hashes })
  const about = await open<PipelineDoc>(session, subject.id)
  return threads.map(thread => ({
    where: placeOf(about, thread.anchor),
    resolved: thread.resolved,
    messages: thread.messages
      .filter(message => !message.deleted)
      .map(message => ({ author: authors[message.change_hash]?.name ?? null, body: message.body })),
  }))
}

const open = async <D>(session: Session, document_id: string): Promise<Automerge.Doc<D>> => {
  const { bytes } = await session.value('document.open', { document_id })
  return Automerge.load<D>(Buffer.from(bytes, 'base64'))
}

const anchorAt = async (
  session: Session,
  documentId: string,
  stepName: string,
  line: number | null,
): Promise<CommentAnchor> => {
  const doc = await open<PipelineDoc>(session, documentId)
  const step = pipelineFromDoc(doc).steps.find(one => one.name === stepName)
  if (!step) throw new AppError('step.not_found', `There is no step ${JSON.stringify(stepName)}.`)
  if (line === null) return makeAnchor(doc, step.id, 0, step.sql.length)
  const lines = step.sql.split('\n')
  const text = lines[line - 1]
  if (text === undefined)
    throw new AppError('usage.invalid', `${stepName} has ${lines.length} lines; there is no line ${line}.`)
  const from = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0)
  return makeAnchor(doc, step.id, from, from + text.length)
}
