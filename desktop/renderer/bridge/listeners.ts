import type { Event, TopicEvent, TopicName } from '@pluto-duck/engine/contract'

type Listener = (event: never) => void

export interface Listeners {
  add<T extends TopicName>(topic: T, listener: (event: TopicEvent<T>) => void): () => void
  tell(event: Event): void
}

/** Who listens to which topic. */
export function listenersOf(): Listeners {
  const byTopic = new Map<TopicName, Set<Listener>>()
  return {
    add(topic, listener) {
      const held = byTopic.get(topic) ?? new Set()
      byTopic.set(topic, held)
      held.add(listener as Listener)
      return () => held.delete(listener as Listener)
    },
    tell({ topic, event }) {
      for (const listener of byTopic.get(topic) ?? []) listener(event as never)
    },
  }
}

export interface Connection {
  set(connected: boolean): void
  add(listener: (connected: boolean) => void): () => void
}

/** Whether the host answers; tells only what changed. */
export function connectionOf(): Connection {
  const told = new Set<(connected: boolean) => void>()
  let connected: boolean | null = null
  return {
    set(next) {
      if (next === connected) return
      connected = next
      for (const listener of told) listener(next)
    },
    add(listener) {
      told.add(listener)
      if (connected !== null) listener(connected)
      return () => told.delete(listener)
    },
  }
}
