import type { BodyOf, ParamsOf, QueryOf, ReplyOf, Route } from '@pluto-duck/crdt-model/protocol'

/** The parts of a request that a route has. */
export type RequestOf<R extends Route> = (ParamsOf<R> extends undefined
  ? unknown
  : { readonly params: ParamsOf<R> }) &
  (QueryOf<R> extends undefined ? unknown : { readonly query?: Partial<QueryOf<R>> }) &
  (BodyOf<R> extends undefined ? unknown : { readonly body: BodyOf<R> })

/** What the features of the host ask of the server. Throws the server's typed error, or `server.unreachable`. */
export interface ServerCalls {
  call<R extends Route>(route: R, request: RequestOf<R>): Promise<ReplyOf<R>>
}
