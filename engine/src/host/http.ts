import { timingSafeEqual } from 'node:crypto'
import { existsSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { AppError, type ErrorBody } from '@pluto-duck/crdt-model/errors'
import express, { type NextFunction, type Request, type Response } from 'express'
import helmet from 'helmet'
import type { TopicBus } from './bus.ts'
import { type DispatchLog, dispatch, type Handlers } from './dispatch.ts'

export interface ServeOptions {
  readonly handlers: Handlers
  readonly bus: TopicBus
  readonly log: DispatchLog
  /** Whoever has it may do everything that the owner of this data folder may. At least 32 random bytes, as text. */
  readonly token: string
  /** Default 0: any free port. Always on 127.0.0.1. */
  readonly port?: number
  /** The built renderer; without it only the API is served. */
  readonly staticDir?: string
}

export interface Served {
  readonly port: number
  /** The address for a browser, with the token that its first visit turns into a cookie. */
  readonly url: string
  close(): Promise<void>
}

const COOKIE = 'pluto_host'
const MAX_BODY = '64mb'
const KEEP_ALIVE_MS = 15_000
/** How long calls under way may take to end when the host stops. */
const DRAIN_MS = 2_000

/**
 * Serves the bridge and the app on loopback.
 *
 * Guards: only 127.0.0.1 and localhost as Host (a rebound name can't reach it), the token on every call, a same-site strict
 * cookie and an Origin check for browsers, a CSP without remote content.
 */
export const serveHost = async (options: ServeOptions): Promise<Served> => {
  const app = express()
  app.disable('x-powered-by')
  let port = options.port ?? 0

  app.use((request, _response, next) => {
    const host = request.headers.host ?? ''
    if (host !== `127.0.0.1:${port}` && host !== `localhost:${port}`) {
      throw new AppError('auth.forbidden', 'This address is not served here.')
    }
    const origin = request.headers.origin
    if (origin && origin !== `http://127.0.0.1:${port}` && origin !== `http://localhost:${port}`) {
      throw new AppError('auth.forbidden', 'Calls from other sites are refused.')
    }
    next()
  })
  app.use(
    helmet({
      contentSecurityPolicy: {
        useDefaults: false,
        directives: {
          defaultSrc: ["'none'"],
          scriptSrc: ["'self'", "'wasm-unsafe-eval'"],
          styleSrc: ["'self'", "'unsafe-inline'"],
          fontSrc: ["'self'"],
          imgSrc: ["'self'", 'data:'],
          connectSrc: ["'self'"],
          frameSrc: ["'self'"],
          workerSrc: ["'self'", 'blob:'],
          baseUri: ["'none'"],
          formAction: ["'none'"],
          frameAncestors: ["'none'"],
        },
      },
      strictTransportSecurity: false,
    }),
  )

  const authorised = (request: Request): boolean => {
    const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1]
    const cookie = (request.headers.cookie ?? '')
      .split(/;\s*/)
      .find(part => part.startsWith(`${COOKIE}_${port}=`))
      ?.slice(`${COOKIE}_${port}=`.length)
    return sameToken(bearer, options.token) || sameToken(cookie, options.token)
  }

  app.get('/', (request, response, next) => {
    const given = request.query.token
    if (typeof given !== 'string') return next()
    if (!sameToken(given, options.token))
      throw new AppError('host.token', 'The token in the address is not right.')
    response.cookie(`${COOKIE}_${port}`, options.token, { httpOnly: true, sameSite: 'strict', path: '/' })
    response.redirect(303, '/')
  })

  const guard = (request: Request, _response: Response, next: NextFunction) => {
    if (!authorised(request)) throw new AppError('host.token', 'This host wants its token.')
    next()
  }

  app.post(
    '/api/call/:method',
    guard,
    express.json({ limit: MAX_BODY, strict: false }),
    async (request, response) => {
      if (!request.is('application/json')) {
        throw new AppError('request.unsupported_media_type', 'Send the input as application/json.')
      }
      const viewId = request.headers['x-pluto-view']
      const result = await dispatch(
        options.handlers,
        request.params.method as string,
        request.body,
        { viewId: typeof viewId === 'string' ? viewId.slice(0, 64) : 'http' },
        options.log,
      )
      response.json(result)
    },
  )

  const streams = new Set<Response>()
  app.get('/api/events', guard, (_request, response) => {
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    })
    response.write('retry: 1000\n\n')
    streams.add(response)
    const end = options.bus.subscribe(event => response.write(`data: ${JSON.stringify(event)}\n\n`))
    const beat = setInterval(() => response.write(': still here\n\n'), KEEP_ALIVE_MS)
    response.on('close', () => {
      end()
      clearInterval(beat)
      streams.delete(response)
    })
  })

  if (options.staticDir && existsSync(options.staticDir)) {
    const dir = options.staticDir
    app.use(
      express.static(dir, {
        index: 'index.html',
        setHeaders: (response, path) => {
          // Vite names what is below assets/ by content; the rest is small and may change with an update.
          response.setHeader(
            'cache-control',
            path.includes(`${join(dir, 'assets')}`) ? 'max-age=31536000, immutable' : 'no-cache',
          )
        },
      }),
    )
  }
  app.use((request: Request) => {
    throw new AppError('request.not_found', `There is nothing at ${request.method} ${request.path}.`)
  })
  app.use((thrown: unknown, _request: Request, response: Response, next: NextFunction) => {
    if (response.headersSent) return next(thrown)
    const error = fromHttp(thrown)
    if (error.code === 'internal') options.log.error({ err: error.cause ?? error }, 'a request failed')
    const body: { ok: false; error: ErrorBody } = { ok: false, error: error.toBody() }
    response.status(error.info.status).json(body)
  })

  const server: Server = createServer(app)
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', resolve)
  })
  port = (server.address() as AddressInfo).port
  return {
    port,
    url: `http://127.0.0.1:${port}/?token=${encodeURIComponent(options.token)}`,
    close: () =>
      new Promise((resolve, reject) => {
        for (const stream of streams) stream.end()
        server.close(error => (error ? reject(error) : resolve()))
        server.closeIdleConnections()
        // A browser keeps its connections, and a new request on one would hold the host up for ever.
        setTimeout(() => server.closeAllConnections(), DRAIN_MS).unref()
      }),
  }
}

const sameToken = (given: string | undefined, token: string): boolean => {
  if (!given) return false
  const a = Buffer.from(given)
  const b = Buffer.from(token)
  return a.length === b.length && timingSafeEqual(a, b)
}

/** body-parser's errors carry a status and a type; everything else is ours or a bug. */
const fromHttp = (thrown: unknown): AppError => {
  if (thrown instanceof AppError) return thrown
  const { status, type } = (thrown ?? {}) as { status?: number; type?: string }
  if (type === 'entity.too.large')
    return new AppError('request.too_large', `The body is larger than ${MAX_BODY}.`)
  if (status && status >= 400 && status < 500)
    return new AppError('request.invalid', 'The body is not JSON.', { cause: thrown })
  return new AppError('internal', 'Something went wrong inside the program.', { cause: thrown })
}
