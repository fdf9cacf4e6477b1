import { z } from 'zod'
import { done, none } from './inputs.ts'
import { method } from './method.ts'
import { base64, documentEntry } from './state.ts'
import { author, hash, id } from './wire.ts'

/** Documents as bytes: a view keeps its own replica. */
export const documentMethods = {
  'document.list': method({
    summary: 'Documents of the workspace',
    input: none,
    output: z.strictObject({ documents: z.array(documentEntry) }),
  }),
  /** The UI keeps its own replica: it takes the bytes, makes changes with its own actor and hands each one back. */
  'document.open': method({
    summary: 'A document’s bytes, and an actor id to write with',
    input: z.strictObject({ document_id: id }),
    output: z.strictObject({
      document_id: id,
      bytes: base64,
      /** A fresh actor for this view; never used by anybody else. */
      actor: z.string().regex(/^[0-9a-f]{32,}$/),
      read_only: z.boolean(),
      read_only_reason: z.string().nullable(),
    }),
  }),
  'document.append': method({
    summary: 'Store changes; answers when they are durable on this machine',
    input: z.strictObject({ document_id: id, changes: z.array(base64).min(1).max(1000) }),
    output: z.strictObject({ heads: z.array(hash) }),
  }),
  'document.authors': method({
    summary: 'Who wrote which change, by the server’s record; null while it is not stored yet',
    input: z.strictObject({ document_id: id, hashes: z.array(hash).max(10_000) }),
    output: z.strictObject({ authors: z.record(hash, author.nullable()) }),
  }),
  'document.presence': method({
    summary: 'Say where you are',
    input: z.strictObject({ document_id: id.nullable(), at: z.string().max(500).nullable() }),
    output: done,
  }),
} as const
