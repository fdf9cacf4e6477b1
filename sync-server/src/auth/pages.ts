import { AppError } from '@pluto-duck/crdt-model/errors'
import express, { type Request, type Response, Router } from 'express'
import { z } from 'zod'
import type { ServerContext } from '../app/context.ts'
import { asRequestError } from '../app/errors.ts'
import { transact } from '../database/index.ts'
import type { FindSession } from './access.ts'
import type { AuthGateway } from './gateway.ts'
import { escapeHtml, field, page, STYLE } from './html.ts'
import { assertAddress, findInvitation, useInvitation } from './invitations.ts'
import { copyHeaders, headersOf } from './router.ts'

const text = z.string().max(300).default('')
const joinForm = z.object({
  token: text,
  mode: z.enum(['sign-up', 'sign-in']).default('sign-up'),
  name: text,
  email: text,
  password: text,
})
const signUpForm = z.object({ user_code: text, name: text, email: text, password: text })
const deviceForm = z.object({
  user_code: text,
  action: z.enum(['sign-in', 'approve', 'deny']),
  email: text,
  password: text,
})
const closed = new AppError(
  'auth.signup_closed',
  'On this server nobody makes an account without an invitation.',
)
const signedIn = z.object({ user: z.object({ id: z.string() }) })

/** The few pages that the server itself shows: joining by a link, making an account where anybody may, and allowing a device to sign in. No scripts. */
export const pagesRouter = (ctx: ServerContext, gateway: AuthGateway, find: FindSession): Router => {
  const router = Router()
  const form = express.urlencoded({ extended: false, limit: '16kb' })

  const post = (request: Request, path: string, body: unknown) =>
    gateway.handle({
      method: 'POST',
      path,
      headers: ownHeaders(request, ctx.publicUrl),
      body: Buffer.from(JSON.stringify(body)),
      origin: request.ip ?? '',
    })

  router.get('/pages.css', (_request, response) => {
    response.set('cache-control', 'public, max-age=3600').type('css').send(STYLE)
  })

  router.get('/join', async (request, response) => {
    const { token, mode } = joinForm.catch(joinForm.parse({})).parse(request.query)
    await show(response, async () => joinPage(await findInvitation(ctx.db, token), token, mode))
  })

  router.post('/join', form, async (request, response) => {
    assertOwnPage(request, ctx.publicUrl)
    const { token, mode, name, email, password } = joinForm.parse(request.body)
    const invitation = await findInvitation(ctx.db, token).catch(error => asRequestError(error))
    if (invitation instanceof AppError)
      return sendPage(response, invitation.info.status, failurePage(invitation))
    try {
      if (mode === 'sign-up') {
        copyHeaders(
          await post(request, '/sign-up/email', { name, email, password, invitation_token: token }),
          response,
        )
      } else {
        assertAddress(invitation, email)
        const answer = await post(request, '/sign-in/email', { email, password })
        const { user } = signedIn.parse(await answer.clone().json())
        await transact(ctx.db, tx => useInvitation(ctx, tx, invitation, user.id, request.ip ?? null))
        copyHeaders(answer, response)
      }
      sendPage(response, 200, joinedPage(ctx.publicUrl))
    } catch (error) {
      const problem = asRequestError(error)
      sendPage(response, problem.info.status, joinPage(invitation, token, mode, problem, { name, email }))
    }
  })

  const open = ctx.config.signup === 'open'

  router.get('/sign-up', async (request, response) => {
    const { user_code } = signUpForm.catch(signUpForm.parse({})).parse(request.query)
    if (open) sendPage(response, 200, signUpPage(user_code))
    else sendPage(response, closed.info.status, failurePage(closed))
  })

  router.post('/sign-up', form, async (request, response) => {
    assertOwnPage(request, ctx.publicUrl)
    const { user_code, name, email, password } = signUpForm.parse(request.body)
    if (!open) return sendPage(response, closed.info.status, failurePage(closed))
    try {
      copyHeaders(await post(request, '/sign-up/email', { name, email, password }), response)
      // Who came from a device's code goes on with it, signed in by now.
      if (user_code !== '') response.redirect(303, `/device?user_code=${encodeURIComponent(user_code)}`)
      else sendPage(response, 200, joinedPage(ctx.publicUrl))
    } catch (error) {
      const problem = asRequestError(error)
      sendPage(response, problem.info.status, signUpPage(user_code, problem, { name, email }))
    }
  })

  router.get('/device', async (request, response) => {
    const { user_code } = z.object({ user_code: text }).catch({ user_code: '' }).parse(request.query)
    const session = await find(headersOf(request))
    const { email } = session?.user ?? {}
    sendPage(response, 200, email === undefined ? signInPage(user_code, open) : approvePage(user_code, email))
  })

  router.post('/device', form, async (request, response) => {
    assertOwnPage(request, ctx.publicUrl)
    const { user_code, action, email, password } = deviceForm.parse(request.body)
    try {
      if (action === 'sign-in') {
        copyHeaders(await post(request, '/sign-in/email', { email, password }), response)
        response.redirect(303, `/device?user_code=${encodeURIComponent(user_code)}`)
        return
      }
      // Binds the code to who looks at it; only they can then allow it.
      const looked = await gateway.handle({
        method: 'GET',
        path: `/device?user_code=${encodeURIComponent(user_code)}`,
        headers: ownHeaders(request, ctx.publicUrl),
        body: null,
        origin: request.ip ?? '',
      })
      const answer = looked.ok ? await post(request, `/device/${action}`, { userCode: user_code }) : looked
      if (!answer.ok)
        throw new AppError('request.invalid', 'This code is wrong, was used already, or has expired.')
      sendPage(response, 200, decidedPage(action))
    } catch (error) {
      const problem = asRequestError(error)
      const session = await find(headersOf(request))
      sendPage(
        response,
        problem.info.status,
        session
          ? approvePage(user_code, session.user.email, problem)
          : signInPage(user_code, open, problem, email),
      )
    }
  })
  return router
}

const ownHeaders = (request: Request, publicUrl: string): Headers => {
  const headers = new Headers({ 'content-type': 'application/json', origin: new URL(publicUrl).origin })
  for (const name of ['cookie', 'user-agent']) {
    const value = request.get(name)
    if (value !== undefined) headers.set(name, value)
  }
  return headers
}

/** Other sites' pages may not send our forms. */
const assertOwnPage = (request: Request, publicUrl: string): void => {
  const origin = request.get('origin')
  if (origin === new URL(publicUrl).origin) return
  if (origin !== undefined && URL.canParse(origin) && new URL(origin).host === request.get('host')) return
  throw new AppError('auth.forbidden', 'This form has to be sent from its own page.', {
    hint: `Open the link again, at ${publicUrl}.`,
  })
}

const sendPage = (response: Response, status: number, html: string): void => {
  response.status(status).set('cache-control', 'no-store').type('html').send(html)
}

const show = async (response: Response, make: () => Promise<string>): Promise<void> => {
  try {
    sendPage(response, 200, await make())
  } catch (error) {
    const problem = asRequestError(error)
    sendPage(response, problem.info.status, failurePage(problem))
  }
}

const failurePage = (problem: AppError): string =>
  page(
    'Not possible',
    `<p class="problem">${escapeHtml(problem.message)}</p><p>${escapeHtml(problem.hint)}</p>`,
  )

const problemLine = (problem?: AppError): string =>
  problem ? `<p class="problem" role="alert">${escapeHtml(problem.message)}</p>` : ''

const joinPage = (
  invitation: { readonly email: string | null; readonly workspaceId: string | null },
  token: string,
  mode: 'sign-up' | 'sign-in',
  problem?: AppError,
  given?: { readonly name: string; readonly email: string },
): string => {
  const email = field('Email', 'email', 'email', given?.email || (invitation.email ?? ''), 'username')
  const hidden = `<input type="hidden" name="token" value="${escapeHtml(token)}"><input type="hidden" name="mode" value="${mode}">`
  const other = mode === 'sign-up' ? 'sign-in' : 'sign-up'
  const link = `<p><a href="/join?token=${encodeURIComponent(token)}&amp;mode=${other}">${
    mode === 'sign-up' ? 'I have an account here' : 'I have no account yet'
  }</a></p>`
  return page(
    invitation.workspaceId === null ? 'Set up Pluto Duck' : 'Join the workspace',
    `${problemLine(problem)}<form method="post" action="/join">${hidden}
      ${mode === 'sign-up' ? field('Your name', 'name', 'text', given?.name ?? '', 'name') : ''}
      ${email}
      ${field('Password (10 characters or more)', 'password', 'password', '', mode === 'sign-up' ? 'new-password' : 'current-password')}
      <button>${mode === 'sign-up' ? 'Make my account' : 'Sign in and join'}</button></form>
      ${invitation.workspaceId === null ? '' : link}`,
  )
}

const joinedPage = (publicUrl: string): string =>
  page(
    'You are in',
    `<p>Your account is ready. In the app choose <b>Sign in</b>, or on a command line:</p>
     <pre>npx pluto login --server ${escapeHtml(publicUrl)}</pre>`,
  )

const codeField = (code: string): string =>
  `<label>Code shown on your device<input name="user_code" value="${escapeHtml(code)}" required autocomplete="off" autocapitalize="characters" spellcheck="false"></label>`

const signUpPage = (
  code: string,
  problem?: AppError,
  given?: { readonly name: string; readonly email: string },
): string =>
  page(
    'Make an account',
    `${problemLine(problem)}<form method="post" action="/sign-up"><input type="hidden" name="user_code" value="${escapeHtml(code)}">
     ${field('Your name', 'name', 'text', given?.name ?? '', 'name')}
     ${field('Email', 'email', 'email', given?.email ?? '', 'username')}
     ${field('Password (10 characters or more)', 'password', 'password', '', 'new-password')}
     <button>Make my account</button></form>
     <p><a href="/device${code === '' ? '' : `?user_code=${encodeURIComponent(code)}`}">I have an account here</a></p>`,
  )

/** `open`: whoever has no account may make one. */
const signInPage = (code: string, open: boolean, problem?: AppError, email = ''): string =>
  page(
    'Sign in',
    `${problemLine(problem)}<p>A device wants to sign in as you. First show who you are.</p>
     <form method="post" action="/device"><input type="hidden" name="user_code" value="${escapeHtml(code)}">
     ${field('Email', 'email', 'email', email, 'username')}
     ${field('Password', 'password', 'password', '', 'current-password')}
     <button name="action" value="sign-in">Sign in</button></form>
     ${open ? `<p><a href="/sign-up${code === '' ? '' : `?user_code=${encodeURIComponent(code)}`}">I have no account yet</a></p>` : ''}`,
  )

const approvePage = (code: string, email: string, problem?: AppError): string =>
  page(
    'Allow this device?',
    `${problemLine(problem)}<p>It will be able to read and change everything that <b>${escapeHtml(email)}</b> can. Only go on if you started this yourself and the code is the same.</p>
     <form method="post" action="/device">${codeField(code)}
     <button name="action" value="approve">Allow</button>
     <button name="action" value="deny" class="quiet">Refuse</button></form>`,
  )

const decidedPage = (action: 'approve' | 'deny'): string =>
  action === 'approve'
    ? page('Signed in', '<p>The device is signed in. You can close this page.</p>')
    : page('Refused', '<p>The device was not signed in. You can close this page.</p>')
