import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { type SourceResolution, toPlanSource } from '../sources/resolve-sources.ts'
import type { ParsedUnit } from './compile.ts'
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
  readonly locate: Locate
}

export interface Bound {
  readonly columns: ReadonlyMap<string, readonly Column[]>
  readonly sources: ReadonlyMap<string, readonly Column[]>
  readonly problems: readonly Problem[]
}

/** Binds what can be bound, in one sandbox. A unit that reads something without columns is passed over. */
export async function bindUnits(input: BindInput): Promise<Bound> {
  const ready = Object.values(input.sources ?? {}).filter(source => source.state === 'ready')
  const withoutSources = input.parsed.some(
    entry => entry.references.sources.length === 0 && entry.references.steps.length === 0,
  )
  // A sandbox is a process: none is started when nothing could be bound in it.
  if (ready.length === 0 && !withoutSources) return { columns: new Map(), sources: new Map(), problems: [] }
  const session = await input.runner.open(ready.flatMap(source => source.files.map(file => file.path)))
  try {
    return await bindIn(session, input)
  } finally {
    await session.close()
  }
}

async function bindIn(
  session: BindSession,
  { parsed, order, params, sources: resolutions, locate }: BindInput,
): Promise<Bound> {
  const columns = new Map<string, readonly Column[]>()
  const sources = new Map<string, readonly Column[]>()
  const problems: Problem[] = []

  for (const source of Object.values(resolutions ?? {})) {
    if (source.state !== 'ready') continue
    const defined = await session.defineSource(toPlanSource(source))
    const reply = defined.ok
      ? await session.describe(`SELECT * FROM source.${sqlIdentifier(source.name)}`, {})
      : defined
    if (reply.ok) {
      sources.set(source.name, reply.value)
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

  const isReady = ({ references }: ParsedUnit): boolean =>
    references.steps.every(step => columns.has(step)) &&
    references.sources.every(source => sources.has(source))
  const describe = async (entry: ParsedUnit) => {
    const used = Object.fromEntries(entry.references.params.map(name => [name, params[name]!]))
    const reply = await session.describe(entry.unit.sql, used)
    if (!reply.ok) problems.push(bindProblem(entry, reply))
    return reply.ok ? reply.value : null
  }

  const steps = new Map(
    parsed.filter(entry => entry.unit.kind === 'step').map(entry => [entry.unit.step!, entry]),
  )
  for (const name of order) {
    const entry = steps.get(name)
    if (!entry || !isReady(entry)) continue
    const described = await describe(entry)
    if (!described) continue
    // Those who read this step are bound against its columns, not its text: each text is bound once, however deep the DAG.
    const defined = await session.defineView(name, emptyOf(described))
    if (defined.ok) columns.set(name, described)
    else problems.push(bindProblem(entry, defined))
  }
  for (const entry of parsed) {
    if (entry.unit.kind !== 'step' && isReady(entry)) await describe(entry)
  }
  return { columns, sources, problems }
}

/** A relation of these columns without rows. */
function emptyOf(columns: readonly Column[]): string {
  return `SELECT ${columns.map(column => `CAST(NULL AS ${column.type}) AS ${sqlIdentifier(column.name)}`).join(', ')} WHERE false`
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
