import {
  addThread,
  type CommentsDoc,
  type CommentThread,
  editComments,
  editMessage,
  makeAnchor,
  readComments,
  removeMessage,
  reopenThread,
  reply,
  resolveAnchor,
  resolveThread,
} from '@pluto-duck/crdt-model'
import { type ErrorBody, toAppError } from '@pluto-duck/crdt-model/errors'
import { AWAY, type Replica } from '../documents/replica.ts'
import type { CommentMark } from '../editor/comment-marks.ts'
import { t } from '../words/index.ts'
import { tellError } from './notify.ts'
import type { OpenPipeline } from './open-pipeline.svelte.ts'

export type Place =
  | { readonly state: 'subject' }
  | { readonly state: 'step'; readonly stepId: string }
  | {
      readonly state: 'at'
      readonly stepId: string
      readonly from: number
      readonly to: number
      readonly quote: string
    }
  | { readonly state: 'orphaned'; readonly quote: string }

export interface About {
  readonly stepId: string
  /** An empty range means the step as a whole. */
  readonly from: number
  readonly to: number
}
type Author = { readonly user_id: string; readonly name: string }

/** The comments on a pipeline: their own document, so they are written and read offline too. */
export class CommentsState {
  threads = $state.raw<readonly CommentThread[]>([])
  /** By the hash of the change that made a message; null while the server has not stored it. */
  authors = $state.raw<Record<string, Author | null>>({})
  error = $state.raw<ErrorBody | null>(null)
  ready = $state(false)
  /** What the next new thread is about; null is the pipeline. */
  about = $state.raw<About | null>(null)
  private readonly open: OpenPipeline
  private replica: Replica<CommentsDoc> | null = null
  private starting: Promise<void> | null = null
  private readonly stops: (() => void)[] = []
  private closed = false

  constructor(open: OpenPipeline) {
    this.open = open
  }

  /** Opens the comments, or tries again what failed: `error` says whether it did. */
  start(): Promise<void> {
    if (this.replica?.openError) return this.replica.openAgain()
    this.starting ??= this.load()
    return this.starting
  }

  /** Who wrote the pending ones may be known by now. */
  async readAuthors(): Promise<void> {
    const hashes = this.threads
      .flatMap(({ messages }) => messages.map(({ change_hash }) => change_hash))
      .filter(hash => hash !== '' && !this.authors[hash])
    if (!this.replica || hashes.length === 0) return
    const read = await this.open.app.call('document.authors', {
      document_id: this.replica.id,
      hashes: [...new Set(hashes)],
    })
    if (read.ok) this.authors = { ...this.authors, ...read.value.authors }
  }

  /** Where a thread's subject is now. */
  placeOf(thread: CommentThread): Place {
    const { anchor } = thread
    if (anchor.kind === 'step' && anchor.to === null) {
      return this.open.step(anchor.step_id)
        ? { state: 'step', stepId: anchor.step_id }
        : { state: 'orphaned', quote: '' }
    }
    if (anchor.kind !== 'step')
      return anchor.kind === 'subject' ? { state: 'subject' } : { state: 'orphaned', quote: anchor.quote }
    const doc = this.open.replica?.doc
    const at = doc ? resolveAnchor(doc, anchor) : ({ state: 'orphaned', quote: anchor.quote } as const)
    return at.state === 'at'
      ? { state: 'at', stepId: anchor.step_id, from: at.from, to: at.to, quote: anchor.quote }
      : { state: 'orphaned', quote: at.quote }
  }

  threadsOn(stepId: string): readonly CommentThread[] {
    return this.threads.filter(
      ({ anchor, resolved }) => !resolved && anchor.kind === 'step' && anchor.step_id === stepId,
    )
  }

  /** The marks of a step's open threads. Reads the definition so that they follow the text. */
  marksOf(stepId: string): CommentMark[] {
    void this.open.definition
    return this.threadsOn(stepId).flatMap(thread => {
      const place = this.placeOf(thread)
      if (place.state !== 'at') return []
      return [
        { threadId: thread.thread_id, from: place.from, to: place.to, label: thread.messages[0]?.body ?? '' },
      ]
    })
  }

  begin(body: string): boolean {
    const doc = this.open.replica?.doc
    const { about } = this
    const made = this.edit('comment', d => {
      const anchor =
        doc && about ? makeAnchor(doc, about.stepId, about.from, about.to) : ({ kind: 'subject' } as const)
      addThread(d, { anchor, body })
    })
    if (made) this.about = null
    return made
  }
  reply(threadId: string, body: string): boolean {
    return this.edit('reply', d => void reply(d, threadId, { body }))
  }
  change(threadId: string, messageId: string, body: string): boolean {
    return this.edit('edit comment', d => editMessage(d, threadId, messageId, body))
  }
  remove(threadId: string, messageId: string): void {
    this.edit('remove comment', d => removeMessage(d, threadId, messageId))
  }
  setResolved(threadId: string, resolved: boolean): void {
    this.edit(resolved ? 'resolve' : 'reopen', d =>
      resolved ? resolveThread(d, threadId) : reopenThread(d, threadId),
    )
  }

  close(): void {
    this.closed = true
    if (this.replica) this.open.app.replicas.leave(this.replica)
    for (const stop of this.stops) stop()
  }

  private edit(message: string, change: (d: CommentsDoc) => void): boolean {
    if (!this.replica) return false
    try {
      this.replica.change(doc => editComments(doc, message, change))
      return true
    } catch (error) {
      tellError(toAppError(error).toBody())
      return false
    }
  }

  private async load(): Promise<void> {
    const { app } = this.open
    const found = await app.call('pipeline.comments', { kind: 'pipeline', id: this.open.id })
    const opened = found.ok ? await app.replicas.open<CommentsDoc>(found.value.document_id) : found
    if (!opened.ok) {
      this.error = opened.error
      this.starting = null
      return
    }
    const replica = opened.value
    if (this.closed) {
      app.replicas.leave(replica)
      return
    }
    const takeError = (error: ErrorBody | null): void => {
      this.error = error && !AWAY.has(error.code) ? error : null
    }
    takeError(replica.openError)
    this.replica = replica
    const show = (): void => {
      this.threads = readComments(replica.doc).threads
      void this.readAuthors()
    }
    this.stops.push(
      replica.onChange(show),
      replica.onOpen(takeError),
      replica.onAppend(state => {
        if (state.state === 'failed' && !AWAY.has(state.error.code)) tellError(state.error, t.edit.notStored)
      }),
    )
    show()
    this.ready = true
  }
}
