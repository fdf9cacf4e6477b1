import * as A from '@automerge/automerge'
import { type LogItem, newId } from '@pluto-duck/crdt-model/protocol'

/** A change of a pipeline as the server's log tells of it. */
export const logItem = (seq: number, documentId: string, bytes: Uint8Array): LogItem => ({
  seq,
  document_id: documentId,
  kind: 'pipeline',
  subject: null,
  base: null,
  hash: A.decodeChange(bytes).hash as string,
  author_id: 'someone',
  device_id: newId(),
  received_at: 1,
  live: false,
  bytes: new Uint8Array(bytes),
})
