import { Trial } from '../../src/changes/admission/trial.ts'

/** Tries as `inner` does, and answers when so many were tried: what is decided beside each other was looked at before any of it is stored. */
export class JointTrial extends Trial {
  readonly #all = Promise.withResolvers<void>()
  readonly #inner: Trial
  #missing: number

  constructor(inner: Trial, count: number) {
    super()
    this.#inner = inner
    this.#missing = count
  }

  override async try(...given: Parameters<Trial['try']>): ReturnType<Trial['try']> {
    const verdict = await this.#inner.try(...given)
    if (--this.#missing === 0) this.#all.resolve()
    await this.#all.promise
    return verdict
  }
}

/** Tries as `inner` does, but for one document begins, or answers, only when it is released. */
export class HeldTrial extends Trial {
  readonly reached = Promise.withResolvers<void>()
  readonly release = Promise.withResolvers<void>()
  readonly #inner: Trial
  readonly #id: string
  readonly #held: 'before' | 'after'

  constructor(inner: Trial, id: string, held: 'before' | 'after' = 'before') {
    super()
    this.#inner = inner
    this.#id = id
    this.#held = held
  }

  override async try(...given: Parameters<Trial['try']>): ReturnType<Trial['try']> {
    const mine = given[0].id === this.#id
    if (mine && this.#held === 'before') await this.#hold()
    const verdict = await this.#inner.try(...given)
    if (mine && this.#held === 'after') await this.#hold()
    return verdict
  }

  async #hold(): Promise<void> {
    this.reached.resolve()
    await this.release.promise
  }
}
