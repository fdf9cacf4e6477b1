import * as Automerge from '@automerge/automerge'
import { AppError } from '../errors/index.ts'
import type { DocumentOptions } from './pipeline-document.ts'

/**
 * A document of exactly the changes that lead to `heads`, with an actor of its own. Throws `document.corrupt` when the document
 * does not have them.
 */
export function forkAt<D>(
  doc: Automerge.Doc<D>,
  heads: readonly string[],
  options: DocumentOptions = {},
): Automerge.Doc<D> {
  if (!Automerge.hasHeads(doc, [...heads]))
    throw new AppError('document.corrupt', 'The document does not have the changes that it is read at.')
  const fork = Automerge.getBackend(doc).fork(undefined, [...heads])
  const bytes = fork.save()
  fork.free()
  return Automerge.load<D>(bytes, options.actor === undefined ? {} : { actor: options.actor })
}

/**
 * A draft of a document: the document at `heads` and one empty change on top, whose message is the draft's title. A draft is
 * its own changes, of which that one is the first; what they build on is the base's, so the log holds no history twice.
 */
export function forkDraft<D>(
  doc: Automerge.Doc<D>,
  heads: readonly string[],
  title: string,
  options: DocumentOptions = {},
): Automerge.Doc<D> {
  return Automerge.emptyChange(forkAt(doc, heads, options), { message: title.slice(0, MAX_TITLE) })
}

/** Characters of a draft's title. */
export const MAX_TITLE = 200

/** The title that a draft's first change carries. */
export const draftTitle = (first: Uint8Array): string =>
  (Automerge.decodeChange(first).message ?? '').slice(0, MAX_TITLE)

/**
 * A draft of its base and its own changes. The base may have gone on since: the draft sees of it what its own changes build on,
 * nothing else. Neither given document is touched. Throws `document.corrupt` when changes are missing.
 */
export function composeDraft<D>(
  base: Automerge.Doc<D>,
  own: readonly Uint8Array[],
  options: DocumentOptions = {},
): Automerge.Doc<D> {
  const [whole] = Automerge.applyChanges(Automerge.clone(base), [...own])
  try {
    if (Automerge.getMissingDeps(whole, []).length > 0)
      throw new AppError('document.corrupt', 'The draft builds on changes that its base does not have.')
    return forkAt(whole, headsOfOwn(own), options)
  } finally {
    Automerge.free(whole)
  }
}

/** Which of a draft's own changes no other of them depends on: the draft's heads. Sorted. */
export function headsOfOwn(own: readonly Uint8Array[]): string[] {
  const decoded = own.map(bytes => Automerge.decodeChange(bytes))
  const heads = new Set(decoded.map(change => change.hash))
  for (const { deps } of decoded) for (const dep of deps) heads.delete(dep)
  return [...heads].sort()
}

/** The changes in bytes that hold nothing but changes one behind the other: what the server sends of a draft. */
export function splitChanges(bytes: Uint8Array): Uint8Array[] {
  const changes: Uint8Array[] = []
  for (let at = 0; at < bytes.length; ) {
    // Magic (4 bytes), checksum (4), type (1), length (ULEB), content.
    let end = at + 9
    let length = 0
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[end++]
      if (byte === undefined || shift > 2 ** 42) throw notChanges()
      length += (byte & 0x7f) * shift
      if (byte < 0x80) break
    }
    const type = bytes[at + 8]
    end += length
    if ((type !== 1 && type !== 2) || end > bytes.length) throw notChanges()
    changes.push(bytes.subarray(at, end))
    at = end
  }
  return changes
}

const notChanges = () => new AppError('document.corrupt', 'The bytes of the draft are no changes.')
