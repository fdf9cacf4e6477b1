import * as Automerge from '@automerge/automerge'
import {
  type CommentMessage,
  type Comments,
  type CommentsDoc,
  type CommentThread,
  type PipelineDoc,
  pipelineToFiles,
  readComments,
} from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { isoTime } from '../clock.ts'
import type { Comparison, OutputOf } from '../contract/index.ts'
import type { Documents, LocalDraft } from '../documents/index.ts'
import { comparedFile, compareSides } from '../versions/compare.ts'
import { readBytes, type Versions } from '../versions/versions.ts'
import { type Byline, commentsText } from './comments-text.ts'

interface Needs {
  readonly documents: Documents
  readonly versions: Versions
  /** The server's records of a document's changes, with names; nothing for one that it does not have. */
  recordsOf(
    documentId: string,
    hashes: readonly string[],
  ): Promise<ReadonlyMap<string, { readonly author: { readonly name: string }; readonly at: string }>>
}

/** The file as which comments are read, compared and exported. */
const FILE = 'comments.md'
/** Seconds: a change may say any time, and later ones are no date. */
const LATEST_S = 8.64e12
/** Drafts of these hold what other people wrote as well. */
const OF_MANY = new Set(['diverged', 'void'])

/** Edits that the server refused, as a person looks at them: of pipelines as their files, of comments as one text. */
export class LocalDrafts {
  readonly #n: Needs

  constructor(needs: Needs) {
    this.#n = needs
  }

  async list(workspaceId: string): Promise<OutputOf<'local_draft.list'>['drafts']> {
    return (await this.#n.documents.drafts(workspaceId)).map(draft => ({
      draft_id: draft.draftId,
      document_id: draft.documentId,
      kind: draft.kind,
      title: draft.title,
      code: draft.code,
      reason: draft.reason,
      changes: draft.changes,
      created_at: draft.createdAt,
    }))
  }

  async files(draftId: string): Promise<Record<string, string>> {
    const draft = await this.#n.documents.draft(draftId)
    if (draft.kind === 'pipeline') return pipelineToFiles(readBytes(draft.bytes))
    return { [FILE]: await this.#text(draft, commentsIn(draft.bytes)) }
  }

  /** Beside what the document is now, or was on the server when it is gone. */
  async compare(draftId: string): Promise<Comparison> {
    const draft = await this.#n.documents.draft(draftId)
    return draft.kind === 'pipeline' ? await this.#comparePipeline(draft) : await this.#compareComments(draft)
  }

  async #comparePipeline({ draftId, documentId, baseBytes }: LocalDraft): Promise<Comparison> {
    const { documents, versions } = this.#n
    const side = { kind: 'local_draft', draft_id: draftId } as const
    if (documents.has(documentId)) return await versions.compare(documentId, { kind: 'working' }, side)
    const none = new Map<string, never>()
    const after = await versions.definitionOf(documentId, side)
    const before = baseBytes
      ? readBytes(baseBytes)
      : { ...after, steps: [], params: {}, sources: {}, report: '', description: '' }
    return compareSides(documentId, { definition: before, facts: none }, { definition: after, facts: none })
  }

  async #compareComments(draft: LocalDraft): Promise<Comparison> {
    const { documents } = this.#n
    const after = commentsIn(draft.bytes)
    const before = documents.has(draft.documentId)
      ? await documents.read<Comments, CommentsDoc>(draft.documentId, readComments)
      : draft.baseBytes && commentsIn(draft.baseBytes)
    const was = before && before.threads.length > 0 ? await this.#text(draft, before) : undefined
    return {
      pipeline_id: draft.documentId,
      files: comparedFile(FILE, was, await this.#text(draft, after)),
      settings: [],
      steps: [],
    }
  }

  async #text(draft: LocalDraft, comments: Comments): Promise<string> {
    const { documents } = this.#n
    const byline = await this.#bylines(draft, comments)
    const inWords = (about: Automerge.Doc<PipelineDoc> | null): string =>
      commentsText(comments, { title: draft.title, about, byline })
    const { subject_id } = comments
    if (!documents.has(subject_id) || documents.info(subject_id).kind !== 'pipeline') return inWords(null)
    try {
      return await documents.read(subject_id, inWords)
    } catch (error) {
      // What it is about cannot be read now: its own quotes say enough.
      if (error instanceof AppError) return inWords(null)
      throw error
    }
  }

  /** Who wrote each message and when, by the server's record; and what of it the server does not have. */
  async #bylines(
    draft: LocalDraft,
    { threads }: Comments,
  ): Promise<(thread: CommentThread, message: CommentMessage) => Byline> {
    const hashes = threads.flatMap(thread => thread.messages.map(message => message.change_hash))
    const records = await this.#n.recordsOf(draft.documentId, hashes)
    const times = timesIn(draft.bytes)
    const there = new Map<string, CommentMessage>()
    for (const { thread_id, messages } of draft.baseBytes ? commentsIn(draft.baseBytes).threads : [])
      for (const message of messages) there.set(`${thread_id}/${message.message_id}`, message)
    return ({ thread_id }, message) => {
      const base = there.get(`${thread_id}/${message.message_id}`)
      const record = records.get(message.change_hash)
      const mine = !record && !base && !OF_MANY.has(draft.code)
      return {
        by: record?.author.name ?? (mine ? 'You' : 'Author not known here'),
        at: record?.at ?? (mine ? (times.get(message.change_hash) ?? draft.createdAt) : null),
        note: noteOf(message, base),
      }
    }
  }
}

/** What of a message the server does not have; null when it has all. */
const noteOf = (message: CommentMessage, base: CommentMessage | undefined): string | null => {
  if (!base) return 'not on the server'
  if (message.deleted !== base.deleted) return 'removed here, not on the server'
  return message.body === base.body ? null : 'changed here, not on the server'
}

const commentsIn = (bytes: Uint8Array): Comments => reading(bytes, readComments)

/** When each change was made, by the clock of the machine that made it; changes without a time are left out. */
const timesIn = (bytes: Uint8Array): Map<string, string> =>
  reading(
    bytes,
    doc =>
      new Map(
        Automerge.getChangesMetaSince(doc, []).flatMap(({ hash, time }) =>
          time > 0 && time < LATEST_S ? [[hash, isoTime(time * 1000)] as const] : [],
        ),
      ),
  )

const reading = <T>(bytes: Uint8Array, look: (doc: Automerge.Doc<CommentsDoc>) => T): T => {
  const doc = Automerge.load<CommentsDoc>(bytes)
  try {
    return look(doc)
  } finally {
    Automerge.free(doc)
  }
}
