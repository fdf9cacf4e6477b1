import type { Result } from '@pluto-duck/crdt-model/errors'
import type {
  Bridge,
  Event,
  InputOf,
  MethodName,
  OutputOf,
  TopicEvent,
  TopicName,
} from '@pluto-duck/engine/contract'
import { v7 } from 'uuid'
import { OUTLIVES_PAGE_CHARS } from '../documents/replica.ts'
import { connectionOf, listenersOf } from './listeners.ts'

const RETRY_MS = 1500

/**
 * The bridge of a page that `pluto serve` gave: calls are POSTs, events come by SSE, both with the cookie that the page load
 * set. It never rejects: a host that can't be reached is the error `host.unreachable`.
 */
export function httpBridge(base = ''): Bridge {
  const listeners = listenersOf()
  const connection = connectionOf()
  // The host tells every view about changes; this view has its own already.
  const view = v7()

  const listen = (): void => {
    const source = new EventSource(`${base}/api/events`)
    source.onopen = () => connection.set(true)
    source.onmessage = message => {
      const event = JSON.parse(message.data as string) as Event
      if (event.topic !== 'document.changes' || event.event.origin !== view) listeners.tell(event)
    }
    source.onerror = () => {
      connection.set(false)
      // The browser retries by itself, except after an answer that is no stream (host restarted, cookie unknown).
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS)
    }
  }
  listen()

  return {
    async call<M extends MethodName>(method: M, input: InputOf<M>): Promise<Result<OutputOf<M>>> {
      try {
        const body = JSON.stringify(input)
        const reply = await fetch(`${base}/api/call/${method}`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', 'x-pluto-view': view },
          credentials: 'same-origin',
          body,
          // What was written leaves the page although it is closed or loaded again in the same moment.
          keepalive: method === 'document.append' && body.length <= OUTLIVES_PAGE_CHARS,
        })
        const result = (await reply.json()) as Result<OutputOf<M>>
        // A host that was started again knows this window once its own address was opened.
        connection.set(result.ok || result.error.code !== 'host.token')
        return result
      } catch {
        connection.set(false)
        return {
          ok: false,
          error: {
            code: 'host.unreachable',
            message: 'The local host does not answer.',
            hint: 'Start it again: `pluto serve`. What was stored is safe.',
          },
        }
      }
    },
    on<T extends TopicName>(topic: T, listener: (event: TopicEvent<T>) => void) {
      return listeners.add(topic, listener)
    },
    onConnection: listener => connection.add(listener),
  }
}
