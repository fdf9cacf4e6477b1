import { createHash } from 'node:crypto'
import { AppError, type ErrorCode } from '@pluto-duck/crdt-model/errors'
import {
  allows,
  CBOR_SEQUENCE,
  HEADER,
  id,
  MIN_PROTOCOL_VERSION,
  type Permission,
  type Role,
  type Route,
  type WorkspaceFrom,
} from '@pluto-duck/crdt-model/protocol'
import express, { type NextFunction, type Request, type RequestHandler, type Response, Router } from 'express'
import type { z } from 'zod'
import type { Access } from '../auth/access.ts'
import { BodyBudget } from './body-budget.ts'
import type { ServerContext } from './context.ts'
import {
  ANSWERED,
  type Call,
  Created,
  type Feature,
  type Implementation,
  type Membership,
  type Session,
} from './implement.ts'
import { assertStorable } from './text.ts'

const DEFAULT_BODY = 1024 * 1024
/** How long a role that was looked up when the request began may be relied on. */
const ROLE_MS = 1_000

/** What of a thing is not there; a foreign one is answered in the same words. */
const NOT_FOUND = {
  pipeline: new AppError('pipeline.not_found', 'There is no such pipeline.'),
  run: new AppError('run.not_found', 'There is no such run.'),
  artifact: new AppError('artifact.not_found', 'There is no such artifact.'),
  draft: new AppError('draft.not_found', 'There is no such draft.'),
  schedule: new AppError('schedule.not_found', 'There is no such schedule.'),
  workspace: new AppError('workspace.not_found', 'There is no such workspace.'),
}

/** Every route of the features, in front of which stand the checks that its data asks for. */
export const mount = (ctx: ServerContext, access: Access, features: readonly Feature[]): Router => {
  const router = Router({ caseSensitive: true, strict: true })
  const budget = new BodyBudget(ctx.config.pushQueue.bytes)
  const locate = locators(features)
  const methods = new Map<string, string[]>()
  for (const { route, handle } of features.flatMap(feature => feature.implementations)) {
    const verb = route.method.toLowerCase() as 'get' | 'post' | 'patch' | 'delete'
    router[verb](route.path, checkProtocol, ...stages(ctx, access, budget, locate, { route, handle }))
    methods.set(route.path, [...(methods.get(route.path) ?? []), route.method])
  }
  for (const [path, allowed] of methods) {
    router.all(path, (_request, response) => {
      response.set('allow', allowed.join(', '))
      throw new AppError('request.method_not_allowed', 'This address does not take that method.', {
        details: { allow: allowed },
      })
    })
  }
  return router
}

type Locate = (from: Extract<WorkspaceFrom, { of: string }>['of'], thing: string) => Promise<string | null>

const locators = (features: readonly Feature[]): Locate => {
  const all = Object.assign({}, ...features.map(feature => feature.locators ?? {})) as NonNullable<
    Feature['locators']
  >
  return async (kind, thing) => (await all[kind]?.(thing)) ?? null
}

const checkProtocol = (request: Request, _response: Response, next: NextFunction): void => {
  const given = request.get(HEADER.protocol)
  if (given !== undefined && !(Number(given) >= MIN_PROTOCOL_VERSION)) {
    throw new AppError('request.protocol_version', 'This server does not speak so old a protocol.', {
      details: { minimum: MIN_PROTOCOL_VERSION },
    })
  }
  next()
}

const stages = (
  ctx: ServerContext,
  access: Access,
  budget: BodyBudget,
  locate: Locate,
  { route, handle }: Implementation,
): RequestHandler[] => {
  const authenticate: RequestHandler = async (request, response, next) => {
    response.locals.route = route.id
    if (route.access !== 'public') {
      const session = await access.session(request)
      response.locals.session = session
      response.locals.user = session.user.id
      response.locals.role = roleBefore(session.user.id, request)
    }
    next()
  }
  /** Asked while the body is read, where the address says which workspace it is about. */
  const roleBefore = (userId: string, request: Request): Before | null => {
    if (!route.workspace || !('in' in route.workspace) || route.workspace.in !== 'params') return null
    const given = id.safeParse(request.params[route.workspace.field])
    if (!given.success) return null
    const role = access.role(userId, given.data)
    // Who asks for it hears of a failure; a request that was refused before does not ask.
    role.catch(() => {})
    return { workspaceId: given.data, role, until: performance.now() + ROLE_MS }
  }

  const answer: RequestHandler = async (request, response) => {
    const session = (response.locals.session ?? null) as Session | null
    const parts = parse(route, request)
    const permission = route.access === 'public' || route.access === 'session' ? null : route.access
    const member =
      permission === null || session === null
        ? null
        : await admit(request, route, permission, parts, session, response.locals.role as Before | null)
    const deviceId =
      session === null ? null : await audited(request, session, member, () => device(request, session))
    const call = {
      ...parts,
      session,
      member,
      deviceId,
      requestId: response.locals.requestId as string,
      origin: request.ip ?? '',
      request,
      response,
      guard: () => access.guard(ctx, request, response, session, member),
    }
    const answered = await audited(request, session, member, () => handle(call as unknown as Call))
    await send(route, request, response, answered)
  }

  const note = (
    request: Request,
    session: Session,
    { workspaceId, role }: { readonly workspaceId: string; readonly role: Role | null },
    code: ErrorCode,
  ): Promise<void> =>
    ctx.refusals.note({
      workspaceId,
      userId: session.user.id,
      role,
      deviceId: id.safeParse(request.get(HEADER.device)?.toLowerCase()).data ?? null,
      origin: request.ip ?? '',
      action: 'request.refused',
      objectKind: 'route',
      objectId: route.id,
      code,
      count: 1,
    })

  const noteStranger = async (request: Request, session: Session, workspaceId: string): Promise<void> => {
    try {
      if (await access.isWorkspace(workspaceId))
        await note(request, session, { workspaceId, role: null }, 'workspace.not_found')
    } catch (error) {
      ctx.log.error({ err: error }, 'a refusal could not be audited')
    }
  }

  /** Does the work; a device that is not the sender's own is audited. */
  const audited = async <T>(
    request: Request,
    session: Session | null,
    member: Membership | null,
    work: () => Promise<T>,
  ): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      if (session && member && error instanceof AppError && error.code === 'auth.device_mismatch')
        await note(request, session, member, error.code)
      throw error
    }
  }

  const admit = async (
    request: Request,
    of: Route,
    permission: Permission,
    parts: Parts,
    session: Session,
    before: Before | null,
  ): Promise<Membership> => {
    const missing = of.workspace && 'of' in of.workspace ? NOT_FOUND[of.workspace.of] : NOT_FOUND.workspace
    const workspaceId = await workspaceOf(of, parts)
    const role =
      workspaceId === null
        ? null
        : await (before?.workspaceId === workspaceId && before.until > performance.now()
            ? before.role
            : access.role(session.user.id, workspaceId))
    if (workspaceId === null || role === null) {
      // Not waited for: the answer comes as soon as for a workspace that nobody has.
      if (workspaceId !== null && of.method !== 'GET') void noteStranger(request, session, workspaceId)
      throw missing
    }
    if (!allows(role, permission)) {
      await note(request, session, { workspaceId, role }, 'auth.forbidden')
      throw new AppError('auth.forbidden', `The role ${role} does not allow this.`, {
        details: { role, permission },
      })
    }
    return { workspaceId, role }
  }

  const workspaceOf = async (of: Route, parts: Parts): Promise<string | null> => {
    if (!of.workspace) return null
    if ('of' in of.workspace) {
      const thing = parts.params?.[of.workspace.param]
      return typeof thing === 'string' ? await locate(of.workspace.of, thing) : null
    }
    const from = parts[of.workspace.in] as Record<string, unknown> | undefined
    const given = from?.[of.workspace.field]
    return typeof given === 'string' ? given : null
  }

  const device = async (request: Request, session: Session): Promise<string | null> => {
    const given = request.get(HEADER.device)
    if (given === undefined) return null
    const parsed = id.safeParse(given.toLowerCase())
    if (!parsed.success) {
      throw new AppError('request.invalid', `The header ${HEADER.device} is not a UUID v7.`)
    }
    await access.bindDevice(session.user.id, parsed.data)
    return parsed.data
  }

  return [authenticate, ...bodyParser(route, budget), answer]
}

/** A role that is being looked up. */
interface Before {
  readonly workspaceId: string
  readonly role: Promise<Role | null>
  /** A body may take long to come: then it is looked up again. */
  readonly until: number
}

interface Parts {
  readonly params: Record<string, unknown> | undefined
  readonly query: Record<string, unknown> | undefined
  readonly body: unknown
}

const bodyParser = (route: Route, budget: BodyBudget): RequestHandler[] => {
  if (route.body === undefined) return []
  const limit = route.maxBody ?? DEFAULT_BODY
  const type = route.body === 'cbor' ? CBOR_SEQUENCE : 'application/json'
  const expect: RequestHandler = (request, _response, next) => {
    if (request.is(type) === false) {
      throw new AppError('request.unsupported_media_type', `This route takes ${type}.`)
    }
    next()
  }
  if (route.body !== 'cbor') return [expect, express.json({ limit, type })]
  const makeRoom: RequestHandler = (request, response, next) => {
    // What does not say how long it is may be as long as the route takes; what is longer is refused below.
    const length = Math.min(Number(request.get('content-length') ?? limit) || limit, limit)
    response.once('close', budget.take(String(response.locals.user), length))
    next()
  }
  return [expect, makeRoom, express.raw({ limit, type })]
}

const parse = (route: Route, request: Request): Parts => ({
  params: route.params ? check(route.params, request.params, 'address') : undefined,
  query: route.query ? check(route.query, request.query, 'query') : undefined,
  body: route.body === undefined ? undefined : body(route.body, request.body),
})

const body = (schema: z.ZodType | 'cbor', given: unknown): unknown => {
  if (schema !== 'cbor') return check(schema, given ?? {}, 'body')
  return given instanceof Uint8Array ? given : new Uint8Array(0)
}

const check = <T>(schema: z.ZodType<T>, value: unknown, where: string): T => {
  const parsed = schema.safeParse(value)
  if (!parsed.success) {
    throw new AppError('request.invalid', `The ${where} of the request is not as it should be.`, {
      details: {
        issues: parsed.error.issues
          .slice(0, 20)
          .map(issue => ({ path: issue.path.map(String).join('.'), message: issue.message })),
      },
    })
  }
  assertStorable(parsed.data, where)
  return parsed.data
}

const send = async (route: Route, request: Request, response: Response, answer: unknown): Promise<void> => {
  if (answer === ANSWERED) return
  const reply = answer instanceof Created ? answer.reply : answer
  response.status(answer instanceof Created ? 201 : 200)
  const payload = reply instanceof Uint8Array ? Buffer.from(reply) : Buffer.from(JSON.stringify(reply))
  if (route.etag) {
    const etag = `"${createHash('sha256').update(payload).digest('base64url').slice(0, 27)}"`
    response.set({ etag, 'cache-control': 'private, no-cache' })
    if (matches(request.get('if-none-match'), etag)) {
      response.status(304).end()
      return
    }
  } else response.set('cache-control', 'no-store')
  response.type(
    route.reply === 'cbor' ? CBOR_SEQUENCE : route.reply === 'text' ? 'text/plain' : 'application/json',
  )
  response.send(payload)
}

const matches = (header: string | undefined, etag: string): boolean =>
  (header ?? '').split(',').some(given => given.trim() === '*' || given.trim().replace(/^W\//, '') === etag)
