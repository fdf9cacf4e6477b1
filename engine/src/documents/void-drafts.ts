import * as A from '@automerge/automerge'
import { createPipeline, forkAt } from '@pluto-duck/crdt-model'
import { newId, type VoidRecord, voidedBy } from '@pluto-duck/crdt-model/protocol'
import type { State } from '../state/index.ts'
import { describeChanges, type StoredChange } from './admit.ts'
import { type LocalDraft, listDrafts, readDraft } from './drafts.ts'
import { baseHeads, buildDraft, topUp } from './forks.ts'
import { rebased } from './rebased.ts'
import type { DocumentInfo } from './rows.ts'
import { loadable, type Sorted, withoutHistory } from './voids.ts'

type Doc = A.Doc<unknown>

/** What a local draft stands on: a document as the server has it now; null when nothing is left of it there. */
export interface Ground {
  readonly documentId: string
  readonly doc: Doc | null
}

/** A document as it was here before something was taken out of it. */
export interface Before {
  readonly info: DocumentInfo
  /** Null when it cannot be read. */
  readonly doc: Doc | null
  /** Its own changes, and of these the unacknowledged ones. */
  readonly changes: readonly StoredChange[]
  readonly unsent: ReadonlySet<string>
  /** What it is a draft of, as that was. */
  readonly base: Doc | null
  /** Unacknowledged changes that cannot be seen in it: it cannot be read, or what they build on is gone. */
  readonly loose: readonly Uint8Array[]
}

/**
 * The local drafts of what is taken out of a document: what waited, and of this person's own so many changes. Of an erased history
 * nothing is in them but what waited; where that cannot be made an edit of the ground, the letters that were written. When all of a
 * pipeline waits (it was sent, and the answer never stored) nobody here can tell what of it was erased: its content is kept.
 */
export function draftsOfVoid(
  before: Before,
  { lost, erase, reason }: Sorted,
  mine: number,
  ground: Ground,
): Omit<LocalDraft, 'createdAt'>[] {
  const { info, doc } = before
  const { workspaceId, kind, title } = info
  const draft = { workspaceId, documentId: ground.documentId, kind, title, code: 'void', reason }
  const baseBytes = ground.doc && A.save(ground.doc)
  const found: Omit<LocalDraft, 'createdAt'>[] = []
  const changes = lost.length + mine
  // Content of its own: as an edit of the document it would take everything else out of it.
  const alone = { ...draft, documentId: newId(), kind: 'pipeline' as const, baseBytes: null }
  if (doc && changes > 0) {
    if (erase && kind === 'pipeline' && waitsWhole(before))
      found.push({ ...alone, draftId: newId(), changes, bytes: withoutHistory(doc) })
    else {
      const bytes = erase ? rebasedOn(ground, before, doc) : loadable(doc)
      if (bytes) found.push({ ...draft, draftId: newId(), changes, bytes, baseBytes })
    }
  }
  const letters = erase ? before.loose.map(typed).join('') : ''
  if (letters !== '') {
    const content = createPipeline({ name: title || 'Unsent', description: letters })
    found.push({ ...alone, draftId: newId(), changes: before.loose.length, bytes: A.save(content) })
    A.free(content)
  }
  return found
}

/** Nothing of it is known to be the server's. */
const waitsWhole = ({ base, changes, unsent }: Before): boolean =>
  base === null && changes.every(change => unsent.has(change.hash))

function rebasedOn(ground: Ground, { info, changes, unsent, base }: Before, mine: Doc): Uint8Array | null {
  if (!ground.doc) return null
  const acknowledged = changes.filter(change => !unsent.has(change.hash)).map(change => change.bytes)
  const there = serverSide(acknowledged, changes, base)
  const bytes = rebased(info.kind, { base: there, mine }, ground.doc)
  A.free(there)
  return bytes
}

/** The document without what waits: of one that the server is not known to have, where it was begun. */
function serverSide(
  acknowledged: readonly Uint8Array[],
  own: readonly StoredChange[],
  base: Doc | null,
): Doc {
  if (!base)
    return acknowledged.length > 0 ? A.applyChanges(A.init<unknown>(), [...acknowledged])[0] : begun(own)
  const all = own.map(change => change.bytes)
  // What it took in of its pipeline since is no edit of its own.
  return acknowledged.length > 0
    ? topUp(buildDraft(base, acknowledged), base, all)
    : forkAt(base, baseHeads(all))
}

/** A document as its first change made it. */
const begun = (changes: readonly StoredChange[]): Doc =>
  A.applyChanges(
    A.init<unknown>(),
    changes.filter(change => change.deps.length === 0).map(change => change.bytes),
  )[0]

/** The letters that a change wrote, in their order; none of bytes that are no change any more. */
function typed(change: Uint8Array): string {
  try {
    const values = A.decodeChange(change).ops.map(op => op.value)
    return values.filter(value => typeof value === 'string').join('')
  } catch {
    return ''
  }
}

/**
 * What becomes of the local drafts that hold something of what was erased: their edits on the ground, or nothing when none of them
 * are left. One without a base is content that the server had, if it was set aside for that, and is gone with it. Else all of it waited
 * when it was refused: of comments the messages are kept, a pipeline as content of its own.
 */
export async function draftsWithoutErased(
  state: State,
  workspaceId: string,
  records: readonly VoidRecord[],
  ground: Ground,
): Promise<{ put: LocalDraft[]; remove: string[] }> {
  const erased = records.filter(record => record.erase).flatMap(record => record.hashes)
  const put: LocalDraft[] = []
  const remove: string[] = []
  const holdsErased = (doc: Doc) => voidedBy(erased, describeChanges(A.getAllChanges(doc))).size > 0
  for (const { draftId } of await listDrafts(state, { workspaceId })) {
    const draft = await readDraft(state, draftId)
    if (!draft) continue
    const mine = readable(draft.bytes)
    if (!mine) {
      // It is of no use any more, and nobody can say what is in it.
      if (draft.documentId === ground.documentId) remove.push(draftId)
      continue
    }
    const waited = draft.baseBytes === null && draft.code !== 'diverged'
    const base = draft.baseBytes
      ? readable(draft.baseBytes)
      : waited && draft.kind === 'comments'
        ? begun(describeChanges(A.getAllChanges(mine)))
        : null
    if (holdsErased(mine) || (base && holdsErased(base))) {
      const bytes = base && ground.doc && rebased(draft.kind, { base, mine }, ground.doc)
      if (bytes)
        put.push({ ...draft, documentId: ground.documentId, bytes, baseBytes: A.save(ground.doc as Doc) })
      else if (waited && draft.kind === 'pipeline')
        put.push({ ...draft, documentId: newId(), bytes: withoutHistory(mine) })
      else remove.push(draftId)
    }
    for (const doc of base ? [mine, base] : [mine]) A.free(doc)
  }
  return { put, remove }
}

function readable(bytes: Uint8Array): Doc | null {
  try {
    return A.load<unknown>(bytes)
  } catch {
    return null
  }
}
