import * as A from '@automerge/automerge'
import { newId } from '@pluto-duck/crdt-model/protocol'
import type { DocumentStore, Rows } from './document-store.ts'
import { type LocalDraft, putDraft } from './drafts.ts'
import { ownChanges } from './forks.ts'
import { readDocument, removeFromOutbox } from './rows.ts'

/**
 * A document that leaves the list, with what waits of it, as a local draft of code `diverged`; a draft as one of its pipeline. Runs inside
 * the serial, with everything on disk; in memory it is gone at once, and back when the transaction fails.
 */
export async function setAside(
  store: DocumentStore,
  documentId: string,
  reason: string,
): Promise<{ readonly draft: LocalDraft; readonly rows: Rows }> {
  const info = store.info(documentId)
  const entry = await store.load(documentId)
  const { base } = info
  const own = base === null ? null : ownChanges(await readDocument(store.state, documentId))
  const draft: LocalDraft = {
    draftId: newId(),
    workspaceId: info.workspaceId,
    documentId: base ?? documentId,
    kind: info.kind,
    title: store.localDraftTitle(info),
    code: 'diverged',
    reason,
    changes: own === null ? A.getChangesMetaSince(entry.doc, []).length : own.length,
    createdAt: store.now(),
    bytes: A.save(entry.doc),
    baseBytes: base === null ? null : await store.forkPoint(documentId, base),
  }
  const waiting = store.outbox.of(documentId)
  store.forget(entry)
  store.infos.delete(documentId)
  store.outbox.drop(documentId)
  return {
    draft,
    rows: {
      work: async tx => {
        await putDraft(tx, draft)
        await removeFromOutbox(tx, [...waiting.values()])
        for (const table of ['documents', 'snapshots', 'changes', 'records'])
          await tx.run(`delete from ${table} where document_id = $1`, documentId)
      },
      done: () => store.outbox.dropRecords(documentId),
      failed: () => {
        store.infos.set(documentId, info)
        for (const [hash, ord] of waiting) store.outbox.of(documentId).set(hash, ord)
      },
    },
  }
}
