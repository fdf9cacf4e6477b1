import type * as Automerge from '@automerge/automerge'
import {
  type CommentAnchor,
  type CommentMessage,
  type Comments,
  type CommentThread,
  type PipelineDoc,
  pipelineFromDoc,
  resolveAnchor,
} from '@pluto-duck/crdt-model'

/** What comments are about; null when it is no pipeline, or not on this machine. */
type About = Automerge.Doc<PipelineDoc> | null

/** Where a thread is now, in words: `on revenue, line 3`. */
export const placeOf = (about: About, anchor: CommentAnchor): string => {
  if (anchor.kind === 'subject') return 'on the whole'
  if (anchor.kind === 'log') return `on line ${anchor.line} of the log`
  if (about === null) return anchor.kind === 'report' ? 'on the report' : 'on a step'
  const definition = pipelineFromDoc(about)
  const step = anchor.kind === 'step' ? definition.steps.find(one => one.id === anchor.step_id) : null
  const name = anchor.kind === 'report' ? 'report' : (step?.name ?? 'a removed step')
  const found = resolveAnchor(about, anchor)
  if (found.state === 'orphaned') return `on ${name}, on text that is gone: ${JSON.stringify(found.quote)}`
  const text = anchor.kind === 'report' ? definition.report : (step?.sql ?? '')
  return `on ${name}, line ${text.slice(0, found.from).split('\n').length}`
}

export interface Byline {
  readonly by: string
  /** UTC, ISO 8601. */
  readonly at: string | null
  /** What else there is to say of the message. */
  readonly note: string | null
}

/** Comments as Markdown for a person to read: what each thread is about, then each message under who wrote it and when. */
export const commentsText = (
  { threads }: Comments,
  facts: {
    readonly title: string
    readonly about: About
    readonly byline: (thread: CommentThread, message: CommentMessage) => Byline
  },
): string => {
  const parts = [`# ${facts.title}`]
  for (const thread of threads) {
    const { anchor, resolved, messages } = thread
    parts.push(`## ${placeOf(facts.about, anchor)}${resolved ? ' (resolved)' : ''}`)
    if ('quote' in anchor && anchor.quote.trim() !== '') parts.push(anchor.quote.replace(/^/gm, '> '))
    for (const message of messages) {
      const { by, at, note } = facts.byline(thread, message)
      const line = [`**${by}**`, ...(at === null ? [] : [minuteOf(at)]), ...(note === null ? [] : [note])]
      parts.push(line.join(', '), message.deleted ? '(removed)' : message.body)
    }
  }
  return `${parts.join('\n\n')}\n`
}

const minuteOf = (at: string): string => `${at.slice(0, 10)} ${at.slice(11, 16)} UTC`
