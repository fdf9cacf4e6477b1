import type { DecodedChange } from './admission/decode.ts'
import type { OpenDocument } from './open-documents.ts'
import type { PushedChange } from './push.ts'
import { type Executor, readUsesInDrafts } from './store.ts'

interface Saying {
  readonly hash: string
  /** Changes that say it and are not stored yet: the same one may come to a pipeline and to its draft. */
  readonly users: number
}

/** Sayings that are kept beside those that are being decided: far more than are stored while one change is looked at. */
const KEPT = 10_000

/** The pipeline of which it is, or of which it is a draft. */
export const familyOf = (item: PushedChange, document: OpenDocument | 'new'): string =>
  (document === 'new' ? item.base : document.base) ?? item.documentId

/** An actor's number in a pipeline and its drafts together. */
export const placeOf = (family: string, actor: string, actorSeq: number): string =>
  `${family}:${actor}:${actorSeq}`

/**
 * What actors said under which number, so that a pipeline and its drafts can be merged (DRAFT15): one change in one place. Drafts are
 * checked beside one another, so what was last said is kept here until the log has it; what other servers store meanwhile is found
 * before the commit (DRAFT14).
 */
export class Sayings {
  private readonly workspaceId: string
  private readonly said = new Map<string, Saying>()

  constructor(workspaceId: string) {
    this.workspaceId = workspaceId
  }

  /** Another change was said in this place. */
  contradicts(place: string, hash: string): boolean {
    const saying = this.said.get(place)
    return saying !== undefined && saying.hash !== hash
  }

  /** A change that is being decided says it; `settle` follows. */
  enter(place: string, hash: string): void {
    const users = (this.said.get(place)?.users ?? 0) + 1
    this.said.set(place, { hash, users })
    if (this.said.size <= KEPT) return
    const [oldest] = this.said
    if (oldest === undefined) return
    const [key, saying] = oldest
    this.said.delete(key)
    // What is stored by now is in the log, which is asked.
    if (saying.users > 0) this.said.set(key, saying)
  }

  /** The change is stored, or will not be. */
  settle(place: string, hash: string, stored: boolean): void {
    const saying = this.said.get(place)
    if (saying?.hash !== hash) return
    const users = saying.users - 1
    if (users > 0 || stored) this.said.set(place, { hash, users })
    else this.said.delete(place)
  }

  /**
   * By the log: whether the change's actor writes into another draft of the family, or into the pipeline alone. What a draft builds on is in
   * its index, and its structure is checked against that; drafts are in no other's index.
   */
  async isOfAnotherDraft(
    db: Executor,
    item: PushedChange,
    document: OpenDocument | 'new',
    change: DecodedChange,
  ): Promise<boolean> {
    const actor = change.actors[0]!
    if (document !== 'new') {
      if (document.kind !== 'pipeline' || document.soleActors.has(actor)) return false
      if (goesOnFromBase(document, change)) return true
    } else if (item.kind !== 'pipeline' || item.base === null) return false
    const uses = await readUsesInDrafts(db, this.workspaceId, {
      family: familyOf(item, document),
      except: item.documentId,
      actor,
      actorSeq: change.seq,
      hash: change.hash,
    })
    // From now on the draft's own index, or this one, says so: an actor that wrote here is taken in no draft.
    if (uses === 'none' && document !== 'new' && document.index.seqOf(actor) > 0)
      document.soleActors.add(actor)
    return uses === 'other'
  }
}

/** In a draft: the actor's change before this one is of the pipeline alone. */
function goesOnFromBase(document: OpenDocument, { actors, deps, seq }: DecodedChange): boolean {
  if (document.base === null) return false
  const number = document.index.actorNumber(actors[0]!)
  return deps.some(hash => {
    const dep = document.index.find(hash)
    return dep !== undefined && dep.actor === number && dep.seq === seq - 1 && !document.authors.has(hash)
  })
}
