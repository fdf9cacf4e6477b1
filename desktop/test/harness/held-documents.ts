import * as Automerge from '@automerge/automerge'
import {
  commentsDocumentId,
  createComments,
  type PipelineDefinition,
  type PipelineDoc,
  pipelineFromDoc,
} from '@pluto-duck/crdt-model'
import { fromBase64, toBase64 } from '../../renderer/documents/base64.ts'
import type { Handlers, Memory } from './memory.ts'
import { documentOf, idOf, type World } from './scenes.ts'

type Documents = Map<string, Automerge.Doc<unknown>>

export const documentsOf = (world: World): Documents =>
  new Map(world.pipelines.map(({ id, init }) => [id, documentOf(init) as Automerge.Doc<unknown>]))

export const definitionOf = (documents: Documents, id: string): PipelineDefinition =>
  pipelineFromDoc(documents.get(id) as Automerge.Doc<PipelineDoc>)

/** Real documents: what is typed is kept until the page is loaded again. */
export function documentHandlers(
  documents: Documents,
  { tell, world }: Pick<Memory, 'tell' | 'world'>,
): Handlers {
  const viewer = world.scene === 'viewer'
  return {
    'document.open': ({ document_id }) => ({
      document_id,
      bytes: toBase64(Automerge.save(documents.get(document_id)!)),
      actor: crypto.randomUUID().replaceAll('-', ''),
      read_only: viewer,
      read_only_reason: viewer
        ? 'You are a viewer of this workspace: an edit is kept as a private draft. Ask an owner for the editor role.'
        : null,
    }),
    'document.append': ({ document_id, changes }) => {
      const [doc] = Automerge.applyChanges(documents.get(document_id)!, changes.map(fromBase64))
      documents.set(document_id, doc)
      return { heads: Automerge.getHeads(doc) }
    },
    'document.authors': ({ hashes }) => ({ authors: Object.fromEntries(hashes.map(hash => [hash, null])) }),
    'document.presence': () => {
      setTimeout(
        () =>
          tell('document.presence', {
            document_id: idOf(1),
            device_id: idOf(8),
            name: '김보라',
            at: 'step:s1:40',
            left: false,
          }),
        200,
      )
      return { ok: true }
    },
    'pipeline.comments': ({ id }) => {
      const subject = { subject_kind: 'pipeline' as const, subject_id: id }
      const document_id = commentsDocumentId(subject)
      if (!documents.has(document_id))
        documents.set(document_id, createComments(subject) as Automerge.Doc<unknown>)
      return { document_id }
    },
  }
}
