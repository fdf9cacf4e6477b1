import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import type { SqlFacts, TableRef } from './ast.ts'
import { didYouMean, type Problem } from './problem.ts'
import type { SqlViolation } from './sql-port.ts'
import { paramTokens } from './sql-text.ts'
import { positionAt, positionAtByte, type TextPosition } from './text-position.ts'
import type { SqlUnit } from './units.ts'

/** What one piece of SQL reads. */
export interface References {
  readonly steps: readonly string[]
  readonly sources: readonly string[]
  readonly params: readonly string[]
}

export interface Names {
  readonly steps: ReadonlySet<string>
  readonly definition: PipelineDefinition
}

/** Resolves what a unit names, and says what it names in vain. */
export function readReferences(
  unit: SqlUnit,
  facts: SqlFacts,
  violations: readonly SqlViolation[],
  names: Names,
): { references: References; problems: Problem[] } {
  const problems: Problem[] = []
  const steps = new Set<string>()
  const sources = new Set<string>()
  const report = (code: Problem['code'], at: TextPosition, message: string, hint: string) =>
    problems.push(problemIn(unit, code, at, message, hint))

  for (const table of facts.tables) {
    const at = positionAtByte(unit.sql, table.byte)
    const name = table.name.toLowerCase()
    const schema = table.schema.toLowerCase()
    if (schema === '' && table.catalog === '') {
      if (names.steps.has(name)) steps.add(name)
      else report(...unknownTable(table, name, at, names))
    } else if (schema === 'source' && table.catalog === '') {
      if (Object.hasOwn(names.definition.sources, name)) sources.add(name)
      else {
        const hint = didYouMean(
          name,
          Object.keys(names.definition.sources),
          'Declare it under sources in pipeline.yaml.',
        )
        report('reference.unknown_source', at, `There is no source "${table.name}".`, hint)
      }
    } else {
      const whole = [table.catalog, table.schema, table.name].filter(Boolean).join('.')
      const hint = names.steps.has(name)
        ? `Write "${name}" to read the step of this pipeline.`
        : 'Declare the file as a source, or bring the step into this pipeline.'
      report(
        'reference.cross_pipeline',
        at,
        `"${whole}" would read another pipeline, which is not possible yet.`,
        hint,
      )
    }
  }
  if (unit.kind === 'report' && sources.size > 0) {
    const [source] = sources
    report(
      'reference.unknown_source',
      { line: 1, column: 1 },
      `A report reads steps, not sources: source.${source}.`,
      `Make a step with "from source.${source}", and read that.`,
    )
  }
  for (const violation of violations) {
    report(
      'function.not_allowed',
      positionAtByte(unit.sql, violation.offset),
      violation.message,
      violation.hint,
    )
  }
  const { params, problems: paramProblems } = readParams(unit, names)
  return {
    references: { steps: [...steps].sort(), sources: [...sources].sort(), params },
    problems: [...problems, ...paramProblems],
  }
}

function unknownTable(
  table: TableRef,
  name: string,
  at: TextPosition,
  names: Names,
): [Problem['code'], TextPosition, string, string] {
  if (/[./\\]|:\/\//.test(table.name)) {
    return [
      'reference.file',
      at,
      `SQL may not open the file '${table.name}' by itself.`,
      'Declare it under sources in pipeline.yaml and read it as source.<name>.',
    ]
  }
  if (Object.hasOwn(names.definition.sources, name)) {
    return [
      'reference.unknown',
      at,
      `There is no step "${table.name}".`,
      `Write source.${name} to read the source.`,
    ]
  }
  const known = [...names.steps, ...Object.keys(names.definition.sources).map(source => `source.${source}`)]
  const otherwise =
    names.steps.size > 0
      ? `Steps: ${[...names.steps].slice(0, 8).join(', ')}.`
      : 'This pipeline has no other step.'
  return [
    'reference.unknown',
    at,
    `There is no step "${table.name}".`,
    didYouMean(table.name, known, otherwise),
  ]
}

function readParams(unit: SqlUnit, names: Names): { params: string[]; problems: Problem[] } {
  const used = new Set<string>()
  const problems: Problem[] = []
  for (const token of paramTokens(unit.sql)) {
    const at = positionAt(unit.sql, token.start)
    if (/^(\d+|\?)$/.test(token.name)) {
      const mark = token.name === '?' ? '?' : `$${token.name}`
      problems.push(
        problemIn(unit, 'param.positional', at, `${mark} has no name.`, 'Use a declared param: $name.'),
      )
    } else if (Object.hasOwn(names.definition.params, token.name)) {
      used.add(token.name)
    } else {
      const declared = Object.keys(names.definition.params)
      const lower = token.name.toLowerCase()
      const hint = declared.includes(lower)
        ? `Write $${lower}: params are written in lower case.`
        : didYouMean(token.name, declared, 'Declare it under params in pipeline.yaml.')
      problems.push(problemIn(unit, 'param.unknown', at, `There is no param "${token.name}".`, hint))
    }
  }
  return { params: [...used].sort(), problems }
}

/** A problem at a place of a unit's own text. */
export function problemIn(
  unit: SqlUnit,
  code: Problem['code'],
  at: TextPosition,
  message: string,
  hint: string,
  severity: Problem['severity'] = 'error',
): Problem {
  const place = unit.place(at)
  const prefix = unit.kind === 'test' ? `In ${unit.title}: ` : ''
  return { code, severity, file: unit.file, ...place, message: prefix + message, hint, step_id: unit.step_id }
}
