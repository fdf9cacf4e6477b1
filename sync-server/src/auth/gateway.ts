import { AppError } from '@pluto-duck/crdt-model/errors'
import { z } from 'zod'
import type { ServerContext } from '../app/context.ts'
import { asRequestError } from '../app/errors.ts'
import { transact } from '../database/index.ts'
import { ADDRESS_HEADER, type Auth } from './auth.ts'
import {
  claimInvitation,
  endOwnerLinks,
  type OpenInvitation,
  releaseInvitation,
  useInvitation,
} from './invitations.ts'

export interface AuthRequest {
  readonly method: string
  /** Below `/v1/auth`, with its query: `/sign-in/email`. */
  readonly path: string
  readonly headers: Headers
  readonly body: Uint8Array | null
  /** The sender's address, for the rate limit and the session's record. */
  readonly origin: string
}

const signUp = z.looseObject({
  name: z.string().trim().min(1, 'is needed').max(100),
  email: z.email('must be an email address'),
  password: z.string().min(10, 'must have 10 characters or more').max(200),
  invitation_token: z.string().max(200).optional(),
})
const signedUp = z.object({ user: z.object({ id: z.string() }) })

/** The one way to better-auth, for its own routes and for our pages alike: sign-up by SIGNUP, errors in our form. */
export class AuthGateway {
  readonly #ctx: ServerContext
  readonly #auth: Auth

  constructor(ctx: ServerContext, auth: Auth) {
    this.#ctx = ctx
    this.#auth = auth
  }

  /** Answers as better-auth does; an error is thrown as an AppError, but for the device flow, whose errors RFC 8628 fixes. */
  async handle(request: AuthRequest): Promise<Response> {
    const path = request.path.split('?')[0] as string
    if (path === '/sign-up/email') return await this.#signUp(request)
    // better-auth would print what it cannot parse.
    if (request.body?.length && request.headers.get('content-type')?.includes('json')) json(request.body)
    return await this.#forward(request)
  }

  async #signUp(request: AuthRequest): Promise<Response> {
    const given = signUp.safeParse(json(request.body))
    if (!given.success) throw invalid(given.error)
    const { db, config } = this.#ctx
    const token = given.data.invitation_token
    let invitation: OpenInvitation | null = null
    if (token !== undefined) invitation = await claimInvitation(db, token, given.data.email)
    else if (config.signup === 'invite') {
      throw new AppError('auth.signup_closed', 'Signing up needs an invitation.')
    }
    // The first owner's link works even where sign-up is closed: without it nobody could ever come in.
    if (config.signup === 'closed' && (invitation === null || invitation.workspaceId !== null)) {
      if (invitation) await releaseInvitation(db, invitation.id)
      throw new AppError('auth.signup_closed', 'This server takes no new accounts.')
    }
    const { invitation_token: _, ...body } = given.data
    let done = false
    try {
      const response = await this.#forward({ ...request, body: Buffer.from(JSON.stringify(body)) })
      const { user } = signedUp.parse(await response.clone().json())
      if (invitation !== null) {
        const taken = invitation
        await transact(db, tx => useInvitation(this.#ctx, tx, taken, user.id, request.origin))
      }
      done = true
      await endOwnerLinks(db)
      return response
    } finally {
      if (!done && invitation !== null) await releaseInvitation(db, invitation.id)
    }
  }

  async #forward(request: AuthRequest): Promise<Response> {
    const headers = new Headers(request.headers)
    headers.delete('x-forwarded-for')
    headers.delete('content-length')
    headers.set(ADDRESS_HEADER, request.origin)
    const url = `${this.#ctx.publicUrl}/v1/auth${request.path}`
    const body = request.method === 'GET' || request.method === 'HEAD' ? null : request.body
    const sent = new Request(url, {
      method: request.method,
      headers,
      body: body === null ? null : Buffer.from(body),
    })
    const response = await this.#auth.handler(sent)
    if (response.status < 400) return response
    if (request.path.startsWith('/device') && response.status < 500 && response.status !== 429)
      return response
    throw await refusal(response)
  }
}

const json = (body: Uint8Array | null): unknown => {
  try {
    return JSON.parse(Buffer.from(body ?? []).toString('utf8'))
  } catch {
    throw new AppError('request.invalid', 'The body is not JSON.')
  }
}

const invalid = (error: z.ZodError): AppError =>
  new AppError(
    'request.invalid',
    `${error.issues[0]?.path.join('.') || 'The body'} ${error.issues[0]?.message ?? 'is wrong'}`,
    {
      details: {
        issues: error.issues.map(issue => ({ path: issue.path.join('.'), message: issue.message })),
      },
    },
  )

/** better-auth's refusals as ours; its own code goes along as `reason`. */
const refusal = async (response: Response): Promise<AppError> => {
  const body = z
    .object({ code: z.string().optional(), message: z.string().optional() })
    .catch({})
    .parse(await response.json().catch(() => ({})))
  const options = body.code ? { details: { reason: body.code } } : {}
  const message = body.message ?? 'The request was refused.'
  switch (response.status) {
    case 401:
      return body.code === 'INVALID_EMAIL_OR_PASSWORD'
        ? new AppError('auth.invalid_credentials', 'Address or password is wrong.', options)
        : new AppError('auth.required', message, options)
    case 403:
      return new AppError('auth.forbidden', message, options)
    case 404:
      return new AppError('request.not_found', 'There is nothing at this address.')
    case 429:
      return new AppError('request.rate_limited', 'Too many attempts.', {
        details: { retry_after: Number(response.headers.get('x-retry-after') ?? 60) },
      })
  }
  if (response.status >= 500) {
    return asRequestError(new Error(`better-auth answered ${response.status}: ${message}`))
  }
  return new AppError('request.invalid', message, options)
}
