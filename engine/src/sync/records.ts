import * as A from '@automerge/automerge'
import { changeRoutes } from '@pluto-duck/crdt-model/protocol'
import type { Documents } from '../documents/index.ts'
import type { State } from '../state/index.ts'
import type { WireClient } from './wire-client.ts'

/**
 * Fetches the server's records (who, when, live) of a document whose changes came by snapshot, unless they are all here. Marks
 * and authors are told from them. Answers whether any were missing; `server.unreachable` leaves things as they are.
 */
export async function fetchRecords(
  parts: { readonly state: State; readonly documents: Documents; readonly client: WireClient },
  documentId: string,
): Promise<boolean> {
  const { state, documents, client } = parts
  const rows = await state.read.all<{ hash: string }>(
    'select hash from records where document_id = $1',
    documentId,
  )
  const here = new Set(rows.map(row => row.hash))
  const waiting = documents.unacknowledged(documentId)
  const missing = await documents.read(documentId, doc =>
    A.getChangesMetaSince(doc, []).some(meta => !here.has(meta.hash) && !waiting.has(meta.hash)),
  )
  if (!missing) return false
  const { value } = await client.call(changeRoutes.records, {
    params: { workspace_id: documents.info(documentId).workspaceId, document_id: documentId },
    query: {},
  })
  const added = await state.write(async tx => {
    // Live events may have brought some of them meanwhile.
    const now = await tx.all<{ hash: string }>('select hash from records where document_id = $1', documentId)
    const known = new Set(now.map(row => row.hash))
    const fresh = value.records.filter(record => !known.has(record.hash))
    await tx.insert(
      'records',
      fresh.map(record => [
        documentId,
        record.hash,
        record.seq,
        Date.parse(record.received_at),
        record.live,
        record.author_id,
      ]),
    )
    return fresh.length
  })
  documents.noteRecords(documentId, added)
  return true
}
