import * as Automerge from '@automerge/automerge'
import {
  blameLines,
  ChangeFinder,
  type CommentsDoc,
  type CommentThread,
  commentsDocumentId,
  forkAt,
  type PipelineDoc,
  pipelineFromDoc,
  readComments,
  resolveAnchor,
} from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { OutputOf } from '../contract/index.ts'
import type { Documents } from '../documents/index.ts'
import type { VersionCache } from './version-cache.ts'

export interface BlameNeeds {
  readonly documents: Documents
  readonly versions: VersionCache
  /** The server's records of changes, by hash. */
  recordsOf(
    documentId: string,
    hashes: readonly string[],
  ): Promise<ReadonlyMap<string, { readonly author: { user_id: string; name: string }; readonly at: string }>>
}

/** Who wrote each line of a pipeline's texts, and what was said about it. The authors are the server's record's, never the document's. */
export const blame = async (
  { documents, versions, recordsOf }: BlameNeeds,
  pipelineId: string,
  target: string | null,
  version: number | null,
): Promise<OutputOf<'version.blame'>> => {
  const { base } = documents.info(pipelineId)
  const known = await versions.list(base ?? pipelineId)
  const at = version === null ? null : known.find(one => one.number === version)
  if (at === undefined) throw new AppError('version.not_found', `There is no version ${version}.`)
  const messages = new Map(known.map(one => [one.number, one.message]))
  const comments = commentsDocumentId({
    subject_kind: base === null ? 'pipeline' : 'draft',
    subject_id: pipelineId,
  })
  const threads = documents.has(comments)
    ? await documents.read<readonly CommentThread[], CommentsDoc>(comments, doc => readComments(doc).threads)
    : []
  const found = await documents.read(pipelineId, (doc: Automerge.Doc<PipelineDoc>) => {
    const finder = new ChangeFinder(doc, known)
    const shown = at ? forkAt(doc, at.heads) : doc
    try {
      return textsOf(shown, target).map(text => {
        const begun = threadsIn(shown, text.id, threads)
        const lines = blameLines(shown, text.id, finder)
        let at = 0
        return {
          target: text.name,
          lines: lines.map((line, i) => {
            // What stands at the end of the text belongs to its last line.
            const end = i === lines.length - 1 ? Number.POSITIVE_INFINITY : at + line.length
            const here = begun.filter(one => one.from >= at && one.from < end)
            at = end
            return {
              text: line.text,
              change: line.change,
              version: line.change === null ? null : finder.versionOf(line.change),
              threads: here.map(one => one.thread),
            }
          }),
        }
      })
    } finally {
      if (shown !== doc) Automerge.free(shown)
    }
  })
  const hashes = new Set(found.flatMap(text => text.lines.flatMap(line => line.change ?? [])))
  const records = new Map(await recordsOf(pipelineId, [...hashes]))
  // What a draft builds on is in its pipeline's records.
  if (base !== null)
    for (const [hash, record] of await recordsOf(base, [...hashes])) records.set(hash, record)
  const said = found.flatMap(text => text.lines.flatMap(line => line.threads))
  const sayers = new Set(said.flatMap(thread => thread.messages.map(message => message.change_hash)))
  const saidBy = sayers.size > 0 ? await recordsOf(comments, [...sayers]) : new Map<string, never>()
  return {
    texts: found.map(text => ({
      target: text.target,
      lines: text.lines.map(({ threads, ...line }) => {
        const record = line.change === null ? undefined : records.get(line.change)
        return {
          ...line,
          comments: threads.map(({ thread_id, resolved, messages: all }) => ({
            thread_id,
            resolved,
            messages: all
              .filter(message => !message.deleted)
              .map(({ body, change_hash }) => ({
                author: saidBy.get(change_hash)?.author ?? null,
                at: saidBy.get(change_hash)?.at ?? null,
                body,
              })),
          })),
          author: record?.author ?? null,
          at: record?.at ?? null,
          message: line.version === null ? null : (messages.get(line.version) ?? null),
        }
      }),
    })),
  }
}

/** The threads that stand at a place of this text, with where their range begins now. */
const threadsIn = (
  doc: Automerge.Doc<PipelineDoc>,
  target: string,
  threads: readonly CommentThread[],
): { readonly thread: CommentThread; readonly from: number }[] =>
  threads.flatMap(thread => {
    const { anchor } = thread
    if (anchor.kind !== 'step' && anchor.kind !== 'report') return []
    if ((anchor.kind === 'step' ? anchor.step_id : 'report') !== target) return []
    const place = resolveAnchor(doc, anchor)
    return place.state === 'at' ? [{ thread, from: place.from }] : []
  })

const textsOf = (doc: Automerge.Doc<PipelineDoc>, target: string | null): { name: string; id: string }[] => {
  const { steps } = pipelineFromDoc(doc)
  const all = [...steps.map(({ name, id }) => ({ name, id })), { name: 'report', id: 'report' }]
  if (target === null) return all
  const found = all.filter(text => text.name === target)
  if (found.length > 0) return found
  throw new AppError('step.not_found', `There is no step ${JSON.stringify(target)}.`, {
    hint: `There are: ${all.map(text => text.name).join(', ')}.`,
  })
}
