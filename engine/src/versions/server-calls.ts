import type { BodyOf, ReplyOf, Route } from '@pluto-duck/crdt-model/protocol'
import type { z } from 'zod'

type InputOf<T> = T extends z.ZodType ? z.input<T> : never

/** The parts of a request that a route has, before its defaults are filled in. */
export type RequestOf<R extends Route> = (R['params'] extends z.ZodType
  ? { readonly params: InputOf<R['params']> }
  : unknown) &
  (R['query'] extends z.ZodType ? { readonly query: InputOf<R['query']> } : unknown) &
  (R['body'] extends z.ZodType
    ? { readonly body: InputOf<R['body']> }
    : R['body'] extends 'cbor'
      ? { readonly body: BodyOf<R> }
      : unknown)

/** What the features of the host ask of the server. Throws the server's typed error, or `server.unreachable`. */
export interface ServerCalls {
  call<R extends Route>(route: R, request: RequestOf<R>): Promise<ReplyOf<R>>
}
