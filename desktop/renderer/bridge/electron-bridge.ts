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
import { connectionOf, listenersOf } from './listeners.ts'
import type { PlutoWindow } from './pluto-window.ts'

/** The bridge of the Electron window, over the one object that the preload script exposes. */
export function electronBridge(pluto: PlutoWindow): Bridge {
  const listeners = listenersOf()
  const connection = connectionOf()
  pluto.onEvent(event => listeners.tell(event as Event))
  pluto.onConnection(connected => connection.set(connected))
  return {
    call: <M extends MethodName>(method: M, input: InputOf<M>) =>
      pluto.call(method, input) as Promise<Result<OutputOf<M>>>,
    on<T extends TopicName>(topic: T, listener: (event: TopicEvent<T>) => void) {
      return listeners.add(topic, listener)
    },
    onConnection: listener => connection.add(listener),
  }
}
