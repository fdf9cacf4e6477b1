import { decodeChange } from '@automerge/automerge'
import { type DecodedChange, decodeChangeBytes } from './admission/decode.ts'
import type { Refusal } from './admission/limits.ts'
import { checkStructure } from './admission/structure.ts'
import { DEPENDS_ON_FAILED, headsAfter } from './admission/trial.ts'
import { type Found, type OpenDocument, type OpenDocuments, own } from './open-documents.ts'
import type { AppenderOptions, Push, PushedChange } from './push.ts'
import { checkComments, checkRight, isGenesis, isUpgrade } from './rights.ts'
import { familyOf, placeOf, Sayings } from './sayings.ts'
import { type Executor, readActors, readDocumentBytes } from './store.ts'
import type { Usage } from './usage.ts'

/**
 * A change that passed structure and right, and is in its document's index for the time being. Its operations are not kept: a few
 * bytes can be 50,000 of them.
 */
export interface Tentative {
  readonly push: Push
  readonly document: OpenDocument
  readonly hash: string
  readonly deps: readonly string[]
  readonly actor: string
  readonly actorSeq: number
  readonly opCount: number
  readonly bytes: Uint8Array
}

export type Outcome =
  | { readonly state: 'refused'; readonly hash: string | null; readonly refusal: Refusal }
  | { readonly state: 'known'; readonly documentId: string; readonly hash: string }
  | { readonly state: 'new'; readonly documentId: string; readonly hash: string }

/** What one check gathers. */
interface Round {
  /** How the log stood. */
  readonly position: Position
  readonly condemned: ReadonlyMap<string, Refusal>
  readonly found: Map<string, Found>
  readonly tentative: Tentative[]
  /** The tentative changes of each document, and how it stood before them. */
  readonly touched: Map<OpenDocument, Touched>
  readonly newActors: Map<string, string>
}

export interface Checked extends Round {
  /** For each push and each of its changes. */
  readonly outcomes: readonly (readonly Outcome[])[]
}

interface Touched {
  readonly heads: readonly string[]
  readonly ownHeads: ReadonlySet<string>
  readonly changeCount: number
  readonly changes: Tentative[]
  title: string
}

/** What passed its trial in an earlier attempt. A verdict depends on the causal past alone, so it holds whatever came meanwhile. */
export interface Passed {
  readonly changes: Set<string>
  readonly titles: Map<string, string>
}

/** The log's number, and the number up to which other servers may have appended to it. */
export interface Position {
  readonly seq: number
  readonly foreign: number
}

const FOREIGN: Refusal = { code: 'permission', reason: 'this document id cannot be used here' }
const OTHER_DEVICE: Refusal = { code: 'actor', reason: 'its actor belongs to another device' }
const OTHER_DOCUMENT: Refusal = {
  code: 'actor',
  reason: 'its actor writes something else into a draft, or into what the draft is of',
}
const IN_PIPELINE: Refusal = { code: 'invalid', reason: 'it is in the pipeline, on which the draft builds' }
const VOIDED: Refusal = { code: 'invalid', reason: 'it was taken out of the log again' }
const FULL: Refusal = { code: 'quota', reason: 'the document has as many operations as one may have' }
const FAILED_TRIAL: Refusal = { code: 'invalid', reason: 'it could not be applied' }

/** Operations that are tried in one batch: a second of work, so that other documents get their turn in between. */
const BATCH_OPS = 100_000

function batchesOf(changes: readonly Tentative[]): Tentative[][] {
  const batches: Tentative[][] = []
  let ops = Number.POSITIVE_INFINITY
  for (const change of changes) {
    if (ops + change.opCount > BATCH_OPS) {
      batches.push([])
      ops = 0
    }
    batches.at(-1)!.push(change)
    ops += change.opCount
  }
  return batches
}

/** Milliseconds of checking after which others get a turn. */
const TURN_MS = 20

function breather(): () => Promise<void> | undefined {
  let since = performance.now()
  return () => {
    if (performance.now() - since < TURN_MS) return undefined
    return new Promise(resolve =>
      setImmediate(() => {
        since = performance.now()
        resolve()
      }),
    )
  }
}

/** The log does not have it yet. */
export const isNew = (document: OpenDocument): boolean => document.seq === 0

/** What a round would add to the workspace, before it is stored. */
export function sizeOf({ tentative, touched }: Pick<Round, 'tentative' | 'touched'>): {
  bytes: number
  documents: number
} {
  return {
    bytes: tentative.reduce((sum, one) => sum + one.bytes.length, 0),
    documents: [...touched.keys()].filter(isNew).length,
  }
}

export const keyOf = (documentId: string, hash: string): string => `${documentId}:${hash}`

/** Structure, right and trial of what waits for documents that nobody else works on meanwhile. */
export class Checker {
  private readonly workspaceId: string
  private readonly options: Required<AppenderOptions>
  private readonly documents: OpenDocuments
  /** Bindings that are in the database. */
  private readonly actors: Map<string, string>
  private readonly usage: Usage
  private readonly sayings: Sayings

  constructor(
    workspaceId: string,
    options: Required<AppenderOptions>,
    documents: OpenDocuments,
    actors: Map<string, string>,
    usage: Usage,
  ) {
    this.workspaceId = workspaceId
    this.options = options
    this.documents = documents
    this.actors = actors
    this.usage = usage
    this.sayings = new Sayings(workspaceId)
  }

  /** Enters what is new into the indexes of its documents; `rollBack` takes it out again. */
  async check(
    db: Executor,
    position: Position,
    pushes: readonly Push[],
    condemned: ReadonlyMap<string, Refusal>,
  ): Promise<Checked> {
    const ids = pushes.flatMap(push => push.changes.map(item => item.documentId))
    const round: Round = {
      position,
      condemned,
      found: await this.documents.find(db, ids, position.seq, position.foreign),
      tentative: [],
      touched: new Map(),
      newActors: new Map(),
    }
    const outcomes: Outcome[][] = []
    const breathe = breather()
    try {
      for (const push of pushes) {
        const all: Outcome[] = []
        for (const item of push.changes) {
          all.push(await this.checkOne(db, round, push, item))
          await breathe()
        }
        outcomes.push(all)
      }
    } catch (error) {
      this.rollBack(round)
      throw error
    }
    return { outcomes, ...round }
  }

  private async checkOne(db: Executor, round: Round, push: Push, item: PushedChange): Promise<Outcome> {
    const decoded = decodeChangeBytes(item.bytes, this.options.limits)
    if (!decoded.ok) return { state: 'refused', hash: null, refusal: decoded.refusal }
    const { change } = decoded
    const { hash, deps } = change
    const refused = (refusal: Refusal): Outcome => ({ state: 'refused', hash, refusal })

    let document = round.found.get(item.documentId)!
    if (document === 'foreign') return refused(FOREIGN)
    if (document !== 'new' && document.index.has(hash))
      return document.authors.has(hash)
        ? { state: 'known', documentId: document.id, hash }
        : refused(IN_PIPELINE)
    if (document !== 'new' && document.voided.has(hash)) return refused(VOIDED)
    const guilty = round.condemned.get(keyOf(item.documentId, hash))
    if (guilty) return refused(guilty)
    const wrong = checkRight(push, item, document === 'new' ? null : document)
    if (wrong) return refused(wrong)
    const actor = change.actors[0]!
    const nobodys = isGenesis(item, change) || (document !== 'new' && isUpgrade(document, change))
    const device = nobodys ? null : await this.deviceOf(db, actor, round.newActors)
    if (device && device !== push.deviceId) return refused(OTHER_DEVICE)
    // What has no drafts is said in one place only.
    const place =
      nobodys || item.kind !== 'pipeline' ? null : placeOf(familyOf(item, document), actor, change.seq)
    if (place !== null && this.sayings.contradicts(place, hash)) return refused(OTHER_DOCUMENT)
    if (device && (await this.sayings.isOfAnotherDraft(db, item, document, change)))
      return refused(OTHER_DOCUMENT)

    if (document === 'new') {
      const opened = await this.openNew(db, round.position.seq, item)
      if ('code' in opened) return refused(opened)
      document = opened
    }
    const refusal = this.enter(round, push, document, change, item.bytes)
    if (refusal) {
      if (document.authors.size === 0) this.documents.close(document.id)
      return refused(refusal)
    }
    round.found.set(item.documentId, document)
    if (device === undefined) round.newActors.set(actor, push.deviceId)
    if (place !== null) this.sayings.enter(place, hash)
    const one = {
      push,
      document,
      hash,
      deps,
      actor,
      actorSeq: change.seq,
      opCount: change.ops.length,
      bytes: item.bytes,
    }
    round.tentative.push(one)
    round.touched.get(document)!.changes.push(one)
    return { state: 'new', documentId: document.id, hash }
  }

  /** What was checked is stored. */
  settle(checked: Checked): void {
    this.settleSayings(checked, true)
  }

  private settleSayings({ touched }: Pick<Round, 'touched'>, stored: boolean): void {
    for (const [document, { changes }] of touched)
      for (const { hash, actor, actorSeq } of changes)
        this.sayings.settle(placeOf(document.base ?? document.id, actor, actorSeq), hash, stored)
  }

  private async openNew(db: Executor, seq: number, item: PushedChange): Promise<OpenDocument | Refusal> {
    if (item.base === null) return this.documents.create(item.documentId, item.kind, item.subject, seq)
    return await this.documents.fork(db, item.documentId, item.base, seq)
  }

  /** Adds the change to its document's index, or says why not. */
  private enter(
    round: Round,
    push: Push,
    document: OpenDocument,
    change: DecodedChange,
    bytes: Uint8Array,
  ): Refusal | null {
    const { index } = document
    const { limits } = this.options
    if (index.opCount + change.ops.length > limits.documentOps) return FULL
    const structure = checkStructure(index, change, limits)
    if (!structure.ok) return structure.refusal
    const refusal =
      checkComments(push, document, change, bytes) ??
      this.usage.reserve(bytes.length, isNew(document) && !round.touched.has(document) ? 1 : 0)
    if (refusal) return refusal
    if (!round.touched.has(document))
      round.touched.set(document, {
        heads: index.headHashes,
        ownHeads: new Set(document.ownHeads),
        changeCount: index.changeCount,
        changes: [],
        title: document.title,
      })
    index.add(structure.change)
    own(document, change.hash, change.deps, push.userId)
    // An index that knows objects which are taken back later gives the same answers: nothing can name them.
    document.comments?.add(decodeChange(bytes))
    return null
  }

  /** Undefined for an actor that nobody has shown yet. */
  private async deviceOf(
    db: Executor,
    actor: string,
    newActors: ReadonlyMap<string, string>,
  ): Promise<string | undefined> {
    const known = this.actors.get(actor) ?? newActors.get(actor)
    if (known !== undefined) return known
    const found = (await readActors(db, this.workspaceId, [actor])).get(actor)
    if (found !== undefined) this.actors.set(actor, found)
    return found
  }

  /** What failed, by document and hash. What passes is added to `passed`, and what is there need not be tried again. */
  async tryAll(db: Executor, checked: Checked, passed: Passed): Promise<Map<string, Refusal>> {
    const failures = new Map<string, Refusal>()
    for (const [document, before] of checked.touched) {
      if (before.changes.every(change => passed.changes.has(keyOf(document.id, change.hash)))) {
        before.title = passed.titles.get(document.id) ?? before.title
        continue
      }
      const done: Tentative[] = []
      for (const batch of batchesOf(before.changes)) {
        const earlier = [...done]
        const verdict = await this.options.trial.try(
          {
            id: document.id,
            heads: headsAfter(before.heads, earlier),
            untold: document.untold ?? [],
            load: async () =>
              Buffer.concat([
                ...(document.base === null
                  ? []
                  : [await readDocumentBytes(db, this.workspaceId, document.base, checked.position.seq)]),
                await readDocumentBytes(db, this.workspaceId, document.id, checked.position.seq),
                ...earlier.map(one => one.bytes),
              ]),
          },
          batch,
        )
        document.untold = []
        before.title = verdict.title ?? before.title
        passed.titles.set(document.id, before.title)
        verdict.failures.forEach((failure, i) => {
          const key = keyOf(document.id, batch[i]!.hash)
          if (failure === null) passed.changes.add(key)
          // The next check finds what depends on a refused change, and says so.
          else if (failure !== DEPENDS_ON_FAILED) failures.set(key, FAILED_TRIAL)
        })
        if (verdict.failures.some(failure => failure !== null)) break
        done.push(...batch)
      }
    }
    return failures
  }

  /** Takes back what a check added to the indexes. */
  rollBack(round: Round): void {
    const { bytes, documents } = sizeOf(round)
    this.usage.release(bytes, documents, false)
    this.settleSayings(round, false)
    for (const [document, { changeCount, ownHeads, changes }] of round.touched) {
      document.index.truncate(changeCount)
      document.ownHeads = new Set(ownHeads)
      for (const one of changes) {
        document.authors.delete(one.hash)
        document.soleActors.delete(one.actor)
      }
      if (document.authors.size === 0) this.documents.close(document.id)
    }
  }
}
