export { type DocumentEvent, Documents, type NewDocument, type Refusal } from './documents.ts'
export type { LocalDraft, LocalDraftEntry } from './drafts.ts'
export type { DocumentInfo } from './rows.ts'
export type { Schema } from './schema.ts'
