import * as Automerge from '@automerge/automerge'
import type { z } from 'zod'
import { AppError } from '../errors/index.ts'
import { type PipelineDefinition, pipelineDefinition } from './definition.ts'
import { valid } from './edit-pipeline.ts'
import { changeWhole } from './long-texts.ts'
import { writeNewDocument } from './make-equal.ts'
import { stringOf } from './registers.ts'
import { type PipelineDoc, SCHEMA_VERSION } from './schema.ts'

export interface DocumentOptions {
  /** Hex, 32 characters. Default: a random one. */
  readonly actor?: string
}

export type PipelineInit = Partial<Omit<z.input<typeof pipelineDefinition>, 'name'>> & {
  readonly name: string
}

/** A new pipeline, in one change (more where its texts are longer than one takes). `init` is a definition with everything but the name optional; invalid: `document.invalid`. */
export function createPipeline(
  init: PipelineInit,
  options: DocumentOptions = {},
): Automerge.Doc<PipelineDoc> {
  const definition: PipelineDefinition = valid(
    pipelineDefinition,
    { ...init, schema_version: SCHEMA_VERSION },
    'pipeline',
  )
  return changeWhole(
    Automerge.init<PipelineDoc>(options.actor === undefined ? {} : { actor: options.actor }),
    'create',
    d => writeNewDocument(d, definition),
  )
}

export type DocumentKind = 'pipeline' | 'comments'

/** What a document is; `undefined` when it is none of ours. */
export function kindOf(doc: object): DocumentKind | undefined {
  const kind = stringOf((doc as Record<string, unknown>).kind)
  return kind === 'pipeline' || kind === 'comments' ? kind : undefined
}

/**
 * Loads a document's bytes. Throws `document.corrupt` when they are none or changes are missing, `document.too_new` when
 * a newer program wrote it.
 */
export function loadDocument<D extends object = PipelineDoc>(
  bytes: Uint8Array,
  options: DocumentOptions = {},
): Automerge.Doc<D> {
  let doc: Automerge.Doc<D>
  try {
    doc = Automerge.load<D>(bytes, options.actor === undefined ? {} : { actor: options.actor })
  } catch (cause) {
    throw new AppError('document.corrupt', 'The bytes are no whole document.', { cause })
  }
  assertNotTooNew(doc)
  return doc
}

/** Throws `document.too_new` for a document whose schema this program does not know. */
export function assertNotTooNew(doc: object): void {
  const version = (doc as Record<string, unknown>).schema_version
  if (typeof version === 'number' && version > SCHEMA_VERSION)
    throw new AppError(
      'document.too_new',
      `The document has schema version ${version}; this program knows up to ${SCHEMA_VERSION}.`,
      { details: { schema_version: version, known: SCHEMA_VERSION } },
    )
}
