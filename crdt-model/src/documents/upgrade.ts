import * as Automerge from '@automerge/automerge'
import { sha256Hex } from '../canonical/canonical.ts'
import { AppError } from '../errors/index.ts'
import { assertNotTooNew } from './pipeline-document.ts'
import { SCHEMA_VERSION } from './schema.ts'

/** What brings a document from one schema version to the next: sees only the document's first change and earlier upgrades. */
export type Upgrade = (d: Record<string, unknown>) => void

/** From version -> its upgrade. Version 1 is the first. */
const UPGRADES: ReadonlyMap<number, Upgrade> = new Map()

/**
 * Brings a document to this program's schema. Throws `document.too_new` for a newer one.
 *
 * An upgrade must be the same bytes on every device, whatever else each has seen, or two devices would make two changes
 * of one actor and seq. So it is built on the document's first change alone, by an actor derived from it, at time 0. What an upgrade
 * cannot do there (convert content that came later) is done where the document is read.
 */
export function upgradeDocument<D extends object>(
  doc: Automerge.Doc<D>,
  upgrades: ReadonlyMap<number, Upgrade> = UPGRADES,
  target: number = SCHEMA_VERSION,
): Automerge.Doc<D> {
  if (target === SCHEMA_VERSION) assertNotTooNew(doc)
  const version = (doc as Record<string, unknown>).schema_version
  if (version === target) return doc
  return Automerge.applyChanges(doc, upgradeChanges(doc, upgrades, target))[0]
}

/** The actor of a document's upgrades, from the hash of its first change: nobody's. */
export const upgradeActor = (firstHash: string): string => sha256Hex(`upgrade:${firstHash}`).slice(0, 32)

/**
 * The upgrade changes of a document, from its first change alone: what a server accepts from any device though the actor
 * is nobody's.
 */
export function upgradeChanges(
  doc: Automerge.Doc<unknown>,
  upgrades: ReadonlyMap<number, Upgrade> = UPGRADES,
  target: number = SCHEMA_VERSION,
): Uint8Array[] {
  const roots = Automerge.getChangesMetaSince(doc, []).filter(change => change.deps.length === 0)
  const first = roots.length === 1 ? Automerge.getBackend(doc).getChangeByHash(roots[0]!.hash) : undefined
  if (!first) throw new AppError('document.corrupt', 'The document does not begin with one change.')
  const actor = upgradeActor(roots[0]!.hash)
  let young = Automerge.applyChanges(Automerge.init<Record<string, unknown>>({ actor }), [first])[0]
  const made: Uint8Array[] = []
  for (let from = Number(young.schema_version); from < target; from += 1) {
    const upgrade = upgrades.get(from)
    if (!upgrade) throw new AppError('document.corrupt', `No program knew schema version ${from}.`)
    young = Automerge.change(young, { time: 0, message: `upgrade ${from + 1}` }, d => {
      upgrade(d)
      d.schema_version = from + 1
    })
    made.push(Automerge.getLastLocalChange(young)!)
  }
  Automerge.free(young)
  return made
}
