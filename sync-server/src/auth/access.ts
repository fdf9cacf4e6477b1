import { createHash } from 'node:crypto'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Role } from '@pluto-duck/crdt-model/protocol'
import type { Request, Response } from 'express'
import { type Kysely, sql } from 'kysely'
import type { ServerContext } from '../app/context.ts'
import type { Membership, Session } from '../app/implement.ts'
import { type Database, hot, runHot } from '../database/index.ts'

/** How long an answer about a session or a device may be reused: a revoked session ends its requests within it. */
const SESSION_CACHE_MS = 10_000
const DEVICE_CACHE_MS = 60_000
const CACHE_LIMIT = 10_000
const GUARD_MS = 10_000
/** When the database cannot be asked for so long, a stream ends: it may not outlive a revocation by more than 30 s. */
const GUARD_LIMIT_MS = 25_000

const ROLES = hot(`
  select m.workspace_id, m.user_id, m.role
  from unnest($1::text[], $2::uuid[]) as asked (user_id, workspace_id)
  join members m on m.workspace_id = asked.workspace_id and m.user_id = asked.user_id`)

/** Finds the session that a request carries; null when it carries none that is good. Always asks the database. */
export type FindSession = (headers: Headers) => Promise<Session | null>

interface Entry<T> {
  readonly value: T
  readonly until: number
}

/** Who sends a request and what they may do. */
export class Access {
  readonly #db: Kysely<Database>
  readonly #find: FindSession
  readonly #publicOrigin: string
  readonly #sessions = new Map<string, Entry<Session>>()
  readonly #devices = new Map<string, Entry<true>>()
  #asked: {
    readonly userId: string
    readonly workspaceId: string
    readonly resolve: (role: Role | null) => void
    readonly reject: (error: unknown) => void
  }[] = []

  constructor(db: Kysely<Database>, publicUrl: string, find: FindSession) {
    this.#db = db
    this.#find = find
    this.#publicOrigin = new URL(publicUrl).origin
  }

  /** The session of a request; `auth.required` without credentials, `auth.expired` with ones that are no good any more. */
  async session(request: Request): Promise<Session> {
    const { authorization, cookie } = request.headers
    if (authorization === undefined && cookie === undefined) {
      throw new AppError('auth.required', 'Sign in first.')
    }
    if (authorization === undefined) this.#assertSameOrigin(request)
    const key = createHash('sha256')
      .update(JSON.stringify([authorization, authorization === undefined ? cookie : '']))
      .digest('base64')
    const cached = fresh(this.#sessions, key)
    if (cached) return cached
    const session = await this.#find(credentials(authorization, cookie))
    if (!session) {
      this.#sessions.delete(key)
      throw authorization === undefined
        ? new AppError('auth.required', 'Sign in first.')
        : new AppError('auth.expired', 'This session has ended.')
    }
    remember(this.#sessions, key, session, SESSION_CACHE_MS)
    return session
  }

  /** Forgets what is known about a session, so that its end shows at once in this process. */
  forget(sessionId: string): void {
    for (const [key, entry] of this.#sessions) {
      if (entry.value.sessionId === sessionId) this.#sessions.delete(key)
    }
  }

  /**
   * As the database has it when it is asked, so that a change of role holds from the next request on, on every server. Requests
   * that come in one turn of the loop are looked up together.
   */
  role(userId: string, workspaceId: string): Promise<Role | null> {
    return new Promise((resolve, reject) => {
      this.#asked.push({ userId, workspaceId, resolve, reject })
      if (this.#asked.length === 1) setImmediate(() => void this.#lookUp())
    })
  }

  async #lookUp(): Promise<void> {
    const asked = this.#asked
    this.#asked = []
    try {
      const { rows } = await runHot<{ user_id: string; workspace_id: string; role: Role }>(this.#db, ROLES, [
        asked.map(one => one.userId),
        asked.map(one => one.workspaceId),
      ])
      const roles = new Map(rows.map(row => [`${row.workspace_id} ${row.user_id}`, row.role]))
      for (const one of asked)
        one.resolve(roles.get(`${one.workspaceId.toLowerCase()} ${one.userId}`) ?? null)
    } catch (error) {
      for (const one of asked) one.reject(error)
    }
  }

  async isWorkspace(id: string): Promise<boolean> {
    const query = this.#db.selectFrom('workspaces').select('id').where('id', '=', id)
    return (await query.executeTakeFirst()) !== undefined
  }

  /** Binds a device to whoever shows it first; `auth.device_mismatch` when it is somebody else's. */
  async bindDevice(userId: string, deviceId: string): Promise<void> {
    const key = `${userId} ${deviceId}`
    if (fresh(this.#devices, key)) return
    const { rows } = await sql`
      insert into devices (id, user_id) values (${deviceId}, ${userId})
      on conflict (id) do update set last_seen_at = now() where devices.user_id = excluded.user_id
      returning id`.execute(this.#db)
    if (rows.length === 0) {
      throw new AppError('auth.device_mismatch', 'This device id belongs to somebody else.')
    }
    remember(this.#devices, key, true, DEVICE_CACHE_MS)
  }

  /** See `Call.guard`. */
  guard(
    ctx: ServerContext,
    request: Request,
    response: Response,
    session: Session | null,
    member: Membership | null,
  ): AbortSignal {
    const over = new AbortController()
    const end = (): void => over.abort()
    if (response.closed || ctx.closing.aborted) end()
    response.once('close', end)
    ctx.closing.addEventListener('abort', end, { once: true })
    let seen = performance.now()
    const look = async (): Promise<void> => {
      try {
        if (await this.#stillAllowed(request, session, member)) seen = performance.now()
        else end()
      } catch (error) {
        ctx.log.warn({ err: error }, 'a stream’s rights could not be looked at')
        if (performance.now() - seen > GUARD_LIMIT_MS) end()
      }
    }
    const timer = setInterval(() => void look(), GUARD_MS)
    const unsubscribe =
      member === null
        ? () => {}
        : ctx.bus.subscribe(member.workspaceId, event => {
            if (event.type === 'member' && event.user_id === session?.user.id) void look()
          })
    over.signal.addEventListener('abort', () => {
      clearInterval(timer)
      unsubscribe()
      ctx.closing.removeEventListener('abort', end)
    })
    if (over.signal.aborted) {
      clearInterval(timer)
      unsubscribe()
    }
    return over.signal
  }

  async #stillAllowed(
    request: Request,
    session: Session | null,
    member: Membership | null,
  ): Promise<boolean> {
    if (session === null) return true
    const { authorization, cookie } = request.headers
    const found = await this.#find(credentials(authorization, cookie))
    if (found?.sessionId !== session.sessionId) return false
    return member === null || (await this.role(session.user.id, member.workspaceId)) !== null
  }

  /** A cookie is sent by the browser from any page: a request that changes something has to come from ours. */
  #assertSameOrigin(request: Request): void {
    if (request.method === 'GET' || request.method === 'HEAD') return
    if (request.headers.origin === this.#publicOrigin) return
    throw new AppError('auth.forbidden', 'A request with a cookie has to come from this server’s own pages.')
  }
}

const credentials = (authorization: string | undefined, cookie: string | undefined): Headers => {
  const headers = new Headers()
  if (authorization !== undefined) headers.set('authorization', authorization)
  else if (cookie !== undefined) headers.set('cookie', cookie)
  return headers
}

const fresh = <T>(cache: Map<string, Entry<T>>, key: string): T | null => {
  const entry = cache.get(key)
  if (entry === undefined) return null
  if (entry.until > performance.now()) return entry.value
  cache.delete(key)
  return null
}

const remember = <T>(cache: Map<string, Entry<T>>, key: string, value: T, forMs: number): void => {
  if (cache.size >= CACHE_LIMIT) cache.clear()
  cache.set(key, { value, until: performance.now() + forMs })
}
