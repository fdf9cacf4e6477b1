import { decodeChange } from '@automerge/automerge'
import type { DocumentKind, Role, Subject } from '@pluto-duck/crdt-model/protocol'
import { type DecodedChange, decodeChangeBytes } from './admission/decode.ts'
import { type ChangeLimits, DEFAULT_LIMITS, type Refusal } from './admission/limits.ts'
import { checkStructure } from './admission/structure.ts'
import type { Trial } from './admission/trial.ts'
import { type OpenDocument, OpenDocuments } from './open-documents.ts'
import { checkComments, checkRight, isGenesis } from './rights.ts'
import {
  type Executor,
  insertChanges,
  type LogDatabase,
  lockSeq,
  readActors,
  readDocumentBytes,
  readKnownSeqs,
  readSeq,
} from './store.ts'

export interface PushedChange {
  readonly documentId: string
  readonly kind: DocumentKind
  readonly subject: Subject | null
  readonly base: string | null
  readonly bytes: Uint8Array
}

export interface Push {
  readonly workspaceId: string
  readonly userId: string
  readonly role: Role
  readonly deviceId: string
  /** The device was connected and caught up while these changes were written. */
  readonly live: boolean
  readonly changes: readonly PushedChange[]
}

export type Verdict =
  | { readonly status: 'stored'; readonly hash: string; readonly seq: number }
  | ({ readonly status: 'refused'; readonly hash: string | null } & Refusal)

export interface Appended {
  /** One for each change of the push, in its order. */
  readonly verdicts: readonly Verdict[]
  /** The workspace's number after the push. */
  readonly seq: number
}

/** What was committed together: `changes` have the numbers `after` + 1 and on. */
export interface Commit {
  readonly workspaceId: string
  readonly after: number
  readonly seq: number
  readonly receivedAt: Date
  readonly changes: readonly CommittedChange[]
}

export interface CommittedChange {
  readonly document: Pick<OpenDocument, 'id' | 'kind' | 'subject'>
  readonly hash: string
  readonly authorId: string
  readonly deviceId: string
  readonly live: boolean
  readonly bytes: Uint8Array
}

export interface AppenderOptions {
  readonly db: LogDatabase
  readonly trial: Trial
  readonly now?: () => Date
  readonly limits?: ChangeLimits
  /** Called after each commit, before its pushes are answered. */
  readonly onCommit?: (commit: Commit) => void
  /** Operations that the indexes of one workspace may hold. Default 4 million, about 40 MB. */
  readonly maxIndexedOps?: number
  /** Workspaces whose indexes are kept between pushes. Default 200. */
  readonly maxWorkspaces?: number
}

/** Changes that are checked, tried and committed together at most. */
const GROUP = 2_000

/**
 * Appends to change logs: structure, right, trial, commit (rules LOG1 to LOG12 of SPEC.md).
 *
 * Pushes to one workspace that wait at the same time share a transaction; other workspaces do not wait for them. Any number
 * of servers may append to one workspace: whoever finds that others did meanwhile reads their changes and decides again.
 */
export class Appender {
  private readonly options: Required<AppenderOptions>
  /** In order of last use. */
  private readonly lanes = new Map<string, WorkspaceLane>()

  constructor(options: AppenderOptions) {
    this.options = {
      now: () => new Date(),
      limits: DEFAULT_LIMITS,
      onCommit: () => {},
      maxIndexedOps: 4_000_000,
      maxWorkspaces: 200,
      ...options,
    }
  }

  /** Answers after the commit. A refusal is a verdict; what is thrown (no database) means that nothing is known to be stored. */
  append(push: Push): Promise<Appended> {
    const lane = this.lanes.get(push.workspaceId) ?? new WorkspaceLane(push.workspaceId, this.options)
    this.lanes.delete(push.workspaceId)
    this.lanes.set(push.workspaceId, lane)
    const answer = lane.append(push)
    for (const [id, oldest] of this.lanes) {
      if (this.lanes.size <= this.options.maxWorkspaces) break
      if (oldest.idle) this.lanes.delete(id)
    }
    return answer
  }

  /** Reads the document again before the next change to it, because its record changed beside the log. */
  forget(workspaceId: string, documentId: string): void {
    this.lanes.get(workspaceId)?.forget(documentId)
  }
}

interface Waiting {
  readonly push: Push
  readonly resolve: (appended: Appended) => void
  readonly reject: (error: unknown) => void
}

/** A change that passed structure and right, and is in its document's index for the time being. */
interface Tentative {
  readonly push: Push
  readonly document: OpenDocument
  readonly change: DecodedChange
  readonly bytes: Uint8Array
}

type Outcome =
  | { readonly state: 'refused'; readonly hash: string | null; readonly refusal: Refusal }
  | { readonly state: 'known'; readonly documentId: string; readonly hash: string }
  | { readonly state: 'new'; readonly documentId: string; readonly hash: string }

interface Checked {
  /** For each push and each of its changes. */
  readonly outcomes: readonly (readonly Outcome[])[]
  readonly tentative: readonly Tentative[]
  /** The tentative changes of each document, and how it stood before them. */
  readonly touched: ReadonlyMap<OpenDocument, Touched>
  readonly newActors: ReadonlyMap<string, string>
}

interface Touched {
  readonly heads: readonly string[]
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
const FAILED_TRIAL: Refusal = { code: 'invalid', reason: 'it could not be applied' }

/** Somebody else appended since the lane last looked. */
class Moved extends Error {}

const keyOf = (documentId: string, hash: string): string => `${documentId}:${hash}`

class WorkspaceLane {
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
    await this.catchUp(db, locked?.seq ?? this.seq ?? (await readSeq(db, this.workspaceId)))

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
    const decoded = pushes.map(push =>
      push.changes.map(item => decodeChangeBytes(item.bytes, this.options.limits)),
    )
    const ids = pushes.flatMap(push => push.changes.map(item => item.documentId))
    const found = await this.documents.find(db, ids, this.seq!)
    await this.readBindings(
      db,
      decoded.flatMap(all => all.flatMap(one => (one.ok ? [one.change.actors[0]!] : []))),
    )

    const tentative: Tentative[] = []
    const touched = new Map<OpenDocument, Touched>()
    const newActors = new Map<string, string>()
    const outcomes = pushes.map((push, p) =>
      push.changes.map((item, i): Outcome => {
        const bytes = decoded[p]![i]!
        if (!bytes.ok) return { state: 'refused', hash: null, refusal: bytes.refusal }
        const { change } = bytes
        const { hash } = change
        const refused = (refusal: Refusal): Outcome => ({ state: 'refused', hash, refusal })

        let document = found.get(item.documentId)!
        if (document === 'foreign') return refused(FOREIGN)
        if (document !== 'new' && document.index.has(hash))
          return { state: 'known', documentId: document.id, hash }
        const guilty = condemned.get(keyOf(item.documentId, hash))
        if (guilty) return refused(guilty)
        const wrong = checkRight(push, item, document === 'new' ? null : document)
        if (wrong) return refused(wrong)
        const actor = change.actors[0]!
        const device = isGenesis(item, change) ? null : (this.actors.get(actor) ?? newActors.get(actor))
        if (device && device !== push.deviceId) return refused(OTHER_DEVICE)

        if (document === 'new') document = this.documents.create(item.documentId, item.kind, item.subject)
        const structure = checkStructure(document.index, change, this.options.limits)
        const wrongInside = structure.ok ? checkComments(push, document, item.bytes) : structure.refusal
        if (wrongInside || !structure.ok) {
          if (document.index.changeCount === 0) this.documents.close(document.id)
          return refused(wrongInside!)
        }
        found.set(item.documentId, document)
        const before = touched.get(document) ?? {
          heads: document.index.headHashes,
          changeCount: document.index.changeCount,
          changes: [],
          title: document.title,
        }
        touched.set(document, before)
        document.index.add(structure.change)
        document.authors.set(hash, push.userId)
        // An index that knows objects which are taken back later gives the same answers: nothing can name them.
        document.comments?.add(decodeChange(item.bytes))
        if (device === undefined) newActors.set(actor, push.deviceId)
        const one = { push, document, change, bytes: item.bytes }
        tentative.push(one)
        before.changes.push(one)
        return { state: 'new', documentId: document.id, hash }
      }),
    )
    return { outcomes, tentative, touched, newActors }
  }

  private async readBindings(db: Executor, actors: readonly string[]): Promise<void> {
    const unknown = [...new Set(actors)].filter(actor => !this.actors.has(actor))
    if (unknown.length === 0) return
    for (const [actor, device] of await readActors(db, this.workspaceId, unknown))
      this.actors.set(actor, device)
  }

  /** What failed, by document and hash. */
  private async tryAll(db: Executor, checked: Checked): Promise<Map<string, Refusal>> {
    const failures = new Map<string, Refusal>()
    for (const [document, before] of checked.touched) {
      const verdict = await this.options.trial.try(
        {
          id: document.id,
          heads: before.heads,
          load: () => readDocumentBytes(db, this.workspaceId, document.id, this.seq!),
        },
        before.changes.map(({ change, bytes }) => ({ hash: change.hash, deps: change.deps, bytes })),
      )
      before.title = verdict.title ?? before.title
      verdict.failures.forEach((failure, i) => {
        if (failure !== null) failures.set(keyOf(document.id, before.changes[i]!.change.hash), FAILED_TRIAL)
      })
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
      heads: document.index.headHashes,
      createdSeq: document.createdSeq || places.get(changes[0]!)!,
      seq: places.get(changes.at(-1)!)!,
    }))
    const changes = tentative.map(({ push, document, change, bytes }) => ({
      document,
      documentId: document.id,
      hash: change.hash,
      actor: change.actors[0]!,
      actorSeq: change.seq,
      authorId: push.userId,
      deviceId: push.deviceId,
      live: push.live,
      bytes,
    }))
    const append = { workspaceId, after, receivedAt, documents, actors: newActors, changes }
    if (locked) await insertChanges(locked.tx, append)
    else
      try {
        await this.options.db.transaction().execute(async tx => {
          if ((await lockSeq(tx, workspaceId)) !== after) throw new Moved()
          await insertChanges(tx, append)
        })
      } catch (error) {
        // Another workspace took a document's id meanwhile.
        if (error instanceof Error && 'code' in error && error.code === '23505') throw new Moved()
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
  private rollBack({ touched }: Checked): void {
    for (const [document, { changeCount, changes }] of touched) {
      document.index.truncate(changeCount)
      for (const one of changes) document.authors.delete(one.change.hash)
      if (changeCount === 0) this.documents.close(document.id)
    }
  }

  /** Makes what was committed what is known. */
  private settle({ touched, newActors }: Checked, commit: Commit): void {
    const places = new Map(
      commit.changes.map((one, i) => [keyOf(one.document.id, one.hash), commit.after + i + 1]),
    )
    for (const [document, { changes, title }] of touched) {
      const placeOf = (one: Tentative): number => places.get(keyOf(document.id, one.change.hash))!
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
