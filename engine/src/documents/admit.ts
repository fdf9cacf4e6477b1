import * as A from '@automerge/automerge'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { LIMITS } from '@pluto-duck/crdt-model/protocol'

/** A change with what its row needs. */
export interface StoredChange {
  readonly hash: string
  readonly deps: readonly string[]
  readonly bytes: Uint8Array
}

/**
 * Decodes changes from a view of this machine and checks what can be checked without trying them: limits, that they decode,
 * that everything they depend on is in the document or before them, that their place in the history is the one that an
 * honest view gives them, and that they hold no mark (the product has none, and a misplaced one never loads again). Changes
 * that are there already are left out.
 *
 * The server is the judge of what may enter the log; this check keeps a broken view from spoiling its own machine.
 */
export function decodeLocal(doc: A.Doc<unknown>, changes: readonly Uint8Array[]): StoredChange[] {
  const fresh: StoredChange[] = []
  const known = new Map<string, Place>()
  for (const bytes of changes) {
    const change = decode(bytes)
    if (known.has(change.hash) || A.hasHeads(doc, [change.hash])) continue
    const missing = change.deps.filter(dep => !known.has(dep) && !A.hasHeads(doc, [dep]))
    if (missing.length > 0)
      throw new AppError(
        'change.missing_deps',
        'The change depends on changes that this document does not have.',
        {
          hint: 'Open the document again.',
          details: { hash: change.hash, missing },
        },
      )
    const place = placeOf(doc, known, change)
    if (change.startOp !== place.startOp)
      throw new AppError(
        'change.invalid',
        'The change does not number its operations from where its past ends.',
      )
    if (A.getChangesMetaSince(doc, [...place.past]).some(other => other.actor === change.actor))
      throw new AppError('change.invalid', 'The change leaves out what its own actor wrote before.')
    known.set(change.hash, { startOp: change.startOp + change.operations, past: place.past })
    fresh.push({ hash: change.hash, deps: change.deps, bytes })
  }
  return fresh
}

/** Where a change that comes after some others stands. */
interface Place {
  /** One above the greatest operation of its past. */
  readonly startOp: number
  /** Changes of the document whose past, with themselves, is what it includes. */
  readonly past: ReadonlySet<string>
}

function placeOf(
  doc: A.Doc<unknown>,
  known: ReadonlyMap<string, Place>,
  { deps }: { readonly deps: readonly string[] },
): Place {
  let startOp = 1
  const past = new Set<string>()
  for (const dep of deps) {
    const before = known.get(dep)
    if (before) {
      startOp = Math.max(startOp, before.startOp)
      for (const hash of before.past) past.add(hash)
      continue
    }
    past.add(dep)
    // Each change starts above all of its own past, so the direct dependencies say it all.
    const change = A.inspectChange(doc, dep)
    if (change) startOp = Math.max(startOp, change.startOp + change.ops.length)
  }
  return { startOp, past }
}

interface LocalChange {
  readonly hash: string
  readonly deps: string[]
  readonly actor: string
  readonly startOp: number
  readonly operations: number
}

function decode(bytes: Uint8Array): LocalChange {
  if (bytes.length > LIMITS.changeBytes) throw tooBig('bytes', bytes.length, LIMITS.changeBytes)
  let change: A.DecodedChange
  try {
    change = A.decodeChange(bytes)
  } catch (cause) {
    throw new AppError('change.invalid', 'The bytes are no change.', { cause })
  }
  if (change.ops.length > LIMITS.changeOps) throw tooBig('operations', change.ops.length, LIMITS.changeOps)
  if (!change.hash) throw new AppError('change.invalid', 'The change has no hash.')
  if (change.ops.some(op => String(op.action).startsWith('mark')))
    throw new AppError('change.invalid', 'The change holds a mark, and documents have none.')
  const { hash, deps, actor, startOp, ops } = change
  return { hash, deps, actor, startOp, operations: ops.length }
}

const tooBig = (what: string, is: number, limit: number): AppError =>
  new AppError('change.quota', `A change of ${is} ${what}; the limit is ${limit}.`, {
    details: { what, is, limit },
  })

/**
 * The document with the changes, tried: the document must give the same bytes back (FACTS: forgeries that apply and then never
 * load again show themselves here). Throws `change.invalid`; the given document must not be used after that.
 */
export function applyTried<T>(doc: A.Doc<T>, changes: readonly StoredChange[]): A.Doc<T> {
  const before = A.getHeads(doc)
  let next: A.Doc<T>
  let back: Uint8Array[]
  try {
    ;[next] = A.applyChanges(
      doc,
      changes.map(change => change.bytes),
    )
    back = A.getChangesSince(next, before)
  } catch (cause) {
    throw new AppError('change.invalid', 'The change cannot be applied to its document.', { cause })
  }
  const given = new Map(back.map(bytes => [A.decodeChange(bytes).hash, bytes]))
  for (const change of changes) {
    const bytes = given.get(change.hash)
    if (!bytes || Buffer.compare(bytes, change.bytes) !== 0)
      throw new AppError('change.invalid', 'The document does not keep the change as it is.', {
        details: { hash: change.hash },
      })
  }
  return next
}

/** Changes as Automerge gives them, with what their rows need. */
export const describeChanges = (changes: readonly Uint8Array[]): StoredChange[] =>
  changes.map(bytes => {
    const { hash, deps } = A.decodeChange(bytes)
    return { hash, deps, bytes }
  })
