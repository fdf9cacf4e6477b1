/** Time as a dependency. `now` is UTC milliseconds; order between devices never comes from it. */
export interface Clock {
  now(): number
  /** Resolves after `ms`, or at once when `signal` is aborted. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
}

export const systemClock: Clock = {
  now: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise(resolve => {
      if (signal?.aborted) return resolve()
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      signal?.addEventListener('abort', done, { once: true })
    }),
}

/** UTC, ISO 8601 with milliseconds: how times leave a process. */
export const isoTime = (ms: number): string => new Date(ms).toISOString()
