import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Refusal } from './admission/limits.ts'
import { type Checked, Checker, keyOf, type Passed, type Position } from './check.ts'
import { CommitQueue, Moved, recordsOf } from './commit-queue.ts'
import { OpenDocuments } from './open-documents.ts'
import type { Appended, AppenderOptions, Commit, Push, StoredRecord, Verdict } from './push.ts'
import { type Executor, readCounter, readKnown } from './store.ts'
import { Usage } from './usage.ts'

/** Changes of a document that are checked, tried and committed together at most. */
const GROUP = 2_000
/** Attempts to be faster than other servers before the log is locked. */
const ATTEMPTS = 4

/** What a change takes in memory beside its bytes. */
const PER_CHANGE = 300

interface Waiting {
  readonly push: Push
  readonly resolve: (verdicts: readonly Verdict[]) => void
  readonly reject: (error: unknown) => void
}

/** What waits for one document, and what is under way. */
interface Strand {
  waiting: Waiting[]
  /** Resolves when the group that is under way is decided. */
  current: Promise<void>
}

interface Attempt {
  readonly checked: Checked
  /** Null when nothing was to be stored. */
  readonly commit: Commit | null
}

/**
 * The appends of one workspace in this process. Each document has a strand of its own: a group of its waiting changes at a time is
 * checked and tried, beside those of other documents. What passed is committed by the one `CommitQueue`.
 */
export class WorkspaceLane {
  private readonly workspaceId: string
  private readonly options: Required<AppenderOptions>
  private readonly documents: OpenDocuments
  private readonly checker: Checker
  private readonly queue: CommitQueue
  /** Of the documents that something waits for or is done with. */
  private readonly strands = new Map<string, Strand>()
  private waitingBytes = 0
  private readonly forgotten = new Set<string>()

  constructor(workspaceId: string, options: Required<AppenderOptions>) {
    this.workspaceId = workspaceId
    this.options = options
    this.documents = new OpenDocuments(workspaceId, options.maxIndexedOps, (documentId, reason) =>
      options.onCorrupt(workspaceId, documentId, reason),
    )
    const actors = new Map<string, string>()
    const usage = new Usage(options.workspaceLimits)
    this.checker = new Checker(workspaceId, options, this.documents, actors, usage)
    this.queue = new CommitQueue(
      workspaceId,
      options,
      this.documents,
      actors,
      usage,
      () => new Set(this.strands.keys()),
    )
  }

  get idle(): boolean {
    return this.strands.size === 0
  }

  /** Each document's part of the push is decided by itself. Throws `request.rate_limited` when too much waits already. */
  async append(push: Push): Promise<Appended> {
    const bytes = push.changes.reduce((sum, one) => sum + one.bytes.length + PER_CHANGE, 0)
    if (this.waitingBytes > 0 && this.waitingBytes + bytes > this.options.maxWaitingBytes)
      throw new AppError('request.rate_limited', 'More is being sent to this workspace than it can take.', {
        details: { retry_after: 2 },
      })
    this.waitingBytes += bytes
    try {
      return await this.appendParts(push)
    } finally {
      this.waitingBytes -= bytes
    }
  }

  private async appendParts(push: Push): Promise<Appended> {
    const places = new Map<string, number[]>()
    push.changes.forEach(({ documentId }, i) => {
      const known = places.get(documentId)
      if (known) known.push(i)
      else places.set(documentId, [i])
    })
    const verdicts: Verdict[] = []
    const decided = await Promise.allSettled(
      [...places].map(async ([documentId, indexes]) => {
        const part = { ...push, changes: indexes.map(i => push.changes[i]!) }
        const answers = await this.enqueue(documentId, part)
        indexes.forEach((index, i) => {
          verdicts[index] = answers[i]!
        })
      }),
    )
    for (const one of decided) if (one.status === 'rejected') throw one.reason
    return { verdicts, seq: (await this.queue.position()).seq }
  }

  forget(documentId: string): void {
    this.forgotten.add(documentId)
  }

  private enqueue(documentId: string, push: Push): Promise<readonly Verdict[]> {
    return new Promise((resolve, reject) => {
      const waiting = { push, resolve, reject }
      const strand = this.strands.get(documentId)
      if (strand) strand.waiting.push(waiting)
      else {
        const started: Strand = { waiting: [waiting], current: Promise.resolve() }
        this.strands.set(documentId, started)
        void this.run(documentId, started)
      }
    })
  }

  private async run(documentId: string, strand: Strand): Promise<void> {
    while (strand.waiting.length > 0) {
      const group = nextGroup(strand)
      strand.current = this.decide(documentId, group)
      await strand.current
    }
    this.strands.delete(documentId)
  }

  /** Settles every push of the group; never throws. Begins in the turn in which it is called, before it is its strand's `current`. */
  private async decide(documentId: string, group: readonly Waiting[]): Promise<void> {
    // Only between two groups: one that is being tried holds on to its document.
    if (this.forgotten.delete(documentId)) this.documents.close(documentId)
    try {
      const verdicts = await this.appendGroup(group.map(one => one.push))
      group.forEach((one, i) => {
        one.resolve(verdicts[i]!)
      })
    } catch (error) {
      // What is open may hold what was not stored, or not hold what was.
      this.documents.close(documentId)
      for (const one of group) one.reject(error)
    }
  }

  private async appendGroup(pushes: readonly Push[]): Promise<Verdict[][]> {
    // What a draft builds on may have come just before it. All are looked up in the turn in which this group begins: a group waits for
    // those that began before it alone, so whatever a push claims to be a draft of, no two wait for each other.
    const bases = new Set(pushes.flatMap(push => push.changes.flatMap(item => item.base ?? [])))
    await Promise.all([...bases].map(base => this.strands.get(base)?.current))
    const passed: Passed = { changes: new Set(), titles: new Map() }
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      try {
        const { db } = this.options
        const position = await this.queue.position()
        const done = await this.attempt(db, position, pushes, passed, checked => this.queue.commit(checked))
        if (done.commit) this.checker.settle(done.checked)
        else await this.assertCurrent(done.checked)
        return await this.answer(db, done)
      } catch (error) {
        if (!(error instanceof Moved)) throw error
      }
    }
    return await this.appendLocked(pushes, passed)
  }

  /** What is refused for lack of something may have it by now, from another server; a commit would have found out. */
  private async assertCurrent({ outcomes, position }: Checked): Promise<void> {
    if (!outcomes.flat().some(one => one.state === 'refused')) return
    const now = await readCounter(this.options.db, this.workspaceId)
    if (this.queue.heard(now).foreign > position.foreign) throw new Moved()
  }

  /** Others append to the same document as well: decide under the lock, where nobody can. */
  private async appendLocked(pushes: readonly Push[], passed: Passed): Promise<Verdict[][]> {
    const { db } = this.options
    await this.queue.position()
    const uncommitted: Checked[] = []
    try {
      const done = await db.transaction().execute(async tx => {
        const position = this.queue.heard(await readCounter(tx, this.workspaceId, true))
        const attempt = await this.attempt(tx, position, pushes, passed, checked =>
          this.queue.insert(tx, checked),
        )
        uncommitted.push(attempt.checked)
        return attempt
      })
      uncommitted.pop()
      if (done.commit) {
        this.queue.settle([done.checked], done.commit)
        this.checker.settle(done.checked)
      }
      return await this.answer(db, done)
    } catch (error) {
      for (const checked of uncommitted) this.checker.rollBack(checked)
      // Not even under the lock: another workspace took a document's id, or something was taken out of the log since.
      throw error instanceof Moved
        ? new AppError('service.unavailable', 'The log changed while this was decided.', { cause: error })
        : error
    }
  }

  /** Throws with nothing stored and nothing left in the indexes. */
  private async attempt(
    db: Executor,
    position: Position,
    pushes: readonly Push[],
    passed: Passed,
    store: (checked: Checked) => Promise<Commit>,
  ): Promise<Attempt> {
    const condemned = new Map<string, Refusal>()
    for (;;) {
      const checked = await this.checker.check(db, position, pushes, condemned)
      try {
        const failures = await this.checker.tryAll(db, checked, passed)
        if (failures.size === 0)
          return { checked, commit: checked.tentative.length === 0 ? null : await store(checked) }
        for (const [key, refusal] of failures) condemned.set(key, refusal)
      } catch (error) {
        this.checker.rollBack(checked)
        throw error
      }
      this.checker.rollBack(checked)
    }
  }

  private async answer(db: Executor, { checked, commit }: Attempt): Promise<Verdict[][]> {
    const records = commit ? recordsOf(commit) : new Map<string, StoredRecord>()
    const known = checked.outcomes.flat().filter(one => one.state === 'known')
    for (const [key, record] of await readKnown(
      db,
      this.workspaceId,
      known.filter(one => !records.has(keyOf(one.documentId, one.hash))),
    ))
      records.set(key, record)
    // Known to this process, and not in the log any more: another one took it out.
    if (known.some(one => !records.has(keyOf(one.documentId, one.hash)))) {
      this.queue.heard(await readCounter(db, this.workspaceId))
      throw new Moved()
    }
    return checked.outcomes.map(all =>
      all.map(
        (one): Verdict =>
          one.state === 'refused'
            ? { status: 'refused', hash: one.hash, ...one.refusal }
            : { status: 'stored', hash: one.hash, ...records.get(keyOf(one.documentId, one.hash))! },
      ),
    )
  }
}

function nextGroup(strand: Strand): Waiting[] {
  const group: Waiting[] = []
  let changes = 0
  for (const one of strand.waiting) {
    if (group.length > 0 && changes + one.push.changes.length > GROUP) break
    group.push(one)
    changes += one.push.changes.length
  }
  strand.waiting = strand.waiting.slice(group.length)
  return group
}
