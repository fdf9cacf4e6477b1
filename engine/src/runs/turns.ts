/** So many at the same time; the others wait, in the order in which they came. */
export class Turns {
  readonly #atOnce: number
  readonly #queue: (() => void)[] = []
  #busy = 0

  constructor(atOnce: number) {
    this.#atOnce = atOnce
  }

  /** Waits until few enough are busy, or until this one is aborted. Every call is followed by one of `leave`. */
  async take(signal: AbortSignal): Promise<void> {
    if (this.#busy >= this.#atOnce && !signal.aborted) {
      await new Promise<void>(resolve => {
        this.#queue.push(resolve)
        const leave = () => {
          const at = this.#queue.indexOf(resolve)
          if (at >= 0) this.#queue.splice(at, 1)
          resolve()
        }
        signal.addEventListener('abort', leave, { once: true })
      })
    }
    this.#busy += 1
  }

  leave(): void {
    this.#busy -= 1
    this.#queue.shift()?.()
  }
}
