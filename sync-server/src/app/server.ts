import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { type Logger, pino } from 'pino'
import { artifactsFeature } from '../artifacts/index.ts'
import { Audit, auditFeature, Refusals } from '../audit/index.ts'
import {
  Access,
  AuthGateway,
  authRouter,
  createAuth,
  endOwnerLinks,
  findSession,
  firstOwnerToken,
  identityFeature,
  pagesRouter,
} from '../auth/index.ts'
import { changesFeature, startTrials, type Trials, warmUp } from '../changes/index.ts'
import { type Config, keepSecret } from '../config/index.ts'
import { createDatabase, type MakeSocket, migrate } from '../database/index.ts'
import { draftsFeature } from '../drafts/index.ts'
import { runsFeature } from '../runs/index.ts'
import { schedulesFeature } from '../schedules/index.ts'
import { versionsFeature } from '../versions/index.ts'
import { workspacesFeature } from '../workspaces/index.ts'
import { type Clock, type ServerContext, systemClock } from './context.ts'
import { EventBus } from './event-bus.ts'
import { healthFeature, type Probes } from './health.ts'
import { createApp } from './http.ts'
import type { Feature } from './implement.ts'
import { mount } from './mount.ts'

export interface StartOptions {
  /** Default: JSON lines on stderr at the configured level. */
  readonly log?: Logger
  readonly clock?: Clock
  /** Workers for trials that several servers of one process share; who made them ends them. Default: the server's own. */
  readonly trials?: Trials
  /**
   * Have a worker for trials started and warm before the first edit comes; not waited for. Default: it starts with the first edit, which
   * then waits for it.
   */
  readonly warm?: boolean
  /** How connections to Postgres are made. Default: Node's own sockets; a test puts its faults there. */
  readonly databaseSocket?: MakeSocket
}

export interface RunningServer {
  /** Where it listens on this machine, for programs on this machine. */
  readonly url: string
  /** What people and other machines use. */
  readonly publicUrl: string
  /** The one-time link of the first owner; null when there are accounts already. */
  readonly ownerLink: string | null
  /** Resolves when a server that starts `warm` is; at once for any other. */
  readonly warmed: Promise<void>
  /** A session of a user, for the program that embeds the server; a bearer token. There is no HTTP way to this. */
  issueSession(userId: string): Promise<string>
  /** The user with that address, made without a password when there is none. Answers the user's id. */
  ensureLocalOwner(person: { readonly name: string; readonly email: string }): Promise<string>
  /** Answers what is under way (10 s at most), ends streams, closes the database. May be called more than once. */
  close(): Promise<void>
}

const DRAIN_MS = 10_000
const IDLE_MS = 50

/**
 * Starts the whole server: database, schema, routes. When it resolves, it answers. Throws `config.invalid` naming the
 * setting, or `database.unavailable`; nothing is left running then.
 */
export const startServer = async (config: Config, options: StartOptions = {}): Promise<RunningServer> => {
  const log = options.log ?? pino({ level: config.logLevel }, pino.destination({ dest: 2, sync: false }))
  const closing = new AbortController()
  const cleanups: (() => Promise<void>)[] = []
  let http: Server | null = null
  let closed: Promise<void> | undefined
  const close = (): Promise<void> => {
    closed ??= (async () => {
      closing.abort()
      // First the requests end, then what they use.
      if (http) await drain(http)
      for (const cleanup of cleanups.reverse()) await cleanup()
    })()
    return closed
  }
  try {
    const gate = createGate()
    const database = await createDatabase(
      config,
      error => log.warn({ err: error }, 'database'),
      options.databaseSocket,
    )
    cleanups.push(() => database.close())
    await migrate(database.db)
    http = await listen(config, gate.listener)
    const port = (http.address() as AddressInfo).port
    const publicUrl = config.publicUrl ?? `http://localhost:${port}`
    const secret = config.authSecret ?? (await keepSecret(config.dataDir, 'auth-secret'))
    const clock = options.clock ?? systemClock
    const bus = new EventBus(database.db, database.url, log, options.databaseSocket)
    await bus.start()
    cleanups.push(() => bus.close())
    const audit = new Audit(clock)
    const refusals = new Refusals({
      db: database.db,
      audit,
      clock,
      onError: error => log.error({ err: error }, 'refusals could not be audited'),
    })
    cleanups.push(() => refusals.close())
    let warming: Promise<void> = Promise.resolve()
    const warmed = options.warm && !options.trials ? startTrials() : null
    if (warmed)
      cleanups.push(async () => {
        await warming
        await warmed.close()
      })
    const ctx: ServerContext = {
      config,
      publicUrl,
      secret,
      db: database.db,
      pool: database.pool,
      databaseUrl: database.url,
      log,
      clock,
      bus,
      audit,
      refusals,
      trials: options.trials ?? warmed,
      closing: closing.signal,
    }
    const auth = createAuth({ db: database.db, secret, publicUrl, log })
    const find = findSession(auth)
    const access = new Access(database.db, publicUrl, find)
    const gateway = new AuthGateway(ctx, auth)
    const features = createFeatures(ctx, access, { database: database.ping })
    for (const { close: end } of features) if (end) cleanups.push(end)
    gate.open(
      createApp(config, log, [
        authRouter(gateway),
        mount(ctx, access, features),
        ...features.flatMap(feature => feature.router ?? []),
        pagesRouter(ctx, gateway, find),
      ]),
    )
    if (warmed)
      warming = warmUp(warmed.trial, closing.signal).then(
        () => undefined,
        error => log.error({ err: error }, 'trials could not be warmed up'),
      )
    const token = await firstOwnerToken(database.db)
    return {
      url: `http://${config.host.includes(':') ? `[${config.host}]` : loopback(config.host)}:${port}`,
      publicUrl,
      warmed: warming,
      ownerLink: token === null ? null : `${publicUrl}/join?token=${token}`,
      issueSession: async userId => {
        const session = await (await auth.$context).internalAdapter.createSession(userId)
        return session.token
      },
      ensureLocalOwner: async ({ name, email }) => {
        const { internalAdapter } = await auth.$context
        const address = email.toLowerCase()
        const found = await internalAdapter.findUserByEmail(address)
        if (found) return found.user.id
        const made = await internalAdapter.createUser(
          { name, email: address, emailVerified: true },
          { method: 'local' },
        )
        await endOwnerLinks(ctx.db)
        return made.id
      },
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

const createFeatures = (ctx: ServerContext, access: Access, probes: Probes): Feature[] => {
  const artifacts = artifactsFeature(ctx)
  const changes = changesFeature(ctx)
  return [
    healthFeature(ctx.publicUrl, { ...probes, storage: artifacts.ping }),
    identityFeature(ctx, access),
    workspacesFeature(ctx),
    versionsFeature(ctx),
    draftsFeature(ctx, changes.appender),
    runsFeature(ctx, access),
    artifacts,
    schedulesFeature(ctx, access),
    auditFeature(ctx),
    changes,
  ]
}

/** An address that can be called: a server on all interfaces is called on loopback. */
const loopback = (host: string): string => (host === '0.0.0.0' ? '127.0.0.1' : host)

/** Requests that come between listening and being ready wait for the application. */
const createGate = (): { listener: RequestListener; open: (app: RequestListener) => void } => {
  const ready = Promise.withResolvers<RequestListener>()
  let app: RequestListener | null = null
  return {
    listener: (request, response) => {
      if (app) app(request, response)
      else void ready.promise.then(opened => opened(request, response))
    },
    open: opened => {
      app = opened
      ready.resolve(opened)
    },
  }
}

const listen = (config: Config, listener: RequestListener): Promise<Server> =>
  new Promise((resolve, reject) => {
    const server = createServer({ keepAliveTimeout: 65_000 }, listener)
    watchConnections(server)
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const setting = cause.code === 'EADDRINUSE' || cause.code === 'EACCES' ? 'PORT' : 'HOST'
      const what =
        setting === 'PORT'
          ? `${config.port} is taken or not allowed`
          : `${config.host} is no address of this machine`
      reject(
        new AppError('config.invalid', `${setting}: ${what}.`, {
          hint: `Set ${setting} to another, then start again.`,
          details: { setting },
          cause,
        }),
      )
    })
    server.listen(config.port, config.host, () => resolve(server))
  })

const drain = async (server: Server): Promise<void> => {
  const ended = new Promise<void>(resolve => server.close(() => resolve()))
  // Those that have asked nothing yet, as browsers make them in advance: to Node they are not idle.
  for (const socket of connections.get(server) ?? []) if (socket.bytesRead === 0) socket.destroy()
  // What is answered from now on would be kept open for a next request.
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_MS)
  server.closeIdleConnections()
  const timer = setTimeout(() => server.closeAllConnections(), DRAIN_MS)
  await ended
  clearInterval(idle)
  clearTimeout(timer)
}

/** The open connections of a server. */
const connections = new WeakMap<Server, Set<Socket>>()

const watchConnections = (server: Server): void => {
  const sockets = new Set<Socket>()
  connections.set(server, sockets)
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
}
