import { AppError, type Result } from '@pluto-duck/crdt-model/errors'
import { createParser } from 'eventsource-parser'
import type {
  Bridge,
  Event,
  InputOf,
  MethodName,
  OutputOf,
  TopicEvent,
  TopicName,
} from '../contract/index.ts'

import { dispatch } from '../host/dispatch.ts'
import type { Host } from '../host/host.ts'

/** A host to talk to, wherever it runs. `close` ends what this session started and nothing else. */
export interface Session extends Bridge {
  /** As `call`, but an error is thrown: commands let it go up to the one place that prints it. */
  value<M extends MethodName>(method: M, input: InputOf<M>): Promise<OutputOf<M>>
  close(): Promise<void>
}

/** Throws the error of a result as an AppError. */
export const unwrap = <T>(result: Result<T>): T => {
  if (result.ok) return result.value
  throw AppError.fromBody(result.error)
}

/** A session with a host in another process, over its loopback address. */
export const connectHttp = (origin: string, token: string): Session => {
  const headers = { authorization: `Bearer ${token}` }
  const abort = new AbortController()
  const listeners = new Set<(event: Event) => void>()
  let streaming = false

  const unreachable = (cause: unknown) =>
    new AppError('host.unreachable', `The host at ${origin} does not answer.`, { cause })

  const stream = async () => {
    const response = await fetch(`${origin}/api/events`, { headers, signal: abort.signal })
    const parser = createParser({
      onEvent: message => {
        const event = JSON.parse(message.data) as Event
        for (const listener of [...listeners]) listener(event)
      },
    })
    const decoder = new TextDecoder()
    for await (const chunk of response.body ?? []) parser.feed(decoder.decode(chunk, { stream: true }))
  }

  const call = async <M extends MethodName>(method: M, input: InputOf<M>): Promise<Result<OutputOf<M>>> => {
    try {
      const response = await fetch(`${origin}/api/call/${method}`, {
        method: 'POST',
        headers: { ...headers, 'content-type': 'application/json' },
        body: JSON.stringify(input),
        signal: abort.signal,
      })
      return (await response.json()) as Result<OutputOf<M>>
    } catch (error) {
      return { ok: false, error: unreachable(error).toBody() }
    }
  }

  return {
    call,
    value: async (method, input) => unwrap(await call(method, input)),
    on: <T extends TopicName>(topic: T, listener: (event: TopicEvent<T>) => void) => {
      const all = (message: Event) => {
        if (message.topic === topic) listener(message.event as TopicEvent<T>)
      }
      listeners.add(all)
      if (!streaming) {
        streaming = true
        // A command reads the state again when it ends, so a lost stream costs progress lines and no truth.
        stream().catch(() => {
          streaming = false
        })
      }
      return () => listeners.delete(all)
    },
    onConnection: () => () => {},
    close: async () => abort.abort(),
  }
}

/** A session with a host in this process; closing it closes the host. */
export const connectLocal = (host: Host): Session => {
  const call = async <M extends MethodName>(method: M, input: InputOf<M>): Promise<Result<OutputOf<M>>> =>
    (await dispatch(host.handlers, method, input, { viewId: 'cli' }, host.log)) as Result<OutputOf<M>>
  return {
    call,
    value: async (method, input) => unwrap(await call(method, input)),
    on: (topic, listener) =>
      host.bus.subscribe(message => {
        if (message.topic === topic) listener(message.event as never)
      }),
    onConnection: () => () => {},
    close: () => host.close(),
  }
}
