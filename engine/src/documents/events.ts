import type * as A from '@automerge/automerge'
import type { Subject } from '@pluto-duck/crdt-model/protocol'

export type DocumentEvent =
  /** Changes that are durable here and that views other than `origin` do not have yet. */
  | {
      readonly kind: 'changes'
      readonly documentId: string
      readonly changes: readonly Uint8Array[]
      readonly origin: string
    }
  /** The document was taken back to what the server has: open it again, with a new actor. */
  | { readonly kind: 'reset'; readonly documentId: string; readonly draftId: string | null }
  /** The list of documents or local drafts of a workspace changed. */
  | { readonly kind: 'listed'; readonly workspaceId: string; readonly documentId: string }
  /** Something waits in the outbox. */
  | { readonly kind: 'queued'; readonly workspaceId: string }
  /** The document was found to be unreadable. */
  | { readonly kind: 'unreadable'; readonly workspaceId: string; readonly documentId: string }

export interface NewDocument {
  readonly documentId: string
  readonly workspaceId: string
  readonly kind: 'pipeline' | 'comments'
  readonly subject?: Subject | null
  readonly base?: string | null
  /** Its first changes, as crdt-model's `createPipeline` or `createComments` make them. */
  readonly doc: A.Doc<unknown>
}

export interface Refusal {
  readonly code: string
  readonly reason: string
}
