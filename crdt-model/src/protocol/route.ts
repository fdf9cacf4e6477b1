import type { z } from 'zod'
import type { Permission } from './roles.ts'

/**
 * A route as data. The server mounts it, the client calls it, OpenAPI is printed from it and one test walks all routes x all
 * roles x other workspaces. Nothing about a route is written anywhere else.
 */
export interface Route {
  /** Unique; the name of the client's method and of OpenAPI's operation: `feature.verb`. */
  readonly id: string
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  /** Express 5 syntax: `/v1/runs/:run_id`. */
  readonly path: string
  readonly summary: string
  /** `public`: no session. `session`: signed in. A permission: signed in and a member whose role has it. */
  readonly access: 'public' | 'session' | Permission
  /** Where the workspace comes from, for a route with a permission. An unknown or foreign one is answered `not_found`. */
  readonly workspace?: WorkspaceFrom
  readonly params?: z.ZodObject
  readonly query?: z.ZodObject
  /** A JSON body's schema, or `cbor` for a CBOR sequence that is described in frames.ts. */
  readonly body?: z.ZodType | 'cbor'
  /** The answer at 200 (and 201): a JSON schema, `cbor`, `sse`, or `text`. */
  readonly reply: z.ZodType | 'cbor' | 'sse' | 'text'
  /** Conditional requests: the answer carries an ETag and If-None-Match may be answered by 304. */
  readonly etag?: boolean
  /** Answers 201 when something new was made and 200 when the same thing was there already. */
  readonly creates?: boolean
  /** Largest body in bytes. Default 1 MiB. */
  readonly maxBody?: number
}

export type WorkspaceFrom =
  | { readonly in: 'params' | 'query' | 'body'; readonly field: 'workspace_id' }
  | { readonly of: 'pipeline' | 'draft' | 'run' | 'artifact' | 'schedule'; readonly param: string }

export const route = <const R extends Route>(definition: R): R => definition

type Parsed<T> = T extends z.ZodType ? z.infer<T> : undefined
export type ParamsOf<R extends Route> = Parsed<R['params']>
export type QueryOf<R extends Route> = Parsed<R['query']>
export type BodyOf<R extends Route> = R['body'] extends 'cbor' ? Uint8Array : Parsed<R['body']>
export type ReplyOf<R extends Route> = R['reply'] extends z.ZodType ? z.infer<R['reply']> : Uint8Array
