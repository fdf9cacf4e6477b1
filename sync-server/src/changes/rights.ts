import { decodeChange } from '@automerge/automerge'
import {
  commentsChangeVerdict,
  commentsDocumentId,
  commentsGenesisHash,
  upgradeActor,
} from '@pluto-duck/crdt-model'
import { DOCUMENT_WRITERS, LIMITS, type Subject } from '@pluto-duck/crdt-model/protocol'
import type { DecodedChange } from './admission/decode.ts'
import type { Refusal } from './admission/limits.ts'
import type { OpenDocument } from './open-documents.ts'
import type { Push, PushedChange } from './push.ts'

/** Whether this person may write to this document, and it is the document that the push says it is. */
export function checkRight(push: Push, item: PushedChange, document: OpenDocument | null): Refusal | null {
  if (item.base !== null && item.kind !== 'pipeline')
    return { code: 'invalid', reason: 'a draft is of a pipeline' }
  if (document && document.base !== item.base)
    return { code: 'invalid', reason: 'the document is a draft of another one, or none' }
  if (document?.settled) return { code: 'invalid', reason: 'the draft was merged or closed' }
  if (document?.corrupt) return { code: 'invalid', reason: 'the document is read-only until it is mended' }
  if (document && document.kind !== item.kind)
    return { code: 'invalid', reason: 'the document is of another kind' }
  const subject = document ? document.subject : item.subject
  if (item.subject?.kind !== subject?.kind || item.subject?.id !== subject?.id)
    return { code: 'invalid', reason: 'the document is about another subject' }
  if ((item.kind === 'comments') !== (item.subject !== null))
    return { code: 'invalid', reason: 'comments have a subject, and nothing else has' }
  if (item.subject && item.documentId !== commentsDocumentId(aboutOf(item.subject)))
    return { code: 'invalid', reason: 'the comments on one subject are one document' }
  if (!DOCUMENT_WRITERS[item.kind].includes(push.role))
    return { code: 'permission', reason: `the role ${push.role} may not write to a document of this kind` }
  return null
}

/** A message of the greatest length, and some: they are decoded once more for their verdict. */
const COMMENT_OPS = 2 * LIMITS.messageChars

const aboutOf = (subject: Subject) => ({ subject_kind: subject.kind, subject_id: subject.id })

/** The first change of comments is the same bytes on every device, so its actor belongs to none. */
export const isGenesis = (item: PushedChange, change: DecodedChange): boolean =>
  item.subject !== null &&
  change.deps.length === 0 &&
  change.hash === commentsGenesisHash(aboutOf(item.subject))

/**
 * An upgrade of a document's schema is the same bytes on every device, so its actor belongs to none: built on the document's first
 * change, or on the upgrade before, and on nothing else.
 */
export const isUpgrade = (document: OpenDocument, change: DecodedChange): boolean => {
  const first = document.index.firstHash
  const [dep] = change.deps
  if (first === null || change.deps.length !== 1 || !(change.seq > 1 || dep === first)) return false
  const known = upgradeActors.get(document)
  const actor = known?.first === first ? known.actor : upgradeActor(first)
  if (known?.actor !== actor) upgradeActors.set(document, { first, actor })
  return change.actors[0] === actor
}

/** The actor of each open document's upgrades: it is asked for with each change. */
const upgradeActors = new WeakMap<OpenDocument, { readonly first: string; readonly actor: string }>()

/** In comments, whether the change touches only what its author may touch. The structure was checked before. */
export function checkComments(
  push: Push,
  document: OpenDocument,
  decoded: DecodedChange,
  bytes: Uint8Array,
): Refusal | null {
  if (!document.comments || !document.subject) return null
  if (decoded.ops.length > COMMENT_OPS)
    return { code: 'quota', reason: `a change of comments has at most ${COMMENT_OPS} operations` }
  const verdict = commentsChangeVerdict({
    subject: aboutOf(document.subject),
    index: document.comments,
    change: decodeChange(bytes),
    author_id: push.userId,
    authorOf: hash => document.authors.get(hash),
  })
  if (verdict.ok) return null
  return { code: verdict.code === 'change.permission' ? 'permission' : 'invalid', reason: verdict.message }
}
