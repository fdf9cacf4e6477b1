import { AppError } from '@pluto-duck/crdt-model/errors'

/** Of all that may be under way, what one person may take. */
const SHARE = 1 / 4
const RETRY_AFTER_S = 2

/**
 * Bytes of large request bodies that are under way in this process, from before they are read until they are answered: so that
 * memory stays bounded however many send at once, and one person's requests leave room for the others'.
 */
export class BodyBudget {
  readonly #limit: number
  readonly #users = new Map<string, number>()
  #total = 0

  /** @param limit in bytes. */
  constructor(limit: number) {
    this.#limit = limit
  }

  /** Takes room for a body; the answer gives it back. `request.rate_limited` when there is none. One body alone always has room. */
  take(user: string, bytes: number): () => void {
    const mine = this.#users.get(user) ?? 0
    const full = this.#total > 0 && this.#total + bytes > this.#limit
    if (full || (mine > 0 && mine + bytes > this.#limit * SHARE))
      throw new AppError('request.rate_limited', 'More is being sent to this server than it can take.', {
        details: { retry_after: RETRY_AFTER_S },
      })
    this.#add(user, bytes)
    let taken = true
    return () => {
      if (taken) this.#add(user, -bytes)
      taken = false
    }
  }

  #add(user: string, bytes: number): void {
    this.#total += bytes
    const mine = (this.#users.get(user) ?? 0) + bytes
    if (mine > 0) this.#users.set(user, mine)
    else this.#users.delete(user)
  }
}
