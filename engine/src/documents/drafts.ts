import type { State, Statements } from '../state/index.ts'

/** A refused tail, kept whole: the document as its author saw it, and as the server had it. */
export interface LocalDraft {
  readonly draftId: string
  readonly workspaceId: string
  readonly documentId: string
  readonly kind: 'pipeline' | 'comments'
  /** The document's name, or what the comments are about. */
  readonly title: string
  /** The refusal: `permission | invalid | quota | missing_deps | actor`, or `diverged`. */
  readonly code: string
  readonly reason: string
  readonly changes: number
  /** UTC, ISO 8601. */
  readonly createdAt: string
  readonly bytes: Uint8Array
  /** Null when the server had nothing of the document. */
  readonly baseBytes: Uint8Array | null
}
export type LocalDraftEntry = Omit<LocalDraft, 'bytes' | 'baseBytes'>

interface DraftRow {
  draft_id: string
  workspace_id: string
  document_id: string
  kind: 'pipeline' | 'comments'
  title: string
  code: string
  reason: string
  changes: number
  created_at: string
}

const entry = (row: DraftRow): LocalDraftEntry => ({
  draftId: row.draft_id,
  workspaceId: row.workspace_id,
  documentId: row.document_id,
  kind: row.kind,
  title: row.title || (row.kind === 'comments' ? 'Comments' : ''),
  code: row.code,
  reason: row.reason,
  changes: row.changes,
  createdAt: row.created_at,
})
const COLUMNS = 'draft_id, workspace_id, document_id, kind, title, code, reason, changes, created_at'

export const listDrafts = async (state: State, where: { workspaceId?: string; documentId?: string }) =>
  (
    await state.read.all<DraftRow>(
      `select ${COLUMNS} from local_drafts where ($1 is null or workspace_id = $1) and ($2 is null or document_id = $2)
       order by created_at desc, draft_id desc`,
      where.workspaceId ?? null,
      where.documentId ?? null,
    )
  ).map(entry)

export async function readDraft(state: State, draftId: string): Promise<LocalDraft | null> {
  const row = await state.read.first<DraftRow & { bytes: Uint8Array; base_bytes: Uint8Array | null }>(
    'select * from local_drafts where draft_id = $1',
    draftId,
  )
  return row ? { ...entry(row), bytes: row.bytes, baseBytes: row.base_bytes } : null
}

export const putDraft = (tx: Statements, draft: LocalDraft): Promise<void> =>
  tx.run(
    'insert or replace into local_drafts values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)',
    draft.draftId,
    draft.workspaceId,
    draft.documentId,
    draft.kind,
    draft.title,
    draft.code,
    draft.reason,
    draft.changes,
    draft.createdAt,
    draft.bytes,
    draft.baseBytes,
  )

export const removeDraft = (tx: Statements, draftId: string): Promise<void> =>
  tx.run('delete from local_drafts where draft_id = $1', draftId)
