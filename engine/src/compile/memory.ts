import { createHash } from 'node:crypto'
import { readFacts, type SqlFacts } from './ast.ts'
import type { Column, ParamValues, ParseReply, SqlChild, SqlViolation } from './sql-port.ts'

/** What is known of a text after it was parsed. */
export type ParsedText =
  | { readonly ok: true; readonly facts: SqlFacts; readonly violations: readonly SqlViolation[] }
  | Extract<ParseReply, { ok: false }>

/** Everything that decides the columns of a text. */
export interface BindQuestion {
  readonly sql: string
  /** By name, what it reads. */
  readonly steps: Readonly<Record<string, readonly Column[]>>
  readonly sources: Readonly<Record<string, readonly Column[]>>
  readonly params: ParamValues
}

/** Characters that are kept of parsed texts, and how many columns' lists: about 30 MB together. */
const PARSED_CHARACTERS = 24 * 2 ** 20
const BOUND_ENTRIES = 10_000

/**
 * What the sandbox found out about texts, so that a text is parsed and bound once however many definitions have it: the versions of
 * a pipeline differ in few steps.
 *
 * Each answer is kept under everything that decides it: of a parsed text the text; of its columns also the columns of what it reads
 * and its params' values; of a source's columns its reader, its options and the stamps of its files. Another DuckDB is another
 * process, and nothing is kept on disk: texts can hold what a purge has to remove. Only what was found in order is kept; a
 * text that could not be bound is asked again. The least recently used goes first.
 */
export class CompileMemory {
  readonly #parsed = new Recent<ParsedText>(PARSED_CHARACTERS)
  readonly #bound = new Recent<readonly Column[]>(BOUND_ENTRIES)
  readonly #parsing = new Map<string, Promise<ParsedText>>()
  /** Milliseconds since 1970, as the stamps of files have it. */
  readonly now: () => number

  constructor(now: () => number = Date.now) {
    this.now = now
  }

  /** Asks the runner unless the same text was parsed before, or is being parsed. */
  parse(runner: SqlChild, sql: string): Promise<ParsedText> {
    const known = this.#parsed.get(sql)
    if (known) return Promise.resolve(known)
    const asked = this.#parsing.get(sql)
    if (asked) return asked
    const asking = this.#ask(runner, sql).finally(() => this.#parsing.delete(sql))
    this.#parsing.set(sql, asking)
    return asking
  }

  columnsOf(question: BindQuestion): readonly Column[] | null {
    return this.#bound.get(hashOf(question)) ?? null
  }

  keepColumns(question: BindQuestion, columns: readonly Column[]): void {
    this.#bound.set(hashOf(question), columns, 1)
  }

  /** `stamp` is `sourceStamp`'s. */
  columnsOfSource(stamp: string): readonly Column[] | null {
    return this.#bound.get(`source ${stamp}`) ?? null
  }

  keepColumnsOfSource(stamp: string, columns: readonly Column[]): void {
    this.#bound.set(`source ${stamp}`, columns, 1)
  }

  async #ask(runner: SqlChild, sql: string): Promise<ParsedText> {
    const reply = await runner.parse(sql)
    const parsed: ParsedText = reply.ok
      ? { ok: true, facts: readFacts(reply.ast_json), violations: reply.violations }
      : reply
    this.#parsed.set(sql, parsed, sql.length + (parsed.ok ? parsed.facts.normalized.length : 0))
    return parsed
  }
}

const hashOf = (question: BindQuestion): string =>
  createHash('sha256')
    .update(JSON.stringify([question.sql, question.steps, question.sources, question.params]))
    .digest('base64')

/** The most recently used values whose weights are within a budget. */
class Recent<V> {
  readonly #budget: number
  readonly #held = new Map<string, { readonly value: V; readonly weight: number }>()
  #weight = 0

  constructor(budget: number) {
    this.#budget = budget
  }

  get(key: string): V | undefined {
    const found = this.#held.get(key)
    if (!found) return undefined
    this.#held.delete(key)
    this.#held.set(key, found)
    return found.value
  }

  set(key: string, value: V, weight: number): void {
    this.#drop(key)
    this.#held.set(key, { value, weight })
    this.#weight += weight
    for (const oldest of this.#held.keys()) {
      if (this.#weight <= this.#budget) break
      this.#drop(oldest)
    }
  }

  #drop(key: string): void {
    const found = this.#held.get(key)
    if (!found) return
    this.#held.delete(key)
    this.#weight -= found.weight
  }
}
