import type { Role } from '@pluto-duck/crdt-model/protocol'
import type { Kysely } from 'kysely'
import { type Database, transact } from '../database/index.ts'
import type { Audit } from './audit.ts'

/** Something that the server did not let somebody do. */
export interface RefusedAct {
  readonly workspaceId: string
  readonly userId: string
  /** Null for somebody who is no member. */
  readonly role: Role | null
  readonly deviceId: string | null
  readonly origin: string | null
  /** `change.refused` for a change of a push, `request.refused` for a whole request. */
  readonly action: 'change.refused' | 'request.refused'
  readonly objectKind: string
  readonly objectId: string | null
  /** The refusal's or the error's code. */
  readonly code: string
  readonly count: number
}

export interface RefusalsOptions {
  readonly db: Kysely<Database>
  readonly audit: Audit
  readonly clock: { now(): Date }
  /** Called when what was counted could not be written; it is counted on. */
  readonly onError: (error: unknown) => void
  /** Milliseconds for which repeats are counted into one row. Default a minute; doubled while they go on, up to an hour. */
  readonly windowMs?: number
}

/** Distinct acts of one person in one workspace that get rows of their own at the same time. */
const ACTS = 30
const WINDOW_MS = 60_000
const LONGEST_MS = 60 * 60_000

interface Counted {
  readonly act: RefusedAct
  /** Since the last row. */
  count: number
  since: Date | null
  windowMs: number
  timer: NodeJS.Timeout | undefined
  /** Settles when the first row is written. */
  readonly first: Promise<void>
}

/**
 * Audits what was refused (rules AUD3 to AUD5): the first of its kind at once, what follows as counts. However much one person sends,
 * they cost a workspace at most some 40 rows a minute, and fewer the longer they go on.
 */
export class Refusals {
  readonly #options: Required<RefusalsOptions>
  /** By workspace and person, then by kind of act. */
  readonly #people = new Map<string, Map<string, Counted>>()
  readonly #writing = new Set<Promise<void>>()

  constructor(options: RefusalsOptions) {
    this.#options = { windowMs: WINDOW_MS, ...options }
  }

  /** Resolves when the act has a row, or is counted behind one that has. Rejects when its first row cannot be written. */
  async note(act: RefusedAct): Promise<void> {
    const person = `${act.workspaceId} ${act.userId}`
    const acts = this.#people.get(person) ?? new Map<string, Counted>()
    this.#people.set(person, acts)
    let key = [act.action, act.code, act.deviceId, act.objectId].join(' ')
    let known = acts.get(key)
    if (!known && acts.size >= ACTS) {
      // Whoever varies what they send is told by code alone: there are few codes.
      key = `${act.action} ${act.code}`
      known = acts.get(key)
    }
    if (known) {
      known.count += act.count
      known.since ??= this.#options.clock.now()
      return known.first
    }
    const kept = acts.size < ACTS ? act : { ...act, deviceId: null, objectId: null }
    const first = this.#write(kept, kept.count, null)
    acts.set(key, {
      act: kept,
      count: 0,
      since: null,
      windowMs: this.#options.windowMs,
      timer: this.#later(person, key, this.#options.windowMs),
      first,
    })
    try {
      await first
    } catch (error) {
      this.#forget(person, key)
      throw error
    }
  }

  /** Writes what is counted. */
  async close(): Promise<void> {
    for (const [person, acts] of this.#people)
      for (const key of [...acts.keys()]) {
        await this.#endWindow(person, key)
        this.#forget(person, key)
      }
    await Promise.allSettled(this.#writing)
  }

  #later(person: string, key: string, ms: number): NodeJS.Timeout {
    return setTimeout(() => void this.#endWindow(person, key), ms).unref()
  }

  async #endWindow(person: string, key: string): Promise<void> {
    const counted = this.#people.get(person)?.get(key)
    if (!counted) return
    clearTimeout(counted.timer)
    const { act, count, since } = counted
    if (count === 0) {
      this.#forget(person, key)
      return
    }
    counted.count = 0
    counted.since = null
    counted.windowMs = Math.min(2 * counted.windowMs, LONGEST_MS)
    counted.timer = this.#later(person, key, counted.windowMs)
    try {
      await this.#write(act, count, since)
    } catch (error) {
      counted.count += count
      counted.since = since
      this.#options.onError(error)
    }
  }

  #forget(person: string, key: string): void {
    const acts = this.#people.get(person)
    clearTimeout(acts?.get(key)?.timer)
    acts?.delete(key)
    if (acts?.size === 0) this.#people.delete(person)
  }

  #write(act: RefusedAct, count: number, since: Date | null): Promise<void> {
    const { db, audit } = this.#options
    const written = transact(db, tx =>
      audit.record(tx, {
        workspaceId: act.workspaceId,
        actorUserId: act.userId,
        deviceId: act.deviceId,
        origin: act.origin,
        action: act.action,
        objectKind: act.objectKind,
        objectId: act.objectId,
        details: { code: act.code, count, role: act.role, ...(since ? { since: since.toISOString() } : {}) },
      }),
    )
    this.#writing.add(written)
    const done = (): void => void this.#writing.delete(written)
    written.then(done, done)
    return written
  }
}
