import express, { type Response as Answer, type Request, Router } from 'express'
import type { AuthGateway } from './gateway.ts'

const BODY_LIMIT = 64 * 1024

export const headersOf = (request: Request): Headers => {
  const headers = new Headers()
  for (const [name, value] of Object.entries(request.headers)) {
    if (typeof value === 'string') headers.set(name, value)
    else for (const one of value ?? []) headers.append(name, one)
  }
  return headers
}

/** Cookies and the other headers of an answer of better-auth, as Express writes them. */
export const copyHeaders = (from: Response, to: Answer): void => {
  from.headers.forEach((value, name) => {
    if (name !== 'set-cookie' && name !== 'content-length' && name !== 'content-encoding') to.set(name, value)
  })
  for (const cookie of from.headers.getSetCookie()) to.append('set-cookie', cookie)
}

/** better-auth's own routes: `/v1/auth/*`. */
export const authRouter = (gateway: AuthGateway): Router => {
  const router = Router()
  router.all(
    '/v1/auth/{*path}',
    express.raw({ type: () => true, limit: BODY_LIMIT }),
    async (request, response) => {
      response.locals.route = 'auth'
      const answer = await gateway.handle({
        method: request.method,
        path: request.originalUrl.slice('/v1/auth'.length),
        headers: headersOf(request),
        body: Buffer.isBuffer(request.body) ? request.body : null,
        origin: request.ip ?? '',
      })
      copyHeaders(answer, response)
      response.set('cache-control', 'no-store')
      response.status(answer.status).send(Buffer.from(await answer.arrayBuffer()))
    },
  )
  return router
}
