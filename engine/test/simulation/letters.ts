const FIRST = 0x4e00
const ANY = /[\u4e00-\u9fff]/g

/**
 * Letters that stand nowhere else: in a simulation that purges each edit writes one of its own into the report or the message, so that what
 * became of the edit shows in the text when its change is gone.
 */
export class Letters {
  #next = FIRST
  readonly #of = new Map<string, string>()
  readonly #loose = new Set<string>()

  fresh(): string {
    return String.fromCharCode(this.#next++)
  }

  /** The change that wrote it. */
  wrote(hash: string, mark: string): void {
    this.#of.set(hash, mark)
  }

  /** What a change wrote; absent for one without a mark. */
  of(hash: string): string | undefined {
    return this.#of.get(hash)
  }

  in(text: string): string[] {
    return text.match(ANY) ?? []
  }

  /** A person took these out of a text, or wrote them again: they may be gone, and they may be in other changes. */
  loosen(marks: Iterable<string>): void {
    for (const mark of marks) this.#loose.add(mark)
  }

  /** As `loosen`, of all up to now. */
  loosenAll(): void {
    for (let at = FIRST; at < this.#next; at++) this.#loose.add(String.fromCharCode(at))
  }

  isLoose(mark: string): boolean {
    return this.#loose.has(mark)
  }
}
