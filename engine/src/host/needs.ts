import type { SyncState } from '../contract/index.ts'
import type { Documents } from '../documents/index.ts'
import type { Marks, Publisher } from '../publish/index.ts'
import type { Overviews } from './overviews.ts'

interface NeedsParts {
  readonly documents: Documents
  readonly overviews: Overviews
  readonly marks: Marks
  readonly publisher: Publisher
}

/** What of a workspace waits for a person: marks, refused edits, publishes, documents that differ from the server's (`diverged`). */
export async function needsOf(
  { documents, overviews: all, marks: reviews, publisher }: NeedsParts,
  workspaceId: string,
  diverged: readonly string[],
): Promise<SyncState['needs']> {
  const needs: SyncState['needs'] = []
  const pipelines = documents
    .list(workspaceId)
    .filter(({ kind, base }) => kind === 'pipeline' && base === null)
  const overviews = await all.all(pipelines)
  const reviewed = await reviews.reviewed()
  for (const info of pipelines) {
    const marks = overviews.get(info.documentId)?.marks.filter(({ id }) => !reviewed.has(id)) ?? []
    if (marks.length === 0) continue
    const steps = [...new Set(marks.map(mark => mark.label))]
    needs.push({ kind: 'marks', pipeline_id: info.documentId, pipeline: info.title, steps })
  }
  for (const draft of await documents.drafts(workspaceId)) {
    needs.push({
      kind: 'refused',
      draft_id: draft.draftId,
      document_id: draft.documentId,
      title: draft.title,
      reason: draft.reason,
    })
  }
  for (const { pipelineId, reason } of publisher.needs(workspaceId)) {
    const pipeline = documents.has(pipelineId) ? documents.info(pipelineId).title : pipelineId
    needs.push({ kind: 'publish', pipeline_id: pipelineId, pipeline, reason })
  }
  for (const documentId of diverged) {
    needs.push({
      kind: 'diverged',
      document_id: documentId,
      title: documents.info(documentId).title,
    })
  }
  return needs
}
