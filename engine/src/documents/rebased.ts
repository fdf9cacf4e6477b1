import * as A from '@automerge/automerge'
import {
  addThread,
  type CommentsDoc,
  editComments,
  MESSAGE_LIMIT,
  makeEqualTo,
  type PipelineDoc,
  pipelineFromDoc,
  readComments,
  rebaseDefinition,
  reply,
} from '@pluto-duck/crdt-model'
import type { DocumentInfo } from './rows.ts'

type Doc = A.Doc<unknown>

/** What somebody wrote: a document before and after it. */
export interface Edits {
  readonly base: Doc
  readonly mine: Doc
}

/**
 * Edits that were made on a history which was erased, as edits of the document as it is now: nothing of the old history is in the
 * bytes. Null when nothing of them is left.
 */
export function rebased(kind: DocumentInfo['kind'], edits: Edits, now: Doc): Uint8Array | null {
  const next = kind === 'pipeline' ? rebasedPipeline(edits, now) : rebasedComments(edits, now)
  const same = A.getHeads(next).join() === A.getHeads(now).join()
  const bytes = same ? null : A.save(next)
  A.free(next)
  return bytes
}

function rebasedPipeline({ base, mine }: Edits, now: Doc): Doc {
  const theirs = pipelineFromDoc(now as A.Doc<PipelineDoc>)
  const wanted = rebaseDefinition(
    { base: base as A.Doc<PipelineDoc>, mine: mine as A.Doc<PipelineDoc> },
    theirs,
  )
  return makeEqualTo(A.clone(now) as A.Doc<PipelineDoc>, wanted, 'edits that waited')
}

/** New messages in threads of their own: what they answered is gone. Of an edited message the letters that were added. */
function rebasedComments({ base, mine }: Edits, now: Doc): Doc {
  const read = (doc: Doc) => readComments(doc as A.Doc<CommentsDoc>).threads
  const before = new Map(read(base).map(thread => [thread.thread_id, thread]))
  const bodies = new Map(
    read(base).flatMap(thread => thread.messages.map(({ message_id, body }) => [message_id, body] as const)),
  )
  const there = new Set(read(now).flatMap(thread => thread.messages.map(one => one.message_id)))
  let next = A.clone(now) as A.Doc<CommentsDoc>
  for (const thread of read(mine)) {
    const texts = thread.messages
      .filter(message => !message.deleted && !there.has(message.message_id))
      .map(({ message_id, body }) => added(bodies.get(message_id) ?? '', body).slice(0, MESSAGE_LIMIT))
      .filter(text => text.trim() !== '')
    const [first, ...more] = texts
    if (first === undefined) continue
    // The anchor of another's thread quotes what that was about.
    const anchor = before.has(thread.thread_id) ? ({ kind: 'subject' } as const) : thread.anchor
    next = editComments(next, 'comments that waited', d => {
      const { thread_id } = addThread(d, { anchor, body: first })
      for (const body of more) reply(d, thread_id, { body })
    })
  }
  return next
}

/** The letters of `after` that are none of `before`. */
function added(before: string, after: string): string {
  if (before === '') return after
  const base = A.from({ text: before })
  const mine = A.change(A.clone(base), d => A.updateText(d, ['text'], after))
  const empty = A.change(base, d => A.splice(d, ['text'], 0, before.length))
  const merged = A.merge(empty, mine)
  const { text } = merged
  for (const doc of [mine, merged]) A.free(doc)
  return text
}
