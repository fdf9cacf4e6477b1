import {
  checkStatement,
  type Failure,
  type Limits,
  type Runner,
  RunnerError,
  type RunnerPool,
} from '../runner/index.ts'
import { sqlType } from '../warehouse/column-types.ts'
import type { BindReply, BindSession, ParseReply, SqlChild } from './sql-port.ts'

/** Binding reads headers and samples of files only, so little is enough. */
const LIMITS: Limits = { memory_bytes: 512 * 2 ** 20, threads: 2, temp_bytes: 2 ** 28 }
/** One file or text that is made to hang must not hold up the others for long. */
const CALL_MS = 30_000

/**
 * Compile's side of the runner. One child is kept: it parses, and binds what needs no file, for one compile after another. An `open`
 * with files takes a child of its own, since a sandbox is locked for the life of its process; so does one while the kept
 * child binds for somebody else. Safe to use from several compiles at once. Call `close` when done.
 */
export class RunnerChild implements SqlChild {
  readonly #pool: Pick<RunnerPool, 'take'>
  #kept: Kept | null = null

  constructor(pool: Pick<RunnerPool, 'take'>) {
    this.#pool = pool
  }

  async parse(sql: string): Promise<ParseReply> {
    const kept = this.#child()
    const parsed = await kept.calls.run(timeoutMs => kept.runner.parse(sql, { timeoutMs }))
    if (!parsed.ok) {
      return { ok: false, kind: parsed.kind, message: parsed.message, position: parsed.position ?? null }
    }
    const violations = checkStatement(parsed.statements[0], null)
    return {
      ok: true,
      ast_json: parsed.ast_json,
      violations: violations.filter(found => found.reason !== 'relation'),
    }
  }

  async open(allowedPaths: readonly string[]): Promise<BindSession> {
    const kept = allowedPaths.length === 0 ? this.#child() : null
    if (!kept || kept.taken) {
      const runner = this.#pool.take()
      try {
        await configure(runner, allowedPaths)
      } catch (error) {
        await runner.kill()
        throw error
      }
      return sessionIn(runner, new Calls(), () => runner.kill())
    }
    kept.taken = true
    kept.configured ??= configure(kept.runner, [])
    await kept.configured
    return sessionIn(kept.runner, kept.calls, async () => {
      // A child that cannot forget is not used again; the next compile starts another.
      await kept.runner.forget({ timeoutMs: CALL_MS }).catch(() => kept.runner.kill())
      kept.taken = false
    })
  }

  /** Ends the child that is kept; those of open sessions end with them. */
  async close(): Promise<void> {
    const kept = this.#kept
    this.#kept = null
    await kept?.runner.kill()
  }

  #child(): Kept {
    if (!this.#kept?.runner.alive)
      this.#kept = { runner: this.#pool.take(), calls: new Calls(), configured: null, taken: false }
    return this.#kept
  }
}

interface Kept {
  readonly runner: Runner
  readonly calls: Calls
  configured: Promise<void> | null
  /** A session binds in it. */
  taken: boolean
}

/** Gives each call of a child that answers one after another its whole time, also behind others that take theirs. */
class Calls {
  #open = 0

  async run<T>(call: (timeoutMs: number) => Promise<T>): Promise<T> {
    this.#open += 1
    try {
      return await call(this.#open * CALL_MS)
    } finally {
      this.#open -= 1
    }
  }
}

const configure = (runner: Runner, allowedPaths: readonly string[]): Promise<void> =>
  runner.configure({ limits: LIMITS, allowed_paths: [...allowedPaths], connections: 1 })

const sessionIn = (runner: Runner, calls: Calls, close: () => Promise<void>): BindSession => {
  const ask = <T>(call: (timeoutMs: number) => Promise<T>) => answer(() => calls.run(call))
  return {
    defineSource: async source => {
      const reply = await ask(timeoutMs =>
        runner.defineSource({ ...source, paths: [...source.paths] }, { timeoutMs }),
      )
      return reply.ok ? reply : { ...reply, message: withoutData(reply.message) }
    },
    defineShape: (kind, name, columns) =>
      ask(timeoutMs =>
        runner.defineShape(
          {
            schema: kind === 'source' ? 'source' : null,
            name,
            columns: columns.map(column => ({ ...column })),
          },
          { timeoutMs },
        ),
      ),
    describe: (sql, params) =>
      ask(async timeoutMs => {
        const { columns } = await runner.describe({ sql, params: { ...params } }, { timeoutMs })
        return columns.map(column => ({ name: column.name, type: sqlType(column.type) }))
      }),
    close,
  }
}

/** What is wrong with the SQL or a source is an answer; a child that died or hung is an error. */
async function answer<T>(work: () => Promise<T>): Promise<BindReply<T>> {
  try {
    return { ok: true, value: await work() }
  } catch (error) {
    if (!(error instanceof RunnerError) || ABOUT_THE_CHILD.has(error.failure.class)) throw error
    const { failure } = error
    return {
      ok: false,
      message: wordsOf(failure),
      hint: failure.hint ?? null,
      position: failure.position ?? null,
    }
  }
}

const ABOUT_THE_CHILD = new Set<Failure['class']>(['internal', 'cancelled'])

/** The engine's own words: problems are shown on this machine and never sent. */
const wordsOf = (failure: Failure): string => failure.private ?? failure.message

/** A reader's words can quote the file: its first line says where, and what follows "could not convert" is a value. */
const withoutData = (message: string): string =>
  (message.split('\n')[0] ?? '').replace(/(could not convert|failed to cast).*$/i, '$1 a value')
