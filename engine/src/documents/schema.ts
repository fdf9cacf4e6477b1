import * as A from '@automerge/automerge'
import { SCHEMA_VERSION, type Upgrade, upgradeChanges } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'

/** The newest schema of documents that a program knows, and how it brings older ones there. */
export interface Schema {
  readonly version: number
  /** From version -> its upgrade; crdt-model's own when absent. */
  readonly upgrades?: ReadonlyMap<number, Upgrade>
}

export const OWN_SCHEMA: Schema = { version: SCHEMA_VERSION }

/** A document that can be shown and synced here, but not written. */
export interface Newer {
  readonly version: number
  readonly known: number
}

/** A document's schema version; 0 when it has none that is a number. */
export const schemaOf = (doc: object): number => {
  const { schema_version: version } = doc as { schema_version?: unknown }
  return typeof version === 'number' ? version : 0
}

export const tooNew = (version: number, known: number): AppError =>
  new AppError(
    'document.too_new',
    `A newer version of this program wrote the document (schema ${version}; this one knows ${known}). It can be read here, and is kept and synced unharmed.`,
    { details: { schema_version: version, known } },
  )

/**
 * Throws `document.too_new` when one of the changes was written on a state that is too new. A change that was written beside the
 * upgrade is none of those: it merges, like one that was made offline.
 */
export const assertWrittenBefore = (
  doc: A.Doc<unknown>,
  changes: readonly { readonly deps: readonly string[] }[],
  known: number,
): void => {
  if (schemaOf(doc) <= known) return
  for (const { deps } of changes) {
    if (deps.length === 0 || !A.hasHeads(doc, [...deps])) continue
    const version = schemaOf(A.view(doc, [...deps]))
    if (version > known) throw tooNew(version, known)
  }
}

/** The changes that bring an older document to the schema: the same bytes on every device. None for a current or newer one. */
export const upgradesOf = (doc: A.Doc<unknown>, schema: Schema): Uint8Array[] => {
  const version = schemaOf(doc)
  if (version === 0 || version >= schema.version) return []
  return upgradeChanges(doc, schema.upgrades, schema.version).filter(
    bytes => !A.hasHeads(doc, [A.decodeChange(bytes).hash]),
  )
}
