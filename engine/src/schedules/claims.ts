import type { AppError } from '@pluto-duck/crdt-model/errors'
import { z } from 'zod'
import { type Settings, unreadable } from '../state/index.ts'
import { type Claim, claimRecord } from './plan.ts'

const KEY = 'schedule_claims'
const CHECKED = 'schedule_claims_checked'
const stored = z.array(claimRecord)

const keyOf = ({ schedule_id, due_at }: Pick<Claim, 'schedule_id' | 'due_at'>): string =>
  `${schedule_id} ${due_at}`

/** The occurrences that this machine holds: a handful at most, stored together. A change is durable when it resolves, or was not made. */
export class Claims {
  readonly #settings: Settings
  readonly #held: Map<string, Claim>

  private constructor(settings: Settings, held: readonly Claim[]) {
    this.#settings = settings
    this.#held = new Map(held.map(claim => [keyOf(claim), claim]))
  }

  /** @param broken hears of what is stored and cannot be read; then nothing is held. */
  static async open(settings: Settings, broken: (error: AppError) => void): Promise<Claims> {
    const text = await settings.get(KEY)
    try {
      return new Claims(settings, text === null ? [] : stored.parse(JSON.parse(text)))
    } catch (cause) {
      broken(unreadable('meta', KEY, cause))
      return new Claims(settings, [])
    }
  }

  list(): Claim[] {
    return [...this.#held.values()]
  }

  /** As it is now; null once it is settled or lost. */
  current(claim: Claim): Claim | null {
    const held = this.#held.get(keyOf(claim))
    // Lost and taken again it is another one, with a run of its own.
    return held?.run_id === claim.run_id ? held : null
  }

  /** Throws when nothing can be stored now. @param now something that was not stored before: else nothing might be written. */
  check(now: string): Promise<void> {
    return this.#settings.set(CHECKED, now)
  }

  async put(claim: Claim): Promise<void> {
    const key = keyOf(claim)
    const before = this.#held.get(key)
    this.#held.set(key, claim)
    try {
      await this.#save()
    } catch (error) {
      if (this.#held.get(key) === claim) {
        if (before) this.#held.set(key, before)
        else this.#held.delete(key)
      }
      throw error
    }
  }

  /** Changes a claim that is still held; does nothing when it was lost meanwhile. */
  async change(claim: Claim, change: Partial<Claim>): Promise<void> {
    const now = this.current(claim)
    if (now) await this.put({ ...now, ...change })
  }

  /** Nothing is held of it any more, even if that could not be stored: then the next start says once more what became of it. */
  async remove(claim: Claim): Promise<void> {
    if (!this.current(claim)) return
    this.#held.delete(keyOf(claim))
    await this.#save()
  }

  #save(): Promise<void> {
    return this.#settings.set(KEY, this.#held.size === 0 ? null : JSON.stringify(stored.parse(this.list())))
  }
}
