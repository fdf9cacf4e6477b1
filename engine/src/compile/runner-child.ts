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
 * Compile's side of the runner. Parses in one child that is kept; each `open` takes a child of its own, since a sandbox is
 * locked for the life of its process. Safe to use from several compiles at once. Call `close` when done.
 */
export class RunnerChild implements SqlChild {
  readonly #pool: Pick<RunnerPool, 'take'>
  #spare: Runner | null = null

  constructor(pool: Pick<RunnerPool, 'take'>) {
    this.#pool = pool
  }

  async parse(sql: string): Promise<ParseReply> {
    const parsed = await this.#idle().parse(sql, { timeoutMs: CALL_MS })
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
    const runner = this.#idle()
    this.#spare = null
    await runner.configure({ limits: LIMITS, allowed_paths: [...allowedPaths], connections: 1 })
    const within = { timeoutMs: CALL_MS }
    return {
      defineSource: async source => {
        const reply = await answer(() => runner.defineSource({ ...source, paths: [...source.paths] }, within))
        return reply.ok ? reply : { ...reply, message: withoutData(reply.message) }
      },
      defineView: (name, sql) => answer(() => runner.defineView({ name, sql, params: {} }, within)),
      describe: (sql, params) =>
        answer(async () => {
          const { columns } = await runner.describe({ sql, params: { ...params } }, within)
          return columns.map(column => ({ name: column.name, type: sqlType(column.type) }))
        }),
      close: () => runner.kill(),
    }
  }

  /** Ends the child that parses; those of open sessions end with them. */
  async close(): Promise<void> {
    const spare = this.#spare
    this.#spare = null
    await spare?.kill()
  }

  #idle(): Runner {
    if (!this.#spare?.alive) this.#spare = this.#pool.take()
    return this.#spare
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
