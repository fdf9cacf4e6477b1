import { writeFile } from 'node:fs/promises'
import { flushCompileCache } from 'node:module'
import type { DuckDBConnection } from '@duckdb/node-api'
import { classify, RunnerError } from './failures.ts'
import { parseSelect } from './parse.ts'
import { envelope, type Failure, type Progress, type Reply, type Request } from './protocol.ts'
import { lock, openInstance, type Running, Session } from './session.ts'

// The runner: a process that may crash or be killed at any time. It knows no secret, inherits no environment, and talks only to
// the process that forked it.

/** The host is gone: nobody will read what is being made. An orderly exit would wait for the statements that still run. */
const endAtOnce = () => process.kill(process.pid, 'SIGKILL')

const send = (reply: Reply) => {
  // A reply can meet the host's end before `disconnect` is heard. Unheard, that error would end this process in order.
  if (process.connected) process.send?.(reply, undefined, undefined, error => error && endAtOnce())
}

/** For parsing only: locked at birth, it may open no file at all. */
const parser = await (await openInstance()).connect()
await lock(parser)

let session: Session | null = null
const active = new Map<number, DuckDBConnection>()
const cancelled = new Set<number>()
const pending = new Set<number>()

process.on('message', (message: unknown) => {
  const { id, request } = envelope.parse(message)
  if (request.op === 'cancel') {
    cancel(request.target)
    send({ id, ok: true, value: null })
    return
  }
  pending.add(id)
  answer(id, request)
    .then(
      value => send({ id, ok: true, value }),
      error => send({ id, ok: false, error: failureOf(id, error) }),
    )
    .finally(() => {
      pending.delete(id)
      cancelled.delete(id)
    })
})
process.on('disconnect', endAtOnce)
if (process.platform === 'linux') {
  // When the machine runs out of memory it is this process that goes, not the host. Not granted everywhere: then so be it.
  await writeFile('/proc/self/oom_score_adj', '1000').catch(() => undefined)
}
send({ ready: true })
// A runner is killed, never asked to leave, so it keeps its compiled code now.
setImmediate(flushCompileCache)

/** Interrupts until the request is over: an interrupt that falls between two statements would be lost. */
function cancel(target: number) {
  if (!pending.has(target)) return
  cancelled.add(target)
  active.get(target)?.interrupt()
  setTimeout(cancel, 20, target)
}

function failureOf(id: number, error: unknown): Failure {
  const failure = error instanceof RunnerError ? error.failure : classify(error, '')
  if (cancelled.has(id)) return { class: 'cancelled', message: 'The statement was cancelled.' }
  return failure
}

async function answer(id: number, request: Request): Promise<unknown> {
  if (request.op === 'parse') return parseSelect(parser, request.sql)
  if (request.op === 'usage') {
    const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage()
    return { max_rss_bytes: maxRSS * 1024, cpu_ms: (userCPUTime + systemCPUTime) / 1000 }
  }
  if (request.op === 'configure') {
    if (session) throw refused('The runner is configured already; its sandbox cannot be opened again.')
    session = await Session.open(request, process.cwd())
    return null
  }
  if (!session) throw refused('The runner is not configured yet.')
  const running = follow(id)
  switch (request.op) {
    case 'define_source':
      return session.defineSource(request)
    case 'define_result':
      return session.defineResult(request)
    case 'define_view':
      return session.defineView(request, running)
    case 'define_shape':
      return session.defineShape(request)
    case 'forget':
      return session.forget()
    case 'describe':
      return session.describe(request, running)
    case 'query':
      return session.query(request, running)
    case 'materialize':
      return session.materialize(request, running)
    case 'test':
      return session.test(request, running)
    case 'cancel':
      return null
  }
}

function follow(id: number): Running {
  return {
    onProgress: (progress: Progress) => send({ id, progress }),
    onConnection: connection => {
      if (connection === null) active.delete(id)
      else if (cancelled.has(id)) throw new Error('cancelled')
      else active.set(id, connection)
    },
  }
}

const refused = (message: string) => new RunnerError({ class: 'internal', message })
