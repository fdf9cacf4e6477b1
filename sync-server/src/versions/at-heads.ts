import * as Automerge from '@automerge/automerge'
import {
  canonicalJson,
  contentHash,
  kindOf,
  type PipelineDefinition,
  type PipelineDoc,
  pipelineFromDoc,
  pipelineToFiles,
  SCHEMA_VERSION,
} from '@pluto-duck/crdt-model'

/** A document of exactly the changes that lead to `heads`: nothing that came beside them is seen. */
export const atHeads = (
  doc: Automerge.Doc<PipelineDoc>,
  heads: readonly string[],
): Automerge.Doc<PipelineDoc> => {
  if (Automerge.getHeads(doc).every(head => heads.includes(head))) return doc
  const later = new Set(Automerge.getChangesMetaSince(doc, [...heads]).map(change => change.hash))
  const kept = Automerge.getAllChanges(doc).filter(bytes => !later.has(Automerge.decodeChange(bytes).hash))
  return Automerge.applyChanges(Automerge.init<PipelineDoc>(), kept)[0]
}

export type VersionContent =
  | {
      readonly status: 'ok'
      /** Canonical JSON, of which `contentHash` is. */
      readonly definition: string
      readonly contentHash: string
      readonly files: Readonly<Record<string, string>>
    }
  | { readonly status: 'unknown_heads' | 'not_a_pipeline' | 'too_new' }

/** What a version of this document is that is made of a document at its heads. */
export const contentOf = (doc: Automerge.Doc<PipelineDoc>): VersionContent => {
  if (kindOf(doc) !== 'pipeline') return { status: 'not_a_pipeline' }
  // What this server does not know of it would not be in the content.
  if (Number(doc.schema_version) > SCHEMA_VERSION) return { status: 'too_new' }
  return contentOfDefinition(pipelineFromDoc(doc))
}

export const contentOfDefinition = (definition: PipelineDefinition): VersionContent => ({
  status: 'ok',
  definition: canonicalJson(definition),
  contentHash: contentHash(definition),
  files: pipelineToFiles(definition),
})
