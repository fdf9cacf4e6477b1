import { decodeChange } from '@automerge/automerge'
import { type DecodedChange, decodeChangeBytes } from './admission/decode.ts'
import type { Refusal } from './admission/limits.ts'
import { checkStructure } from './admission/structure.ts'
import { DEPENDS_ON_FAILED, headsAfter } from './admission/trial.ts'
import { type Found, headsOf, type OpenDocument, OpenDocuments, own } from './open-documents.ts'
import type { Appended, AppenderOptions, Commit, Push, PushedChange, Verdict } from './push.ts'
import { checkComments, checkRight, isGenesis } from './rights.ts'
import {
  type Executor,
  insertChanges,
  lockSeq,
  openCounter,
  readActors,
  readDocumentBytes,
  readKnownSeqs,
} from './store.ts'

/** Changes that are checked, tried and committed together at most. */
const GROUP = 2_000

interface Waiting {
  readonly push: Push
  readonly resolve: (appended: Appended) => void
  readonly reject: (error: unknown) => void
}

/**
 * A change that passed structure and right, and is in its document's index for the time being. Its operations are not kept: a few
 * bytes can be 50,000 of them.
 */
interface Tentative {
  readonly push: Push
  readonly document: OpenDocument
  readonly hash: string
  readonly deps: readonly string[]
  readonly actor: string
  readonly actorSeq: number
  readonly opCount: number
  readonly bytes: Uint8Array
}

type Outcome =
  | { readonly state: 'refused'; readonly hash: string | null; readonly refusal: Refusal }
  | { readonly state: 'known'; readonly documentId: string; readonly hash: string }
  | { readonly state: 'new'; readonly documentId: string; readonly hash: string }

/** What one check of a group gathers. */
interface Round {
  readonly condemned: ReadonlyMap<string, Refusal>
  readonly found: Map<string, Found>
  readonly tentative: Tentative[]
  /** The tentative changes of each document, and how it stood before them. */
  readonly touched: Map<OpenDocument, Touched>
  readonly newActors: Map<string, string>
}

interface Checked extends Round {
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

interface Locked {
  readonly tx: Executor
  readonly seq: number
}

interface Attempt {
  readonly checked: Checked
  /** Null when nothing was to be stored. */
  readonly commit: Commit | null
  readonly appended: readonly Appended[]
}

const FOREIGN: Refusal = { code: 'permission', reason: 'this document id cannot be used here' }
const OTHER_DEVICE: Refusal = { code: 'actor', reason: 'its actor belongs to another device' }
const FULL: Refusal = { code: 'quota', reason: 'the document has as many operations as one may have' }
const FAILED_TRIAL: Refusal = { code: 'invalid', reason: 'it could not be applied' }

/** Operations that are tried in one batch: a second of work, so that other workspaces get their turn in between. */
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

function breather(): () => Promise<void> {
  let since = performance.now()
  return async () => {
    if (performance.now() - since < TURN_MS) return
    await new Promise(resolve => setImmediate(resolve))
    since = performance.now()
  }
}

/** Somebody else appended since the lane last looked. */
class Moved extends Error {}

const keyOf = (documentId: string, hash: string): string => `${documentId}:${hash}`

/** The appends of one workspace in this process, a group at a time. */
export class WorkspaceLane {
  private readonly workspaceId: string
  private readonly options: Required<AppenderOptions>
  private readonly documents: OpenDocuments
  /** Bindings that are in the database. */
  private readonly actors = new Map<string, string>()
  private waiting: Waiting[] = []
  private readonly forgotten = new Set<string>()
  private running = false
  /** The log's number that `documents` know; null before the first look. */
  private seq: number | null = null

  constructor(workspaceId: string, options: Required<AppenderOptions>) {
    this.workspaceId = workspaceId
    this.options = options
    this.documents = new OpenDocuments(workspaceId, options.maxIndexedOps)
  }

  get idle(): boolean {
    return !this.running
  }

  append(push: Push): Promise<Appended> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ push, resolve, reject })
      if (!this.running) void this.run()
    })
  }

  forget(documentId: string): void {
    this.forgotten.add(documentId)
  }

  private async run(): Promise<void> {
    this.running = true
    while (this.waiting.length > 0) {
      // Only between two groups: one that is being tried holds on to its documents.
      for (const id of this.forgotten) this.documents.close(id)
      this.forgotten.clear()
      const group = this.nextGroup()
      try {
        const results = await this.appendGroup(group.map(one => one.push))
        group.forEach((one, i) => {
          one.resolve(results[i]!)
        })
      } catch (error) {
        // What is open may hold what was not stored.
        this.documents.closeAll()
        this.actors.clear()
        this.seq = null
        for (const one of group) one.reject(error)
      }
    }
    this.running = false
  }

  private nextGroup(): Waiting[] {
    const group: Waiting[] = []
    let changes = 0
    for (const one of this.waiting) {
      if (group.length > 0 && changes + one.push.changes.length > GROUP) break
      group.push(one)
      changes += one.push.changes.length
    }
    this.waiting = this.waiting.slice(group.length)
    return group
  }

  private async appendGroup(pushes: readonly Push[]): Promise<readonly Appended[]> {
    let done: Attempt
    try {
      done = await this.attempt(pushes, null)
    } catch (error) {
      if (!(error instanceof Moved)) throw error
      // Others append as well: decide under the lock, where nobody can.
      done = await this.options.db.transaction().execute(async tx => {
        const seq = await lockSeq(tx, this.workspaceId)
        return await this.attempt(pushes, { tx, seq })
      })
    }
    if (done.commit) this.settle(done.checked, done.commit)
    return done.appended
  }

  /** Throws `Moved` with nothing changed when the log moved on; never does with a lock. */
  private async attempt(pushes: readonly Push[], locked: Locked | null): Promise<Attempt> {
    const db = locked?.tx ?? this.options.db
    await this.catchUp(db, locked?.seq ?? this.seq ?? (await openCounter(db, this.workspaceId)))

    const condemned = new Map<string, Refusal>()
    for (;;) {
      const checked = await this.check(db, pushes, condemned)
      try {
        const failures = await this.tryAll(db, checked)
        if (failures.size === 0) {
          const commit = await this.commit(checked, locked)
          return { checked, commit, appended: await this.answer(db, checked, commit) }
        }
        for (const [key, refusal] of failures) condemned.set(key, refusal)
      } catch (error) {
        this.rollBack(checked)
        throw error
      }
      this.rollBack(checked)
    }
  }

  private async catchUp(db: Executor, seq: number): Promise<void> {
    if (this.seq !== null && seq > this.seq) await this.documents.catchUp(db, this.seq, seq)
    this.seq = seq
  }

  private async check(
    db: Executor,
    pushes: readonly Push[],
    condemned: ReadonlyMap<string, Refusal>,
  ): Promise<Checked> {
    const ids = pushes.flatMap(push => push.changes.map(item => item.documentId))
    const round: Round = {
      condemned,
      found: await this.documents.find(db, ids, this.seq!),
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
      return { state: 'known', documentId: document.id, hash }
    const guilty = round.condemned.get(keyOf(item.documentId, hash))
    if (guilty) return refused(guilty)
    const wrong = checkRight(push, item, document === 'new' ? null : document)
    if (wrong) return refused(wrong)
    const actor = change.actors[0]!
    const device = isGenesis(item, change) ? null : await this.deviceOf(db, actor, round.newActors)
    if (device && device !== push.deviceId) return refused(OTHER_DEVICE)

    if (document === 'new') {
      const opened = await this.openNew(db, item)
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

  private async openNew(db: Executor, item: PushedChange): Promise<OpenDocument | Refusal> {
    if (item.base === null) return this.documents.create(item.documentId, item.kind, item.subject)
    return await this.documents.fork(db, item.documentId, item.base, this.seq!)
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
    const refusal = checkComments(push, document, change, bytes)
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

  /** What failed, by document and hash. */
  private async tryAll(db: Executor, checked: Checked): Promise<Map<string, Refusal>> {
    const failures = new Map<string, Refusal>()
    for (const [document, before] of checked.touched) {
      const done: Tentative[] = []
      for (const batch of batchesOf(before.changes)) {
        const earlier = [...done]
        const verdict = await this.options.trial.try(
          {
            id: document.id,
            heads: headsAfter(before.heads, earlier),
            load: async () =>
              Buffer.concat([
                ...(document.base === null
                  ? []
                  : [await readDocumentBytes(db, this.workspaceId, document.base, this.seq!)]),
                await readDocumentBytes(db, this.workspaceId, document.id, this.seq!),
                ...earlier.map(one => one.bytes),
              ]),
          },
          batch,
        )
        before.title = verdict.title ?? before.title
        verdict.failures.forEach((failure, i) => {
          // The next check finds what depends on a refused change, and says so.
          if (failure !== null && failure !== DEPENDS_ON_FAILED)
            failures.set(keyOf(document.id, batch[i]!.hash), FAILED_TRIAL)
        })
        if (verdict.failures.some(failure => failure !== null)) break
        done.push(...batch)
      }
    }
    return failures
  }

  private async commit(
    { tentative, touched, newActors }: Checked,
    locked: Locked | null,
  ): Promise<Commit | null> {
    if (tentative.length === 0) return null
    const { workspaceId } = this
    const after = this.seq!
    const receivedAt = this.options.now()
    const places = new Map(tentative.map((one, i) => [one, after + i + 1]))
    const documents = [...touched].map(([document, { changes, title }]) => ({
      id: document.id,
      kind: document.kind,
      subject: document.subject,
      title,
      base: document.base,
      heads: headsOf(document),
      createdSeq: document.createdSeq || places.get(changes[0]!)!,
      seq: places.get(changes.at(-1)!)!,
    }))
    const changes = tentative.map(({ push, document, hash, actor, actorSeq, bytes }) => ({
      document,
      documentId: document.id,
      hash,
      actor,
      actorSeq,
      authorId: push.userId,
      deviceId: push.deviceId,
      live: push.live,
      bytes,
    }))
    const append = { workspaceId, after, receivedAt, documents, actors: newActors, changes }
    try {
      if (!(await insertChanges(locked?.tx ?? this.options.db, append))) throw new Moved()
    } catch (error) {
      // Another workspace took a document's id meanwhile.
      if (!locked && error instanceof Error && 'code' in error && error.code === '23505') throw new Moved()
      throw error
    }
    return { workspaceId, after, seq: after + changes.length, receivedAt, changes }
  }

  private async answer(db: Executor, { outcomes }: Checked, commit: Commit | null): Promise<Appended[]> {
    const seqs = new Map<string, number>()
    commit?.changes.forEach((one, i) => {
      seqs.set(keyOf(one.document.id, one.hash), commit.after + i + 1)
    })
    const known = outcomes.flat().filter(one => one.state === 'known')
    for (const [key, seq] of await readKnownSeqs(
      db,
      this.workspaceId,
      known.filter(one => !seqs.has(keyOf(one.documentId, one.hash))),
    ))
      seqs.set(key, seq)
    return outcomes.map(all => ({
      seq: commit?.seq ?? this.seq!,
      verdicts: all.map(
        (one): Verdict =>
          one.state === 'refused'
            ? { status: 'refused', hash: one.hash, ...one.refusal }
            : { status: 'stored', hash: one.hash, seq: seqs.get(keyOf(one.documentId, one.hash))! },
      ),
    }))
  }

  /** Takes back what a check added to the indexes. */
  private rollBack({ touched }: Round): void {
    for (const [document, { changeCount, ownHeads, changes }] of touched) {
      document.index.truncate(changeCount)
      document.ownHeads = new Set(ownHeads)
      for (const one of changes) document.authors.delete(one.hash)
      if (document.authors.size === 0) this.documents.close(document.id)
    }
  }

  /** Makes what was committed what is known. */
  private settle({ touched, newActors }: Checked, commit: Commit): void {
    const places = new Map(
      commit.changes.map((one, i) => [keyOf(one.document.id, one.hash), commit.after + i + 1]),
    )
    for (const [document, { changes, title }] of touched) {
      const placeOf = (one: Tentative): number => places.get(keyOf(document.id, one.hash))!
      document.createdSeq ||= placeOf(changes[0]!)
      document.seq = placeOf(changes.at(-1)!)
      document.title = title
    }
    for (const [actor, device] of newActors) this.actors.set(actor, device)
    this.seq = commit.seq
    this.documents.shrink(new Set([...touched.keys()].map(document => document.id)))
    this.options.onCommit(commit)
  }
}
