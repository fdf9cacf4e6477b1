/** What happened in one simulation, in order: printed when it fails. */
export class Trace {
  readonly #lines: string[] = []
  readonly #start = performance.now()
  /** What should not have happened at all. */
  readonly problems: string[] = []

  say(who: string, what: string): void {
    const ms = (performance.now() - this.#start).toFixed(0).padStart(6)
    this.#lines.push(`${ms} ${who.padEnd(8)} ${what}`)
  }

  problem(what: string): void {
    this.say('!!', what)
    this.problems.push(what)
  }

  text(last = 400): string {
    if (this.#lines.length <= last) return this.#lines.join('\n')
    // What led there, and how it ended.
    const head = this.#lines.slice(0, last / 2)
    return [...head, '…', ...this.#lines.slice(-last / 2)].join('\n')
  }
}
