import type { Clock } from '../../src/clock.ts'

/** How many times faster the devices' time goes: a poll of 30 s takes 0.3 s. */
const SPEED = 100
const LONGEST_MS = 2 ** 31 - 1

/** A device's clock: fast, and wrong by as much as somebody set it. */
export class DeviceClock implements Clock {
  readonly #start = performance.now()
  skewMs = 0

  now(): number {
    return Math.round(Date.UTC(2026, 0, 1) + (performance.now() - this.#start) * SPEED + this.skewMs)
  }

  /** What passes is real time, however the clock is set. */
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      if (signal?.aborted) return resolve()
      const done = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      const timer = setTimeout(done, Math.min(ms / SPEED, LONGEST_MS))
      signal?.addEventListener('abort', done, { once: true })
    })
  }
}
