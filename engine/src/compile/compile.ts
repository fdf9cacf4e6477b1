/**
 * Compile: from a definition to what can run, or to everything that has to be mended first.
 *
 * 1. every SQL text (steps, custom tests, report blocks) is parsed in the sandboxed child: one SELECT each;
 * 2. what each names is resolved to steps, sources and params; the DAG comes from the SQL alone;
 * 3. what has no problem so far is bound in order, against the real sources, which gives each step its columns.
 *
 * No problem hides another: a text that cannot be parsed, or a step behind one that cannot be bound, is passed over.
 */
import type { PipelineDefinition, Scalar } from '@pluto-duck/crdt-model'
import type { ReportLayout } from '../reports/report-blocks.ts'
import type { SourceResolution } from '../sources/resolve-sources.ts'
import type { SqlFacts } from './ast.ts'
import { bindUnits } from './bind.ts'
import { checkColumns, checkDefinition } from './check-definition.ts'
import { topologicalOrder } from './graph.ts'
import { CompileMemory } from './memory.ts'
import { resolveParams } from './params.ts'
import { type Problem, sortProblems } from './problem.ts'
import { problemIn, type References, readReferences } from './references.ts'
import type { Column, ParamValues, SqlChild } from './sql-port.ts'
import { positionAtByte } from './text-position.ts'
import { type Locate, type SqlUnit, unitsOf } from './units.ts'
import { yamlPlaces } from './yaml-places.ts'

export interface CompileOptions {
  readonly runner: SqlChild
  /** What earlier compiles found out about the same texts. Default: nothing. */
  readonly memory?: CompileMemory
  /** Values of a run over the params' defaults. Checked; a missing one is no problem of the definition. */
  readonly params?: Readonly<Record<string, Scalar>>
  /** What the sources are on this machine. Without it nothing behind a source is bound: columns stay null. */
  readonly sources?: Readonly<Record<string, SourceResolution>>
  /** The text of pipeline.yaml, in which problems of settings are placed. Without it they are at line 1. */
  readonly yaml?: string
}

export interface CompiledStep {
  readonly step_id: string
  readonly name: string
  /** Names of the steps that it reads, sorted. */
  readonly depends_on: readonly string[]
  /** Other steps that its custom tests read and its SQL does not, sorted: they too have to be made first. */
  readonly test_depends_on: readonly string[]
  readonly sources: readonly string[]
  /** The params that its SQL and its tests use, sorted. */
  readonly params: readonly string[]
  /** Null when it could not be bound. */
  readonly columns: readonly Column[] | null
  /** The SQL without formatting and comments; null when it could not be parsed. */
  readonly normalized_sql: string | null
  /** What makes each run of it differ: `random()`, `current_date`. Empty: its inputs decide its rows. */
  readonly volatile: readonly string[]
}

export interface Compiled {
  /** Each step after the steps that it reads. Steps in a cycle or behind one come last. */
  readonly steps: readonly CompiledStep[]
  readonly edges: ReadonlyArray<{ readonly from: string; readonly to: string }>
  readonly sources: ReadonlyArray<{ readonly name: string; readonly columns: readonly Column[] | null }>
  /** By name of the sql block: the steps that it reads. */
  readonly report: ReportLayout
  readonly params: ParamValues
  readonly problems: readonly Problem[]
}

/** A unit that was parsed, with what it reads. */
export interface ParsedUnit {
  readonly unit: SqlUnit
  readonly facts: SqlFacts
  readonly references: References
}

export async function compile(definition: PipelineDefinition, options: CompileOptions): Promise<Compiled> {
  const { runner, memory = new CompileMemory() } = options
  const locate: Locate =
    options.yaml === undefined ? () => ({ line: 1, column: 1 }) : yamlPlaces(options.yaml)
  const { units, report } = unitsOf(definition, locate)
  const resolved = resolveParams(definition.params, options.params)
  const problems = checkDefinition({ definition, locate, report, params: resolved, sources: options.sources })

  const names = {
    definition,
    steps: new Set(definition.steps.map(step => step.name)),
  }
  const parsed: ParsedUnit[] = []
  const faulty = new Set<SqlUnit>()
  const replies = await Promise.all(units.map(unit => memory.parse(runner, unit.sql)))
  for (const [index, unit] of units.entries()) {
    const reply = replies[index]!
    if (!reply.ok) {
      problems.push(parseProblem(unit, reply.kind, reply.message, reply.position))
      continue
    }
    const { facts } = reply
    const { references, problems: found } = readReferences(unit, facts, reply.violations, names)
    if (found.length > 0) faulty.add(unit)
    problems.push(...found)
    parsed.push({ unit, facts, references })
  }

  const stepUnits = new Map<string, ParsedUnit>()
  for (const entry of parsed) if (entry.unit.kind === 'step') stepUnits.set(entry.unit.step!, entry)
  const nodes = definition.steps.map(step => ({
    name: step.name,
    needs: [
      ...(stepUnits.get(step.name)?.references.steps ?? []),
      ...testNeeds(step.name, parsed, stepUnits),
    ],
  }))
  const { order, cycles } = topologicalOrder(nodes)
  for (const cycle of cycles) problems.push(cycleProblem(cycle, stepUnits))

  const bound = await bindUnits({
    parsed: parsed.filter(entry => !faulty.has(entry.unit)),
    order,
    definition,
    params: resolved.values,
    sources: options.sources ?? null,
    locate,
    runner,
    memory,
  })
  problems.push(...bound.problems, ...checkColumns(definition, bound.columns, locate))

  const ranked = new Set([...order, ...nodes.map(node => node.name)])
  const steps = [...ranked].map(name => compiledStep(name, definition, stepUnits, parsed, bound.columns))
  return {
    steps,
    edges: steps.flatMap(step => step.depends_on.map(from => ({ from, to: step.name }))),
    sources: Object.keys(definition.sources).map(name => ({
      name,
      columns: bound.sources.get(name) ?? null,
    })),
    report,
    params: resolved.values,
    problems: sortProblems(problems),
  }
}

/** A test waits for what it reads; its own step is there by then. */
function testNeeds(
  name: string,
  parsed: readonly ParsedUnit[],
  stepUnits: ReadonlyMap<string, ParsedUnit>,
): string[] {
  const own = new Set([name, ...(stepUnits.get(name)?.references.steps ?? [])])
  const tests = parsed.filter(entry => entry.unit.kind === 'test' && entry.unit.step === name)
  return [...new Set(tests.flatMap(test => test.references.steps))].filter(need => !own.has(need)).sort()
}

function compiledStep(
  name: string,
  definition: PipelineDefinition,
  stepUnits: ReadonlyMap<string, ParsedUnit>,
  all: readonly ParsedUnit[],
  columns: ReadonlyMap<string, readonly Column[]>,
): CompiledStep {
  const parsed = stepUnits.get(name)
  const tests = all.filter(entry => entry.unit.kind === 'test' && entry.unit.step === name)
  const params = new Set([
    ...(parsed?.references.params ?? []),
    ...tests.flatMap(test => test.references.params),
  ])
  return {
    step_id: definition.steps.find(step => step.name === name)!.id,
    name,
    depends_on: parsed?.references.steps ?? [],
    test_depends_on: testNeeds(name, all, stepUnits),
    sources: [
      ...new Set([...(parsed?.references.sources ?? []), ...tests.flatMap(test => test.references.sources)]),
    ].sort(),
    params: [...params].sort(),
    columns: columns.get(name) ?? null,
    normalized_sql: parsed?.facts.normalized ?? null,
    volatile: parsed?.facts.volatile ?? [],
  }
}

function parseProblem(
  unit: SqlUnit,
  kind: 'syntax' | 'not_select' | 'empty' | 'several',
  message: string,
  position: { line: number; column: number } | null,
): Problem {
  const at = position ?? { line: 1, column: 1 }
  switch (kind) {
    case 'syntax':
      return problemIn(
        unit,
        'sql.syntax',
        at,
        capitalized(message),
        'Mend the SQL here, or just before this place.',
      )
    case 'empty':
      return problemIn(unit, 'sql.empty', at, 'There is no SQL here.', 'Write one SELECT.')
    case 'several':
      return problemIn(
        unit,
        'sql.not_a_select',
        at,
        'There is more than one statement here.',
        'Keep one SELECT; make a step of each other one.',
      )
    case 'not_select':
      return problemIn(
        unit,
        'sql.not_a_select',
        at,
        'This is not a SELECT.',
        'Write one SELECT; what becomes of its rows is said by the step’s settings. PIVOT needs its values: ON x IN (…).',
      )
  }
}

const capitalized = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1)

function cycleProblem(cycle: readonly string[], units: ReadonlyMap<string, ParsedUnit>): Problem {
  const [first = '', second = ''] = cycle
  const { unit, facts } = units.get(first)!
  const table = facts.tables.find(ref => ref.schema === '' && ref.name.toLowerCase() === second)
  const at = table ? positionAtByte(unit.sql, table.byte) : { line: 1, column: 1 }
  const path = cycle.join(' -> ')
  return problemIn(
    unit,
    'step.cycle',
    at,
    first === second ? `The step "${first}" reads itself.` : `These steps wait for each other: ${path}.`,
    first === second
      ? 'Read another step or a source here.'
      : `Let one of them read something else than the next.`,
  )
}
