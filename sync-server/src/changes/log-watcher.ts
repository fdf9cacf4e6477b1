import { sql } from 'kysely'
import { type Executor, readSeq } from './store.ts'

export interface WatcherOptions {
  readonly db: Executor
  /** Hears of commits of other servers; returns how to stop. A lost message costs `pollMs`. */
  readonly subscribe?: (workspaceId: string, heard: (seq: number) => void) => () => void
  /** Milliseconds between looks into the database while somebody waits. Default 5,000. */
  readonly pollMs?: number
  /** Called when a look failed; the next one is tried anyway. Default: nothing. */
  readonly onError?: (error: unknown) => void
}

interface Watched {
  readonly waiters: Set<(seq: number) => void>
  /** Those that hear of commits by themselves, and of lost messages only from here. */
  readonly followers: Set<(seq: number) => void>
  readonly unsubscribe: () => void
}

/** Lets readers wait until a workspace's log has grown. */
export class LogWatcher {
  private readonly options: Required<WatcherOptions>
  private readonly watched = new Map<string, Watched>()
  private timer: NodeJS.Timeout | null = null

  constructor(options: WatcherOptions) {
    this.options = { subscribe: () => () => {}, pollMs: 5_000, onError: () => {}, ...options }
  }

  /** Tells that the log has reached this number. */
  announce(workspaceId: string, seq: number): void {
    for (const heard of this.watched.get(workspaceId)?.waiters ?? []) heard(seq)
  }

  /**
   * Tells every `pollMs` where the log is, for listeners of live events to find that one was lost. All of a workspace cost one
   * query together. Returns how to stop.
   */
  follow(workspaceId: string, heard: (seq: number) => void): () => void {
    return this.watch(workspaceId, 'followers', heard)
  }

  /** The log's number as soon as it is above `seq`; the number as it is when the time is over or the signal aborts. */
  async waitBeyond(
    workspaceId: string,
    seq: number,
    { signal, timeoutMs }: { signal?: AbortSignal; timeoutMs: number },
  ): Promise<number> {
    const found = Promise.withResolvers<number>()
    let greatest = 0
    const heard = (now: number): void => {
      greatest = Math.max(greatest, now)
      if (now > seq) found.resolve(now)
    }
    const giveUp = (): void => found.resolve(greatest)
    let timer: NodeJS.Timeout | undefined
    signal?.addEventListener('abort', giveUp, { once: true })
    const stop = this.watch(workspaceId, 'waiters', heard)
    try {
      // Only after listening, or what is committed in between would be missed.
      heard(await readSeq(this.options.db, workspaceId))
      timer = setTimeout(giveUp, timeoutMs)
      if (signal?.aborted) giveUp()
      return await found.promise
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', giveUp)
      stop()
    }
  }

  close(): void {
    if (this.timer) clearInterval(this.timer)
    this.timer = null
    for (const { unsubscribe } of this.watched.values()) unsubscribe()
    this.watched.clear()
  }

  private watch(workspaceId: string, as: 'waiters' | 'followers', heard: (seq: number) => void): () => void {
    let watched = this.watched.get(workspaceId)
    if (!watched) {
      const unsubscribe = this.options.subscribe(workspaceId, seq => this.announce(workspaceId, seq))
      watched = { waiters: new Set(), followers: new Set(), unsubscribe }
      this.watched.set(workspaceId, watched)
    }
    watched[as].add(heard)
    this.timer ??= setInterval(() => void this.poll(), this.options.pollMs).unref()
    return () => {
      watched[as].delete(heard)
      if (watched.waiters.size + watched.followers.size > 0 || this.watched.get(workspaceId) !== watched)
        return
      watched.unsubscribe()
      this.watched.delete(workspaceId)
      if (this.watched.size === 0 && this.timer) {
        clearInterval(this.timer)
        this.timer = null
      }
    }
  }

  private async poll(): Promise<void> {
    try {
      const { rows } = await sql<{ workspace_id: string; seq: string }>`
        select workspace_id, seq from workspace_counters
        where workspace_id = any(${[...this.watched.keys()]}::uuid[])`.execute(this.options.db)
      for (const row of rows) {
        const seq = Number(row.seq)
        this.announce(row.workspace_id, seq)
        for (const heard of this.watched.get(row.workspace_id)?.followers ?? []) heard(seq)
      }
    } catch (error) {
      this.options.onError(error)
    }
  }
}
