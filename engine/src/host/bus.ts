import type { Event, TopicEvent, TopicName } from '../contract/index.ts'

/** What the host tells its views: in process, in order, to every listener. A listener that throws harms no other. */
export class TopicBus {
  readonly #listeners = new Set<(event: Event) => void>()
  readonly #onError: (error: unknown) => void

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError
  }

  publish<T extends TopicName>(topic: T, event: TopicEvent<T>): void {
    const message = { topic, event } as Event
    for (const listener of [...this.#listeners]) {
      try {
        listener(message)
      } catch (error) {
        this.#onError(error)
      }
    }
  }

  /** Answers the function that ends the subscription. */
  subscribe(listener: (event: Event) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }
}
