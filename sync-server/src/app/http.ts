import { performance } from 'node:perf_hooks'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { HEADER } from '@pluto-duck/crdt-model/protocol'
import express, { type ErrorRequestHandler, type Express, type RequestHandler, type Router } from 'express'
import helmet from 'helmet'
import type { Logger } from 'pino'
import { v7 } from 'uuid'
import type { Config } from '../config/index.ts'
import { asRequestError } from './errors.ts'

/** The Express application around the routers: request ids, headers, the log, and errors as JSON. */
export const createApp = (config: Config, log: Logger, routers: readonly Router[]): Express => {
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('trust proxy', config.trustProxy)
  app.set('query parser', 'simple')
  app.use(requestLog(log))
  app.use(
    helmet({
      contentSecurityPolicy: {
        useDefaults: false,
        directives: {
          defaultSrc: ["'none'"],
          styleSrc: ["'self'"],
          imgSrc: ["'self'", 'data:'],
          formAction: ["'self'"],
          frameAncestors: ["'none'"],
          baseUri: ["'none'"],
        },
      },
      // With `no-referrer` a form's Origin would be "null", and its page could not be told from another site's.
      referrerPolicy: { policy: 'same-origin' },
      strictTransportSecurity: config.publicUrl?.startsWith('https:') ?? false,
    }),
  )
  for (const router of routers) app.use(router)
  app.use(() => {
    throw new AppError('request.not_found', 'There is nothing at this address.')
  })
  app.use(sendError(log))
  return app
}

/** One line for each request: no query, no body, no header of it, so that no token and no data come into the log. */
const requestLog =
  (log: Logger): RequestHandler =>
  (request, response, next) => {
    const started = performance.now()
    const requestId = v7()
    response.locals.requestId = requestId
    response.set(HEADER.requestId, requestId)
    response.once('close', () => {
      log.info(
        {
          request_id: requestId,
          method: request.method,
          route: response.locals.route ?? null,
          status: response.writableFinished ? response.statusCode : 499,
          ms: Math.round(performance.now() - started),
          user_id: response.locals.user ?? null,
        },
        'request',
      )
    })
    next()
  }

const sendError =
  (log: Logger): ErrorRequestHandler =>
  (thrown, _request, response, _next) => {
    const error = asRequestError(thrown)
    const requestId = response.locals.requestId as string
    if (error.info.status >= 500) {
      log.error({ request_id: requestId, code: error.code, err: error.cause ?? error }, error.message)
    }
    if (response.headersSent) {
      // Half an answer cannot become an error: cut it, so that the client sees it as incomplete.
      response.destroy()
      return
    }
    if (error.code === 'request.rate_limited') {
      response.set('retry-after', String(error.details?.retry_after ?? 60))
    }
    response.removeHeader('etag')
    response.set('cache-control', 'no-store')
    response.status(error.info.status).json(error.toBody(requestId))
  }
