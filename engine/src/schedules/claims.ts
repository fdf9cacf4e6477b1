import { z } from 'zod'
import type { Settings } from '../state/index.ts'
import { type Claim, claimRecord } from './plan.ts'

const KEY = 'schedule_claims'
const stored = z.array(claimRecord)

const keyOf = ({ schedule_id, due_at }: Pick<Claim, 'schedule_id' | 'due_at'>): string =>
  `${schedule_id} ${due_at}`

/** The occurrences that this machine holds: a handful at most, stored together. A change is durable when it resolves. */
export class Claims {
  readonly #settings: Settings
  readonly #held: Map<string, Claim>

  private constructor(settings: Settings, held: readonly Claim[]) {
    this.#settings = settings
    this.#held = new Map(held.map(claim => [keyOf(claim), claim]))
  }

  static async open(settings: Settings): Promise<Claims> {
    const text = await settings.get(KEY)
    return new Claims(settings, text === null ? [] : stored.parse(JSON.parse(text)))
  }

  list(): Claim[] {
    return [...this.#held.values()]
  }

  /** As it is now; null once it is settled or lost. */
  current(claim: Claim): Claim | null {
    return this.#held.get(keyOf(claim)) ?? null
  }

  async put(claim: Claim): Promise<void> {
    this.#held.set(keyOf(claim), claim)
    await this.#save()
  }

  /** Changes a claim that is still held; does nothing when it was lost meanwhile. */
  async change(claim: Claim, change: Partial<Claim>): Promise<void> {
    const now = this.current(claim)
    if (now) await this.put({ ...now, ...change })
  }

  async remove(claim: Claim): Promise<void> {
    if (this.#held.delete(keyOf(claim))) await this.#save()
  }

  #save(): Promise<void> {
    return this.#settings.set(KEY, this.#held.size === 0 ? null : JSON.stringify(stored.parse(this.list())))
  }
}
