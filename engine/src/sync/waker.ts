import type { Clock } from '../clock.ts'

/** The waiting of the loop, and what ends it. */
export class Waker {
  readonly #clock: Clock
  readonly #stop: AbortSignal
  #wake: AbortController = new AbortController()
  #woken = false
  #urgent = false
  #backingOff = false

  constructor(clock: Clock, stop: AbortSignal) {
    this.#clock = clock
    this.#stop = stop
  }

  /** Something happened. `urgent` also ends the waiting after a failure. */
  rouse(urgent = false): void {
    if (urgent) this.#urgent = true
    this.#woken = true
    if (urgent || !this.#backingOff) this.#wake.abort()
  }

  /** Until something happens, at most so long; true when something did. */
  async sleep(ms: number): Promise<boolean> {
    if (!this.#woken && !this.#stop.aborted) {
      this.#wake = new AbortController()
      await this.#clock.sleep(Math.max(0, ms), AbortSignal.any([this.#wake.signal, this.#stop]))
    }
    const woken = this.#woken
    this.#woken = false
    this.#urgent = false
    return woken
  }

  /** The waiting after a failure: typing does not shorten it, a person's wish does. */
  async backOff(ms: number): Promise<void> {
    if (this.#urgent) {
      // Once: a wish is no reason to fail in a circle.
      this.#urgent = false
      return
    }
    this.#backingOff = true
    this.#wake = new AbortController()
    await this.#clock.sleep(ms, AbortSignal.any([this.#wake.signal, this.#stop]))
    this.#backingOff = false
    this.#urgent = false
  }

  /** Ends what waits now, for good when the loop is stopping. */
  end(): void {
    this.#wake.abort()
  }

  /** What is left of so many milliseconds since then; never more, though the time of day may jump. */
  left(since: number, ms: number): number {
    return Math.min(ms, Math.max(0, since + ms - this.#clock.now()))
  }
}
