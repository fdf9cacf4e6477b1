import { AppError } from '@pluto-duck/crdt-model/errors'
import { type Checked, isNew, keyOf, type Position, sizeOf, type Tentative } from './check.ts'
import { headsOf, type OpenDocument, type OpenDocuments } from './open-documents.ts'
import type { AppenderOptions, Commit, CommittedChange, StoredRecord } from './push.ts'
import {
  type Append,
  type Counter,
  type Executor,
  insertChanges,
  type NewChange,
  openCounter,
  readActors,
  readCounter,
  readDocuments,
  readFamilyNews,
  readSettled,
} from './store.ts'
import type { Usage } from './usage.ts'

/** Others appended to the same documents, or took a name: decide again. */
export class Moved extends Error {}

/** Milliseconds that a commit waits for documents that are being tried, so that one transaction takes many. */
const GATHER_MS = 5
/** Changes of one commit at most. */
const COMMIT_CHANGES = 5_000
/** Records of other servers that are looked through for what concerns a commit; behind more of them it is decided again. */
const FAR = 5_000

interface Ready {
  readonly checked: Checked
  readonly resolve: (commit: Commit) => void
  readonly reject: (error: unknown) => void
}

/**
 * The end of the lane: what was tried is numbered and stored, many documents in one statement, one statement at a time. It appends
 * only where the log ends as this server knows it. When another server appended meanwhile, documents that it did not touch are
 * stored all the same (the verdict on a change depends on its causal past alone); the others are `Moved`.
 */
export class CommitQueue {
  private readonly workspaceId: string
  private readonly options: Required<AppenderOptions>
  private readonly documents: OpenDocuments
  private readonly actors: Map<string, string>
  private readonly usage: Usage
  /** How many documents are being worked on, the ready ones too. */
  private readonly busy: () => ReadonlySet<string>
  private ready: Ready[] = []
  private running = false
  private gathered: (() => void) | null = null
  private opened: Promise<Position> | null = null
  private seq = 0
  private foreign = 0

  constructor(
    workspaceId: string,
    options: Required<AppenderOptions>,
    documents: OpenDocuments,
    actors: Map<string, string>,
    usage: Usage,
    busy: () => ReadonlySet<string>,
  ) {
    this.workspaceId = workspaceId
    this.options = options
    this.documents = documents
    this.actors = actors
    this.usage = usage
    this.busy = busy
  }

  /** Where the log ends, as far as this server knows. Asks the database once. */
  async position(): Promise<Position> {
    this.opened ??= openCounter(this.options.db, this.workspaceId).then(
      counter => this.heard(counter),
      error => {
        this.opened = null
        throw error
      },
    )
    await this.opened
    return { seq: this.seq, foreign: this.foreign }
  }

  /** Somebody else brought the log to this number. Throws `workspace.not_found` when they closed it. */
  heard(counter: Counter): Position {
    if (counter.closed) throw new AppError('workspace.not_found', 'The workspace was purged.')
    if (counter.seq > this.seq) {
      this.seq = counter.seq
      this.foreign = counter.seq
    }
    if (counter.seq === this.seq) this.usage.read(counter)
    return { seq: this.seq, foreign: this.foreign }
  }

  /** Resolves when it is stored and everybody was told. Throws `Moved` with nothing stored. */
  commit(checked: Checked): Promise<Commit> {
    return new Promise((resolve, reject) => {
      this.ready.push({ checked, resolve, reject })
      if (this.ready.length >= this.busy().size) this.gathered?.()
      if (!this.running) void this.run()
    })
  }

  /** Stores what was checked under the lock, in its transaction. `settle` is called when that is committed. */
  async insert(tx: Executor, checked: Checked): Promise<Commit> {
    const commit = this.commitOf([checked], checked.position.seq)
    if ((await findSettled(tx, [checked])) || !(await insertOrMoved(tx, commit, [checked]))) throw new Moved()
    return commit
  }

  /** Makes what was committed what is known, and tells. */
  settle(all: readonly Checked[], commit: Commit): void {
    const places = placesOf(commit)
    for (const one of all) {
      const { bytes, documents } = sizeOf(one)
      this.usage.release(bytes, documents, commit.seq > this.seq)
    }
    for (const { touched, newActors } of all) {
      for (const [document, { changes, title }] of touched) {
        const placeOf = (one: Tentative): number => places.get(keyOf(document.id, one.hash))!
        document.createdSeq ||= placeOf(changes[0]!)
        document.seq = placeOf(changes.at(-1)!)
        document.title = title
        document.upTo = commit.seq
      }
      for (const [actor, device] of newActors) this.actors.set(actor, device)
    }
    this.seq = Math.max(this.seq, commit.seq)
    this.documents.shrink(this.busy())
    this.options.onCommit(commit)
  }

  private async run(): Promise<void> {
    this.running = true
    while (this.ready.length > 0) {
      await this.gather()
      const batch = this.next()
      try {
        await this.store(batch)
      } catch (error) {
        for (const one of batch) one.reject(error)
      }
    }
    this.running = false
  }

  /** Waits a moment while more documents are being tried than are ready. */
  private async gather(): Promise<void> {
    if (this.ready.length >= this.busy().size) return
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, GATHER_MS)
      this.gathered = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.gathered = null
  }

  private next(): Ready[] {
    let changes = 0
    const end = this.ready.findIndex((one, i) => {
      changes += one.checked.tentative.length
      return i > 0 && changes > COMMIT_CHANGES
    })
    return this.ready.splice(0, end < 0 ? this.ready.length : end)
  }

  private async store(batch: readonly Ready[]): Promise<void> {
    // The log may be found to be longer while this looks; then the statement below writes nothing.
    const after = this.seq
    const rest = await this.withoutMoved(batch)
    if (rest.length === 0) return
    const all = rest.map(one => one.checked)
    const commit = this.commitOf(all, after)
    if (await this.append(commit, all)) {
      this.settle(all, commit)
      for (const one of rest) one.resolve(commit)
      return
    }
    if (draftsOf(all).some(draft => draft.settled)) {
      this.ready.unshift(...rest)
      return
    }
    const now = await readCounter(this.options.db, this.workspaceId)
    if (now.seq <= after && !now.closed) {
      this.forgetAll()
      throw new AppError('database.unavailable', 'The log is shorter than it was.')
    }
    this.heard(now)
    this.ready.unshift(...rest)
  }

  /** False when the log does not end where the commit begins, or a draft takes no more: then nothing is stored. */
  private async append(
    commit: Commit & { changes: readonly NewChange[] },
    all: readonly Checked[],
  ): Promise<boolean> {
    const { db } = this.options
    if (draftsOf(all).length === 0) return await insertOrMoved(db, commit, all)
    // Whoever merges or closes a draft holds the counter: so a draft takes a change before that, or not at all (rule DRAFT12).
    return await db.transaction().execute(async tx => {
      await readCounter(tx, this.workspaceId, true)
      return !(await findSettled(tx, all)) && (await insertOrMoved(tx, commit, all))
    })
  }

  /** Rejects those that others were faster with, and answers the rest: nobody else touched what they were decided on. */
  private async withoutMoved(batch: readonly Ready[]): Promise<Ready[]> {
    const { db } = this.options
    const stale = batch.filter(({ checked }) => checked.position.foreign < this.foreign)
    const changed = new Map<string, number>()
    const beside = new Set<Ready>()
    if (stale.length > 0) {
      const ids = stale.flatMap(({ checked }) => [...checked.touched.keys()].map(document => document.id))
      for (const row of await readDocuments(db, this.workspaceId, ids)) changed.set(row.id, row.seq)
      for (const one of await this.metBeside(stale)) beside.add(one)
      const shown = stale.flatMap(({ checked }) => [...checked.newActors.keys()])
      if (shown.length > 0)
        for (const [actor, device] of await readActors(db, this.workspaceId, shown))
          this.actors.set(actor, device)
    }
    // Of two that show an actor first, the second finds it bound.
    const bound = new Map<string, string>()
    return batch.filter(one => {
      const { touched, newActors, position } = one.checked
      const moved =
        beside.has(one) ||
        [...touched.keys()].some(document => document.settled) ||
        [...touched.keys()].some(document => (changed.get(document.id) ?? 0) > position.seq) ||
        [...newActors].some(
          ([actor, device]) => (this.actors.get(actor) ?? bound.get(actor) ?? device) !== device,
        )
      if (moved) one.reject(new Moved())
      else for (const [actor, device] of newActors) bound.set(actor, device)
      return !moved
    })
  }

  /**
   * Those whose pipeline, or a draft of it, has something since that they were not decided on: what their actor says there, or what was
   * taken out under a draft (rules DRAFT14, VOID3).
   */
  private async metBeside(stale: readonly Ready[]): Promise<Ready[]> {
    const touching = stale.filter(({ checked }) =>
      [...checked.touched.keys()].some(one => one.kind === 'pipeline'),
    )
    if (touching.length === 0) return []
    const after = Math.min(...touching.map(({ checked }) => checked.position.seq))
    // So much is sooner decided again than looked through.
    if (this.seq - after > FAR) return touching
    const news = await readFamilyNews(this.options.db, this.workspaceId, {
      after,
      families: touching.flatMap(({ checked }) => [...checked.touched.keys()].map(familyOf)),
      actors: touching.flatMap(({ checked }) => checked.tentative.map(one => one.actor)),
    })
    return touching.filter(({ checked: { touched, position } }) =>
      news.some(
        ({ seq, family, actor }) =>
          seq > position.seq &&
          [...touched].some(
            ([document, { changes }]) =>
              familyOf(document) === family &&
              (actor === null ? document.base !== null : changes.some(one => one.actor === actor)),
          ),
      ),
    )
  }

  private forgetAll(): void {
    this.documents.closeAll()
    this.actors.clear()
    this.opened = null
    this.seq = 0
    this.foreign = 0
  }

  private commitOf(
    all: readonly Checked[],
    after: number,
  ): Commit & { changes: readonly (CommittedChange & NewChange)[] } {
    const changes = all.flatMap(({ tentative }) =>
      tentative.map(({ push, document, hash, actor, actorSeq, bytes }) => ({
        document,
        documentId: document.id,
        hash,
        actor,
        actorSeq,
        authorId: push.userId,
        deviceId: push.deviceId,
        live: push.live,
        bytes,
      })),
    )
    const { workspaceId } = this
    return { workspaceId, after, seq: after + changes.length, receivedAt: this.options.now(), changes }
  }
}

/** The pipeline that a document is, or is a draft of. */
const familyOf = (document: Pick<OpenDocument, 'id' | 'base'>): string => document.base ?? document.id

/** The drafts among what is to be stored that the log has: one that it does not have yet was not settled. */
const draftsOf = (all: readonly Checked[]): OpenDocument[] =>
  all.flatMap(({ touched }) => [...touched.keys()].filter(one => one.base !== null && !isNew(one)))

/** Whether one of them was merged or closed since it was decided on: it says so from now on. */
async function findSettled(tx: Executor, all: readonly Checked[]): Promise<boolean> {
  const drafts = draftsOf(all)
  if (drafts.length === 0) return false
  const settled = await readSettled(
    tx,
    drafts.map(draft => draft.id),
  )
  for (const draft of drafts) draft.settled = settled.has(draft.id)
  return settled.size > 0
}

/** False when the log does not end where the commit begins; throws `Moved` when another workspace took a document's id meanwhile. */
async function insertOrMoved(
  db: Executor,
  commit: Commit & { changes: readonly NewChange[] },
  all: readonly Checked[],
): Promise<boolean> {
  try {
    return await insertChanges(db, appendOf(commit, all))
  } catch (error) {
    throw error instanceof Error && 'code' in error && error.code === '23505' ? new Moved() : error
  }
}

/** What the log says of each change of a commit. */
export const recordsOf = ({ after, receivedAt, changes }: Commit): Map<string, StoredRecord> =>
  new Map(
    changes.map(({ document, hash, authorId, live }, i) => [
      keyOf(document.id, hash),
      { seq: after + i + 1, authorId, receivedAt, live },
    ]),
  )

/** The number that each change of a commit got. */
export const placesOf = (commit: Commit): Map<string, number> =>
  new Map(commit.changes.map((one, i) => [keyOf(one.document.id, one.hash), commit.after + i + 1]))

function appendOf(commit: Commit & { changes: readonly NewChange[] }, all: readonly Checked[]): Append {
  const places = placesOf(commit)
  const placeOf = (one: Tentative): number => places.get(keyOf(one.document.id, one.hash))!
  return {
    workspaceId: commit.workspaceId,
    after: commit.after,
    receivedAt: commit.receivedAt,
    changes: commit.changes,
    actors: new Map(all.flatMap(({ newActors }) => [...newActors])),
    documents: all.flatMap(({ touched }) =>
      [...touched].map(([document, { changes, title }]) => ({
        id: document.id,
        kind: document.kind,
        subject: document.subject,
        base: document.base,
        title,
        heads: headsOf(document),
        isNew: isNew(document),
        createdSeq: document.createdSeq || placeOf(changes[0]!),
        seq: placeOf(changes.at(-1)!),
      })),
    ),
  }
}
