import type { BodyOf, ParamsOf, QueryOf, ReplyOf, Role, Route } from '@pluto-duck/crdt-model/protocol'
import type { Request, Response, Router } from 'express'

export interface Session {
  readonly sessionId: string
  readonly user: { readonly id: string; readonly email: string; readonly name: string }
}
export interface Membership {
  readonly workspaceId: string
  readonly role: Role
}

/** One request, checked: its parts parsed by the route's schemas, its sender allowed to make it. */
export interface Call<R extends Route = Route> {
  readonly params: ParamsOf<R>
  readonly query: QueryOf<R>
  readonly body: BodyOf<R>
  /** Null on public routes only. */
  readonly session: R['access'] extends 'public' ? null : Session
  /** The workspace that the request is about and the sender's role there; null on routes without one. */
  readonly member: R['access'] extends 'public' | 'session' ? null : Membership
  /** The device that the request names in `x-pluto-device`, bound to the sender; null when it names none. */
  readonly deviceId: string | null
  readonly requestId: string
  /** The sender's address as the server sees it through TRUST_PROXY. */
  readonly origin: string
  readonly request: Request
  readonly response: Response
  /**
   * For answers that last: aborted when the client went, the server closes, or (looked at every 10 s, in the database) the
   * session or the membership has ended.
   */
  guard(): AbortSignal
}

/** An answer of 201: something new was made. */
export class Created<T> {
  readonly reply: T
  constructor(reply: T) {
    this.reply = reply
  }
}
export const created = <T>(reply: T): Created<T> => new Created(reply)

/** The handler has written the answer to `call.response` by itself. */
export const ANSWERED = Symbol('answered')

export type Answer<R extends Route> = ReplyOf<R> | Created<ReplyOf<R>> | typeof ANSWERED
export type Handle<R extends Route> = (call: Call<R>) => Promise<Answer<R>>

export interface Implementation {
  readonly route: Route
  readonly handle: Handle<Route>
}

/** Binds a route of the protocol to the code that answers it. */
export const implement = <const R extends Route>(route: R, handle: Handle<R>): Implementation => ({
  route,
  // Each handler is only ever called with a call that was parsed by its own route.
  handle: handle as unknown as Handle<Route>,
})

type Located = 'pipeline' | 'draft' | 'run' | 'artifact' | 'schedule'

/** A part of the server: what it answers, where its things live, and what it does beside requests. */
export interface Feature {
  readonly implementations: readonly Implementation[]
  /** The workspace of a thing, or null when there is none with that id. */
  readonly locators?: Partial<Record<Located, (id: string) => Promise<string | null>>>
  /** Pages and storage addresses that are not routes of the protocol. */
  readonly router?: Router
  readonly close?: () => Promise<void>
}
