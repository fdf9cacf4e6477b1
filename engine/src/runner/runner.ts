import { type ChildProcess, fork } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { RunnerError } from './failures.ts'
import {
  described,
  type Failure,
  materialized,
  type Progress,
  parsed,
  queried,
  type Reply,
  type Request,
  reply,
  tested,
  usage,
} from './protocol.ts'

const CHILD = fileURLToPath(new URL('./child.ts', import.meta.url))
/** How long a cancelled request may go on before its process is killed. */
const GRACE_MS = 500
const STDERR_BYTES = 8192
/** Followed by the pid of the host, so that a later host knows whose it was. */
const TEMP_PREFIX = 'runner-'
/** Node's own cache of compiled modules, below the root of the temporary folders. */
const CODE_CACHE = 'code-cache'

export interface RunnerOptions {
  /**
   * Folder of this program alone, under which the runner gets its own temporary folder (spill files), and which keeps compiled
   * code for the next start. Default: the system's, without such code.
   */
  readonly tempRoot?: string
}

export interface CallOptions {
  /** Aborting interrupts the statement, and kills the process if it does not stop within half a second. */
  readonly signal?: AbortSignal | undefined
  /** Milliseconds; over it the call ends with `run.timeout`. Default: none. */
  readonly timeoutMs?: number | undefined
  readonly onProgress?: ((progress: Progress) => void) | undefined
}

interface Call {
  readonly resolve: (value: unknown) => void
  readonly reject: (error: RunnerError) => void
  readonly onProgress: ((progress: Progress) => void) | undefined
}

type Ask<Op extends Request['op']> = Omit<Extract<Request, { op: Op }>, 'op'>

/**
 * One child process with its own DuckDB. It may crash, be killed or hang without harm to the process that holds this object:
 * every call then rejects with a `RunnerError` (`run.internal`, `run.resource`, `run.timeout`, `run.cancelled`).
 */
export class Runner {
  readonly #child: ChildProcess
  readonly #temp: string
  readonly #calls = new Map<number, Call>()
  #next = 1
  #stderr = ''
  #ended: Failure | null = null
  /** Resolves when the child can take requests; rejects if it dies before. */
  readonly ready: Promise<void>
  /** Resolves when the process is gone and its temporary folder removed, if the disk lets it go. */
  readonly exited: Promise<void>

  constructor(options: RunnerOptions = {}) {
    const root = options.tempRoot ?? tmpdir()
    mkdirSync(root, { recursive: true })
    this.#temp = mkdtempSync(join(root, `${TEMP_PREFIX}${process.pid}-`))
    try {
      this.#child = fork(CHILD, [], {
        cwd: this.#temp,
        env: childEnvironment(this.#temp, options.tempRoot),
        execArgv: [],
        serialization: 'advanced',
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      })
    } catch (error) {
      removeFolder(this.#temp)
      throw error
    }
    this.#child.stderr?.on('data', (bytes: Buffer) => {
      this.#stderr = (this.#stderr + bytes.toString('utf8')).slice(-STDERR_BYTES)
    })
    const started = Promise.withResolvers<void>()
    const gone = Promise.withResolvers<void>()
    this.ready = started.promise
    this.exited = gone.promise
    // A spare that dies unused is noticed by its next caller; without this its rejection would end the host.
    this.ready.catch(() => undefined)
    this.#child.on('message', message => this.#receive(message, started.resolve))
    const end = (failure: Failure) => {
      if (this.#ended) return
      this.#ended = failure
      const error = new RunnerError(failure)
      started.reject(error)
      for (const call of this.#calls.values()) call.reject(error)
      this.#calls.clear()
      removeFolder(this.#temp)
      gone.resolve()
    }
    this.#child.on('error', error => end({ ...CRASHED, private: String(error) }))
    this.#child.on('exit', (code, signal) => end(exitFailure(code, signal, this.#stderr)))
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  get alive(): boolean {
    return this.#ended === null
  }

  async parse(sql: string, options: CallOptions = {}) {
    return parsed.parse(await this.#call({ op: 'parse', sql }, options))
  }

  async configure(ask: Ask<'configure'>, options: CallOptions = {}): Promise<void> {
    await this.#call({ op: 'configure', ...ask }, options)
  }

  async defineSource(source: Ask<'define_source'>['source'], options: CallOptions = {}): Promise<void> {
    await this.#call({ op: 'define_source', source }, options)
  }

  async defineResult(ask: Ask<'define_result'>, options: CallOptions = {}): Promise<void> {
    await this.#call({ op: 'define_result', ...ask }, options)
  }

  /** Returns the view's SQL with its params written out. */
  async defineView(ask: Ask<'define_view'>, options: CallOptions = {}): Promise<string> {
    return z.string().parse(await this.#call({ op: 'define_view', ...ask }, options))
  }

  async defineShape(ask: Ask<'define_shape'>, options: CallOptions = {}): Promise<void> {
    await this.#call({ op: 'define_shape', ...ask }, options)
  }

  async forget(options: CallOptions = {}): Promise<void> {
    await this.#call({ op: 'forget' }, options)
  }

  async describe(ask: Ask<'describe'>, options: CallOptions = {}) {
    return described.parse(await this.#call({ op: 'describe', ...ask }, options))
  }

  async query(ask: Ask<'query'>, options: CallOptions = {}) {
    return queried.parse(await this.#call({ op: 'query', ...ask }, options))
  }

  async materialize(ask: Ask<'materialize'>, options: CallOptions = {}) {
    return materialized.parse(await this.#call({ op: 'materialize', ...ask }, options))
  }

  async test(ask: Ask<'test'>, options: CallOptions = {}) {
    return tested.parse(await this.#call({ op: 'test', ...ask }, options))
  }

  async usage(options: CallOptions = {}) {
    return usage.parse(await this.#call({ op: 'usage' }, options))
  }

  /** Ends the process at once; pending calls reject. Resolves when it is gone. */
  async kill(): Promise<void> {
    if (this.alive) this.#child.kill('SIGKILL')
    await this.exited
  }

  async #call(request: Request, options: CallOptions): Promise<unknown> {
    await this.ready
    if (options.signal?.aborted) throw new RunnerError(CANCELLED)
    if (this.#ended) throw new RunnerError(this.#ended)
    const id = this.#next++
    const call = Promise.withResolvers<unknown>()
    this.#calls.set(id, { ...call, onProgress: options.onProgress })
    this.#child.send({ id, request }, error => {
      if (error) this.#settle(id)?.reject(new RunnerError({ ...CRASHED, private: String(error) }))
    })
    const stop = (failure: Failure) => this.#stop(id, failure)
    const onAbort = () => stop(CANCELLED)
    options.signal?.addEventListener('abort', onAbort, { once: true })
    const timer =
      options.timeoutMs === undefined ? undefined : setTimeout(() => stop(TIMED_OUT), options.timeoutMs)
    try {
      return await call.promise
    } finally {
      clearTimeout(timer)
      options.signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Interrupts a call. Its caller hears at once when the statement has stopped, or the process been killed. */
  #stop(id: number, failure: Failure) {
    const call = this.#calls.get(id)
    if (!call) return
    const killer = setTimeout(() => {
      call.reject(new RunnerError(failure))
      void this.kill()
    }, GRACE_MS)
    const finish = () => {
      clearTimeout(killer)
      call.reject(new RunnerError(failure))
    }
    this.#calls.set(id, { resolve: finish, reject: finish, onProgress: undefined })
    this.#child.send({ id: this.#next++, request: { op: 'cancel', target: id } }, () => undefined)
  }

  #settle(id: number): Call | undefined {
    const call = this.#calls.get(id)
    this.#calls.delete(id)
    return call
  }

  #receive(message: unknown, started: () => void) {
    const read = reply.safeParse(message)
    if (!read.success) {
      // A child that speaks nonsense is not trusted any further.
      this.#stderr += '\nThe runner sent a message that is not of the protocol.'
      this.#child.kill('SIGKILL')
      return
    }
    const said: Reply = read.data
    if ('ready' in said) started()
    else if ('progress' in said) this.#calls.get(said.id)?.onProgress?.(said.progress)
    else if (said.ok) this.#settle(said.id)?.resolve(said.value)
    else this.#settle(said.id)?.reject(new RunnerError(said.error))
  }
}

/** What cannot be removed now is removed at the next start of the program. */
function removeFolder(folder: string): void {
  try {
    rmSync(folder, { recursive: true, force: true })
  } catch {
    // Nothing needs it any more, and whoever waits for the end of the process must hear of that.
  }
}

/** Removes the temporary folders of runners whose host is gone (it was killed, so it could not do so itself). */
export function removeLeftovers(tempRoot: string): void {
  if (!existsSync(tempRoot)) return
  for (const name of readdirSync(tempRoot)) {
    const host = new RegExp(`^${TEMP_PREFIX}(\\d+)-`).exec(name)?.[1]
    if (host !== undefined && !isRunning(Number(host)))
      rmSync(join(tempRoot, name), { recursive: true, force: true })
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    // EPERM: it is there and belongs to someone else.
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

const CANCELLED: Failure = { class: 'cancelled', message: 'The statement was cancelled.' }
const TIMED_OUT: Failure = { class: 'timeout', message: 'The statement took longer than its time limit.' }
const CRASHED: Failure = { class: 'internal', message: 'The runner process ended unexpectedly.' }

/** A killed process was most often killed for its memory; anything else is a crash. */
function exitFailure(code: number | null, signal: NodeJS.Signals | null, stderr: string): Failure {
  const said = `exit code ${code}, signal ${signal}\n${stderr}`
  if (signal === 'SIGKILL' || /out of memory|bad_alloc/i.test(stderr))
    return {
      class: 'resource',
      message: 'The runner process was killed, most likely for lack of memory.',
      private: said,
    }
  return { ...CRASHED, private: said }
}

/** Nothing of the host's environment: no token, no home. Windows cannot start a process without its system root. */
function childEnvironment(temp: string, ownRoot: string | undefined): NodeJS.ProcessEnv {
  const system = process.env.SystemRoot
  return {
    HOME: temp,
    TMPDIR: temp,
    TEMP: temp,
    TMP: temp,
    TZ: 'UTC',
    // Each statement that runs holds one of these threads; with the usual four, four slow ones would block everything.
    UV_THREADPOOL_SIZE: '20',
    // Halves the start. Only in a folder of our own: in the system's, others could put code there.
    ...(ownRoot === undefined ? {} : { NODE_COMPILE_CACHE: join(ownRoot, CODE_CACHE) }),
    ...(system === undefined ? {} : { SystemRoot: system }),
    ...('electron' in process.versions ? { ELECTRON_RUN_AS_NODE: '1' } : {}),
  }
}
