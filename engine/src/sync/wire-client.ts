import { AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import {
  type BodyOf,
  CBOR_SEQUENCE,
  HEADER,
  type ParamsOf,
  PROTOCOL_VERSION,
  type ReplyOf,
  type Route,
} from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'

/** What a route's query takes before its defaults are filled in. */
type QueryInput<R extends Route> = R['query'] extends z.ZodType ? z.input<R['query']> : undefined
type BodyInput<R extends Route> = R['body'] extends z.ZodType ? z.input<R['body']> : BodyOf<R>

/** Only what the route has: `params`, `query`, `body`. */
export type CallInput<R extends Route> = (R extends { readonly params: z.ZodType }
  ? { readonly params: ParamsOf<R> }
  : unknown) &
  (R extends { readonly query: z.ZodType } ? { readonly query: QueryInput<R> } : unknown) &
  (R extends { readonly body: z.ZodType | 'cbor' } ? { readonly body: BodyInput<R> } : unknown)

export interface CallOptions {
  readonly signal?: AbortSignal
  /** Until the whole answer is there. Default: 30 s. */
  readonly timeoutMs?: number
}

export interface Answer<T> {
  readonly value: T
  /** Status 201: something new was made. */
  readonly created: boolean
  readonly etag: string | null
}

export interface WireClientOptions {
  /** The server's address, without a path. */
  readonly server: string
  readonly deviceId: string
  /** The session's token, asked for at every request; null sends none. */
  readonly token: () => Promise<string | null>
  readonly fetch?: typeof fetch
}

const TIMEOUT_MS = 30_000

/**
 * Calls the server's routes, from their data. Every failure is an AppError: the server's own, or `server.unreachable` when there
 * was no answer, it was cut, or it is none of ours. Answers are parsed by the route's schema.
 */
export class WireClient {
  readonly server: string
  readonly #options: WireClientOptions

  constructor(options: WireClientOptions) {
    this.server = options.server.replace(/\/+$/, '')
    this.#options = options
  }

  async call<R extends Route>(
    route: R,
    input: CallInput<R>,
    options: CallOptions = {},
  ): Promise<Answer<ReplyOf<R>>> {
    const answer = await this.#call(route, input, options, null)
    if (answer === null)
      throw new AppError('internal', 'The server answered 304 to an unconditional request.')
    return answer
  }

  /** The same with If-None-Match: null when nothing changed. */
  callIfChanged<R extends Route>(
    route: R,
    input: CallInput<R>,
    etag: string | null,
    options: CallOptions = {},
  ): Promise<Answer<ReplyOf<R>> | null> {
    return this.#call(route, input, options, etag)
  }

  /** The body as it comes in; ends when `signal` is aborted. `idleMs` without a byte is `server.unreachable`. */
  async *stream<R extends Route>(
    route: R,
    input: CallInput<R>,
    options: {
      readonly signal?: AbortSignal
      readonly idleMs?: number
      readonly headers?: Record<string, string>
      /** Called when the server has begun to answer. */
      readonly onOpen?: () => void
    } = {},
  ): AsyncGenerator<Uint8Array> {
    const idle = new AbortController()
    const idleMs = options.idleMs ?? TIMEOUT_MS
    let timer = setTimeout(() => idle.abort(), idleMs)
    const signal = options.signal ? AbortSignal.any([options.signal, idle.signal]) : idle.signal
    try {
      const response = await this.#send(route, input, signal, options.headers ?? {})
      if (!response.ok) throw await this.#refusal(response)
      options.onOpen?.()
      for await (const chunk of response.body ?? []) {
        clearTimeout(timer)
        timer = setTimeout(() => idle.abort(), idleMs)
        yield chunk as Uint8Array
      }
    } catch (error) {
      throw unreachable(error)
    } finally {
      clearTimeout(timer)
      idle.abort()
    }
  }

  async #call<R extends Route>(
    route: R,
    input: CallInput<R>,
    options: CallOptions,
    etag: string | null,
  ): Promise<Answer<ReplyOf<R>> | null> {
    const timeout = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS)
    const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout
    try {
      const response = await this.#send(route, input, signal, etag ? { 'if-none-match': etag } : {})
      if (response.status === 304) {
        await response.body?.cancel()
        return null
      }
      if (!response.ok) throw await this.#refusal(response)
      const value = await read(route, response)
      return {
        value: value as ReplyOf<R>,
        created: response.status === 201,
        etag: response.headers.get('etag'),
      }
    } catch (error) {
      throw unreachable(error)
    }
  }

  async #send<R extends Route>(
    route: R,
    input: CallInput<R>,
    signal: AbortSignal,
    extra: Record<string, string>,
  ): Promise<Response> {
    const { params, query, body } = input as {
      params?: Record<string, unknown>
      query?: Record<string, unknown>
      body?: unknown
    }
    const path = route.path.replaceAll(/:(\w+)/g, (_, name: string) =>
      encodeURIComponent(String(params?.[name])),
    )
    const url = new URL(this.server + path)
    for (const [key, value] of Object.entries(query ?? {}))
      if (value !== undefined && value !== null) url.searchParams.set(key, String(value))
    const token = route.access === 'public' ? null : await this.#options.token()
    const headers: Record<string, string> = {
      [HEADER.protocol]: String(PROTOCOL_VERSION),
      [HEADER.device]: this.#options.deviceId,
      ...(token ? { authorization: `Bearer ${token}` } : {}),
      ...extra,
    }
    const payload =
      route.body === undefined
        ? {}
        : route.body === 'cbor'
          ? {
              body: new Uint8Array(body as Uint8Array),
              headers: { ...headers, 'content-type': CBOR_SEQUENCE },
            }
          : { body: JSON.stringify(body), headers: { ...headers, 'content-type': 'application/json' } }
    const send = this.#options.fetch ?? fetch
    return await send(url, { method: route.method, headers, redirect: 'error', signal, ...payload })
  }

  async #refusal(response: Response): Promise<AppError> {
    const text = await response.text()
    const body = errorReply.safeParse(json(text))
    if (!body.success)
      return new AppError(
        'server.unreachable',
        `The address answered ${response.status}, which is none of ours.`,
      )
    const error = AppError.fromBody(body.data)
    const wait = Number(response.headers.get('retry-after'))
    if (!(wait > 0)) return error
    return new AppError(error.code, error.message, {
      hint: error.hint,
      details: { ...error.details, retry_after_s: wait },
    })
  }
}

const errorReply = z.object({ code: z.string(), message: z.string() }).loose()

async function read(route: Route, response: Response): Promise<unknown> {
  if (route.reply === 'cbor') return new Uint8Array(await response.arrayBuffer())
  if (route.reply === 'text') return await response.text()
  if (route.reply === 'sse') throw new AppError('internal', 'A stream of events is not one answer.')
  const parsed = route.reply.safeParse(json(await response.text()))
  if (!parsed.success)
    throw new AppError('server.unreachable', 'The answer of the server is none of ours.', {
      cause: parsed.error,
    })
  return parsed.data
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // Not JSON: a proxy's page, or a cut answer. The caller says so.
    return undefined
  }
}

/** What fetch throws, as an error of ours; an abort by the caller stays what it is. */
function unreachable(error: unknown): AppError {
  if (error instanceof AppError) return error
  const name = error instanceof Error ? error.name : ''
  if (error instanceof TypeError || name === 'AbortError' || name === 'TimeoutError')
    return new AppError(
      'server.unreachable',
      name === 'TimeoutError' ? 'The server did not answer in time.' : 'The server cannot be reached.',
      { cause: error },
    )
  return toAppError(error)
}
