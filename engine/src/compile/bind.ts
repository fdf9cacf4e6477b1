import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { type SourceResolution, toPlanSource } from '../sources/resolve-sources.ts'
import { sourceStamp } from '../sources/source-state.ts'
import type { ParsedUnit } from './compile.ts'
import type { CompileMemory } from './memory.ts'
import type { Problem } from './problem.ts'
import { problemIn } from './references.ts'
import type { BindReply, BindSession, Column, ParamValues, SqlChild } from './sql-port.ts'
import { sqlIdentifier } from './sql-text.ts'
import type { Locate } from './units.ts'

export interface BindInput {
  /** Units without a problem so far. */
  readonly parsed: readonly ParsedUnit[]
  /** Names of the steps, each after what it reads. */
  readonly order: readonly string[]
  readonly definition: PipelineDefinition
  readonly params: ParamValues
  /** Null: the sources are not known here, so nothing behind one is bound. */
  readonly sources: Readonly<Record<string, SourceResolution>> | null
  readonly runner: SqlChild
  readonly memory: CompileMemory
  readonly locate: Locate
}

export interface Bound {
  readonly columns: ReadonlyMap<string, readonly Column[]>
  readonly sources: ReadonlyMap<string, readonly Column[]>
  readonly problems: readonly Problem[]
}

/**
 * Binds what can be bound. A unit that reads something without columns is passed over.
 *
 * Two sandboxes: in one the sources are read, for their columns alone; in the other, which may open no file, each text is bound against
 * the columns of what it reads. So a text is bound once however deep the DAG, and what is remembered needs neither.
 */
export async function bindUnits(input: BindInput): Promise<Bound> {
  const { columns: sources, problems } = await readSources(input)
  const binder = new Binder(input, sources)
  try {
    const bound = await binder.bind()
    return { ...bound, sources, problems: [...problems, ...bound.problems] }
  } finally {
    await binder.close()
  }
}

/** The columns of every source that can be read. */
async function readSources({ sources, runner, memory, locate }: BindInput) {
  const columns = new Map<string, readonly Column[]>()
  const problems: Problem[] = []
  const ready = Object.values(sources ?? {}).filter(source => source.state === 'ready')
  const unknown: { source: (typeof ready)[number]; stamp: string | null }[] = []
  for (const source of ready) {
    const stamp = await sourceStamp(source, memory.now)
    const known = stamp === null ? null : memory.columnsOfSource(stamp)
    if (known) columns.set(source.name, known)
    else unknown.push({ source, stamp })
  }
  // A sandbox is a process: none is started when nothing is read in it.
  if (unknown.length === 0) return { columns, problems }
  const session = await runner.open(unknown.flatMap(({ source }) => source.files.map(file => file.path)))
  try {
    for (const { source, stamp } of unknown) {
      const defined = await session.defineSource(toPlanSource(source))
      const reply = defined.ok
        ? await session.describe(`SELECT * FROM source.${sqlIdentifier(source.name)}`, {})
        : defined
      if (reply.ok) {
        columns.set(source.name, reply.value)
        // It may have been written to meanwhile.
        if (stamp !== null && (await sourceStamp(source, memory.now)) === stamp)
          memory.keepColumnsOfSource(stamp, reply.value)
        continue
      }
      problems.push({
        code: 'source.unreadable',
        severity: 'error',
        file: 'pipeline.yaml',
        ...locate(['sources', source.name]),
        message: `source.${source.name} cannot be read as ${source.definition.kind}: ${explain(reply.message).summary}`,
        hint: reply.hint ?? 'Check the file, and the kind and options of the source.',
        step_id: null,
      })
    }
  } finally {
    await session.close()
  }
  return { columns, problems }
}

/** Binds the texts of one definition: each when what it reads has columns, those that wait for nothing at the same time. */
class Binder {
  readonly #input: BindInput
  readonly #sources: ReadonlyMap<string, readonly Column[]>
  readonly #steps = new Map<string, Promise<readonly Column[] | null>>()
  readonly #shapes = new Map<string, Promise<boolean>>()
  readonly #problems: Problem[] = []
  readonly #entries: ReadonlyMap<string, ParsedUnit>
  #session: Promise<BindSession> | null = null

  constructor(input: BindInput, sources: ReadonlyMap<string, readonly Column[]>) {
    this.#input = input
    this.#sources = sources
    const steps = input.parsed.filter(entry => entry.unit.kind === 'step')
    this.#entries = new Map(steps.map(entry => [entry.unit.step!, entry]))
  }

  async bind(): Promise<Pick<Bound, 'columns' | 'problems'>> {
    const { order, parsed } = this.#input
    for (const name of order) {
      const entry = this.#entries.get(name)
      if (entry) this.#steps.set(name, this.#columnsOf(entry))
    }
    const others = parsed.filter(entry => entry.unit.kind !== 'step').map(entry => this.#columnsOf(entry))
    // All of them, also when one fails: the session is closed after this.
    const ended = await Promise.allSettled([...this.#steps.values(), ...others])
    const failed = ended.find(one => one.status === 'rejected')
    if (failed) throw failed.reason
    const columns = new Map<string, readonly Column[]>()
    for (const [name, found] of this.#steps) {
      const known = await found
      if (known) columns.set(name, known)
    }
    return { columns, problems: this.#problems }
  }

  async close(): Promise<void> {
    await (await this.#session)?.close()
  }

  /** Null when what it reads has no columns, or it cannot be bound itself. */
  async #columnsOf(entry: ParsedUnit): Promise<readonly Column[] | null> {
    const { references, unit } = entry
    const steps: Record<string, readonly Column[]> = {}
    for (const name of references.steps) {
      const columns = await this.#steps.get(name)
      if (!columns) return null
      steps[name] = columns
    }
    const sources: Record<string, readonly Column[]> = {}
    for (const name of references.sources) {
      const columns = this.#sources.get(name)
      if (!columns) return null
      sources[name] = columns
    }
    const { memory, runner } = this.#input
    const params = Object.fromEntries(references.params.map(name => [name, this.#input.params[name]!]))
    const question = { sql: unit.sql, steps, sources, params }
    const known = memory.columnsOf(question)
    if (known) return known
    this.#session ??= runner.open([])
    const session = await this.#session
    for (const [name, columns] of Object.entries(sources)) await this.#shape(session, 'source', name, columns)
    for (const [name, columns] of Object.entries(steps))
      if (!(await this.#shape(session, 'step', name, columns))) return null
    const reply = await session.describe(unit.sql, params)
    if (reply.ok) memory.keepColumns(question, reply.value)
    else this.#problems.push(bindProblem(entry, reply))
    return reply.ok ? reply.value : null
  }

  /** Once for all who read it. False, and a problem of its own, when it has columns that nothing can read. */
  #shape(
    session: BindSession,
    kind: 'step' | 'source',
    name: string,
    columns: readonly Column[],
  ): Promise<boolean> {
    const key = `${kind} ${name}`
    const made =
      this.#shapes.get(key) ??
      session.defineShape(kind, name, columns).then(reply => {
        const entry = kind === 'step' ? this.#entries.get(name) : undefined
        if (!reply.ok && entry) this.#problems.push(bindProblem(entry, reply))
        return reply.ok
      })
    this.#shapes.set(key, made)
    return made
  }
}

type Refusal = Extract<BindReply<unknown>, { ok: false }>

function bindProblem(entry: ParsedUnit, refusal: Refusal): Problem {
  const { summary, hint } = explain(refusal.message)
  const otherwise = refusal.hint ?? 'Mend the SQL here; the columns of each step are shown beside it.'
  return problemIn(
    entry.unit,
    'sql.bind',
    refusal.position ?? { line: 1, column: 1 },
    summary,
    hint ?? otherwise,
  )
}

/** DuckDB's message without its excerpt of the SQL, and what it proposes as the hint. */
function explain(message: string): { summary: string; hint: string | null } {
  const body = message.replace(/\n+LINE \d+:[\s\S]*$/, '').trim()
  const match = /^([\s\S]*?)\n?(Did you mean [^\n]*|Candidate (?:bindings|functions|macros)?:?[\s\S]*)$/.exec(
    body,
  )
  const summary = (match?.[1] ?? body)
    .replace(/^(?:\w+ )?(?:Binder|Catalog|Parser) Error: /, '')
    .replaceAll('\n', ' ')
    .trim()
  const proposal = match?.[2]?.replaceAll(/\s*\n\s*/g, ' ').trim()
  return { summary, hint: proposal ?? null }
}
