import { hash } from 'node:crypto'
import * as A from '@automerge/automerge'
import { readChangeHeader } from '@pluto-duck/crdt-model'
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
 * that are there already are left out. `checked` holds what was checked on the same state before: changes may build on that.
 * `read` looks into the bytes: `readTried` is for what the server has tried.
 *
 * The server is the judge of what may enter the log; this check keeps a broken view from spoiling its own machine.
 */
export function decodeLocal(
  doc: A.Doc<unknown>,
  changes: readonly Uint8Array[],
  checked: Checked = new Checked(doc),
  read: (bytes: Uint8Array) => LocalChange = decode,
): StoredChange[] {
  const fresh: StoredChange[] = []
  const own = new Map<string, Place>()
  const placeOf = (hash: string): Place | undefined => own.get(hash) ?? checked.placeOf(hash)
  for (const bytes of changes) {
    const change = read(bytes)
    if (placeOf(change.hash) || A.hasHeads(doc, [change.hash])) continue
    const missing = change.deps.filter(dep => !placeOf(dep) && !A.hasHeads(doc, [dep]))
    if (missing.length > 0)
      throw new AppError(
        'change.missing_deps',
        'The change depends on changes that this document does not have.',
        {
          hint: 'Open the document again.',
          details: { hash: change.hash, missing },
        },
      )
    const place = checked.placeAfter(change.deps, placeOf)
    if (change.startOp !== place.startOp)
      throw new AppError(
        'change.invalid',
        'The change does not number its operations from where its past ends.',
      )
    if (!checked.goesOn(change, own) && checked.writesBeside(change.actor, place.past))
      throw new AppError('change.invalid', 'The change leaves out what its own actor wrote before.')
    own.set(change.hash, {
      startOp: change.startOp + change.operations,
      past: place.past,
      actor: change.actor,
      seq: change.seq,
    })
    fresh.push({ hash: change.hash, deps: change.deps, bytes })
  }
  checked.add(own)
  return fresh
}

/** Where a change that comes after some others stands. */
interface Past {
  /** One above the greatest operation of its past. */
  readonly startOp: number
  /** Hashes of the document whose past, with themselves, is what it includes; sorted. */
  readonly past: string
}

/** A change that others may come after. */
interface Place extends Past {
  readonly actor: string
  readonly seq: number
}

/**
 * What was checked on one state of a document, so that changes which come together ask it once for what they share: the document
 * answers in the time of all that was written beside them, which for two long branches is each change times each.
 */
export class Checked {
  readonly #doc: A.Doc<unknown>
  readonly #places = new Map<string, Place>()
  readonly #known = new Map<string, Pick<Place, 'startOp' | 'actor' | 'seq'> | null>()
  readonly #beside = new Map<string, ReadonlySet<string>>()

  constructor(doc: A.Doc<unknown>) {
    this.#doc = doc
  }

  /** The place behind a change that was checked here and is not in the document yet. */
  placeOf(hash: string): Place | undefined {
    return this.#places.get(hash)
  }

  add(places: ReadonlyMap<string, Place>): void {
    for (const [hash, place] of places) this.#places.set(hash, place)
  }

  placeAfter(deps: readonly string[], placeOf: (hash: string) => Place | undefined): Past {
    let startOp = 1
    const pasts = new Set<string>()
    for (const dep of deps) {
      const before = placeOf(dep)
      // Each change starts above all of its own past, so the direct dependencies say it all.
      startOp = Math.max(startOp, (before ?? this.#inDocument(dep))?.startOp ?? 1)
      pasts.add(before?.past ?? dep)
    }
    const [only] = pasts
    if (pasts.size === 1 && only !== undefined) return { startOp, past: only }
    return { startOp, past: [...new Set([...pasts].flatMap(split))].sort().join() }
  }

  /** Has the actor written anything in the document that is not in this past? */
  writesBeside(actor: string, past: string): boolean {
    const known = this.#beside.get(past)
    if (known) return known.has(actor)
    const actors = new Set(A.getChangesMetaSince(this.#doc, split(past)).map(other => other.actor))
    this.#beside.set(past, actors)
    return actors.has(actor)
  }

  /**
   * The change depends on its actor's change before it, or is its first: then nothing that the actor wrote can be beside it but another
   * change of the same number, and with that the document does not take it.
   */
  goesOn(change: Pick<LocalChange, 'actor' | 'seq' | 'deps'>, own: ReadonlyMap<string, Place>): boolean {
    if (change.seq === 1) return true
    return change.deps.some(dep => {
      const before = own.get(dep) ?? this.placeOf(dep) ?? this.#inDocument(dep)
      return before?.actor === change.actor && before.seq === change.seq - 1
    })
  }

  #inDocument(hash: string): Pick<Place, 'startOp' | 'actor' | 'seq'> | null {
    const known = this.#known.get(hash)
    if (known !== undefined) return known
    const change = A.getBackend(this.#doc).getChangeMetaByHash(hash)
    const place = change ? { startOp: change.maxOp + 1, actor: change.actor, seq: change.seq } : null
    this.#known.set(hash, place)
    return place
  }
}

const split = (past: string): string[] => (past === '' ? [] : past.split(','))

interface LocalChange {
  readonly hash: string
  readonly deps: readonly string[]
  readonly actor: string
  readonly seq: number
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
  const { hash, deps, actor, seq, startOp, ops } = change
  return { hash, deps, actor, seq, startOp, operations: ops.length }
}

/** The same of a change that the server has tried: nothing that an honest one could not be is looked for. */
export function readTried(bytes: Uint8Array): LocalChange {
  const header = readChangeHeader(bytes, LIMITS.changeOps)
  // The hash is that of type, length and content, as a plain change holds them.
  return header ? { hash: hash('sha256', bytes.subarray(8), 'hex'), ...header } : decode(bytes)
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
  const bytes = changes.map(change => change.bytes)
  let next: A.Doc<T>
  let back: Uint8Array[]
  try {
    ;[next] = A.applyChanges(doc, bytes)
    // One piece is quicker than many; changes that came in another order than Automerge keeps are compared one by one.
    if (Buffer.compare(Buffer.concat(bytes), A.saveSince(next, before)) === 0) return next
    back = A.getChangesSince(next, before)
  } catch (cause) {
    throw new AppError('change.invalid', 'The change cannot be applied to its document.', { cause })
  }
  const given = new Set(back.map(key))
  for (const change of changes)
    if (!given.has(key(change.bytes)))
      throw new AppError('change.invalid', 'The document does not keep the change as it is.', {
        details: { hash: change.hash },
      })
  return next
}

/** Bytes as what a set can hold. */
const key = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')

/** Changes as Automerge gives them, with what their rows need. */
export const describeChanges = (changes: readonly Uint8Array[]): StoredChange[] =>
  changes.map(bytes => {
    const { hash, deps } = A.decodeChange(bytes)
    return { hash, deps, bytes }
  })
