import type { ErrorBody, Result } from '@pluto-duck/crdt-model/errors'
import type { InputOf, MethodName, OutputOf } from './methods.ts'
import type { Event, TopicEvent, TopicName } from './topics.ts'

export * from './comparison.ts'
export * from './drafts.ts'
export * from './method.ts'
export * from './methods.ts'
export * from './page.ts'
export * from './state.ts'
export * from './topics.ts'

/**
 * The one bridge between a UI (or the CLI) and the host.
 *
 * HTTP: `POST /api/call/<method>` with the input as JSON answers `Result`; `GET /api/events` is SSE with one `Event` in each
 * `data:`. Both want `Authorization: Bearer <host token>` (or the cookie `pluto_host` that the served page gets).
 * Electron: `ipcRenderer.invoke('pluto:call', method, input)` and `ipcRenderer.on('pluto:event')`.
 */
export interface Bridge {
  call<M extends MethodName>(method: M, input: InputOf<M>): Promise<Result<OutputOf<M>>>
  on<T extends TopicName>(topic: T, listener: (event: TopicEvent<T>) => void): () => void
  /** Tells about the connection to the host itself; `false` while it can't be reached. */
  onConnection(listener: (connected: boolean) => void): () => void
}

export type { ErrorBody, Event, Result }
