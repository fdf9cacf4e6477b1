import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import type { ReportLayout } from '../reports/report-blocks.ts'
import type { SourceResolution, UnresolvedSource } from '../sources/resolve-sources.ts'
import { checkParamDefinition, type ResolvedParams } from './params.ts'
import { didYouMean, type Problem, type ProblemCode } from './problem.ts'
import type { Column } from './sql-port.ts'
import type { Locate } from './units.ts'

export interface DefinitionToCheck {
  readonly definition: PipelineDefinition
  readonly locate: Locate
  readonly report: ReportLayout
  readonly params: ResolvedParams
  readonly sources: Readonly<Record<string, SourceResolution>> | undefined
}

/** Names that a step may not have: `source` is where the sources live, the others are DuckDB's own schemas. */
const RESERVED = new Set(['source', 'main', 'temp', 'system', 'pg_catalog', 'information_schema'])

/** What can be said without looking into any SQL: names, params, sources, report blocks, what is to be published. */
export function checkDefinition({
  definition,
  locate,
  report,
  params,
  sources,
}: DefinitionToCheck): Problem[] {
  const problems: Problem[] = []
  const add = (
    code: ProblemCode,
    path: Array<string | number>,
    message: string,
    hint: string,
    step: string | null = null,
  ) =>
    problems.push({
      code,
      severity: 'error',
      file: 'pipeline.yaml',
      ...locate(path),
      message,
      hint,
      step_id: step,
    })

  const names = new Set<string>()
  definition.steps.forEach((step, index) => {
    const path = ['steps', index, 'name']
    if (names.has(step.name)) {
      add(
        'step.duplicate',
        path,
        `Two steps are called "${step.name}".`,
        'Rename one of them; steps refer to each other by name.',
        step.id,
      )
    } else if (RESERVED.has(step.name)) {
      add(
        'step.reserved',
        path,
        `A step cannot be called "${step.name}".`,
        'Choose another name: this one is taken by the engine.',
        step.id,
      )
    }
    names.add(step.name)
    if (step.materialize === 'incremental' || step.materialize === 'snapshot') {
      problems.push({
        code: 'step.materialize',
        // Rebuilding whole gives an incremental step the same rows; a snapshot's history would be lost.
        severity: step.materialize === 'snapshot' ? 'error' : 'warning',
        file: 'pipeline.yaml',
        ...locate(['steps', index, 'materialize']),
        message: `The step "${step.name}" is ${step.materialize}, which this version cannot do yet.`,
        hint:
          step.materialize === 'snapshot'
            ? 'Make it a table or a view.'
            : 'It is rebuilt whole when something changes: the rows are the same, it only takes longer.',
        step_id: step.id,
      })
    }
  })

  const declared = new Set<string>()
  for (const [name, param] of Object.entries(definition.params)) {
    for (const problem of checkParamDefinition(name, param)) {
      declared.add(name)
      add('param.invalid', ['params', name], `The param "${name}" ${problem.reason}.`, problem.hint)
    }
  }
  for (const problem of params.problems) {
    if (declared.has(problem.param)) continue
    add(
      'param.invalid',
      ['params', problem.param],
      `The value of the param "${problem.param}" ${problem.reason}.`,
      problem.hint,
    )
  }

  for (const source of Object.values(sources ?? {})) {
    if (source.state === 'failed')
      add(SOURCE_CODE[source.reason], ['sources', source.name, 'path'], source.message, source.hint)
  }

  for (const block of report.problems) {
    problems.push({ ...block, severity: 'error', file: 'report.md', column: 1, step_id: null })
  }
  const blocks = report.parts.flatMap(part => (part.kind === 'sql' ? [part.name] : []))
  for (const part of report.parts) {
    if (part.kind !== 'chart') continue
    const unknown = part.data.find(name => !blocks.includes(name) && !names.has(name))
    if (unknown === undefined) continue
    const known = [...blocks, ...names]
    problems.push({
      code: 'report.chart',
      severity: 'error',
      file: 'report.md',
      line: part.line,
      column: 1,
      message: `The chart shows "${unknown}", which is neither a sql block nor a step.`,
      hint: didYouMean(unknown, known, `Use one of: ${known.slice(0, 8).join(', ')}.`),
      step_id: null,
    })
  }
  return problems
}

const SOURCE_CODE: Record<UnresolvedSource['reason'], ProblemCode> = {
  missing: 'source.missing',
  outside: 'source.missing',
  option: 'source.option',
  unsupported: 'source.unreadable',
  unreadable: 'source.unreadable',
}

/** What can be said once the columns are known: tests, keys and snapshots have to name columns that are there. */
export function checkColumns(
  definition: PipelineDefinition,
  columns: ReadonlyMap<string, readonly Column[]>,
  locate: Locate,
): Problem[] {
  const problems: Problem[] = []
  const check = (
    code: ProblemCode,
    step: string,
    wanted: readonly string[],
    what: string,
    path: Array<string | number>,
  ) => {
    const known = columns.get(step)?.map(column => column.name)
    if (!known) return
    for (const column of wanted) {
      if (known.some(name => name.toLowerCase() === column.toLowerCase())) continue
      problems.push({
        code,
        severity: 'error',
        file: 'pipeline.yaml',
        ...locate(path),
        message: `${what} names the column "${column}", which the step "${step}" does not have.`,
        hint: didYouMean(column, known, `Its columns: ${known.slice(0, 8).join(', ')}.`),
        step_id: definition.steps.find(candidate => candidate.name === step)?.id ?? null,
      })
    }
  }
  definition.steps.forEach((step, index) => {
    step.tests.forEach((test, testIndex) => {
      const path = ['steps', index, 'tests', testIndex]
      if (test.type === 'unique')
        check('test.column', step.name, test.columns, 'The test unique', [...path, 'columns'])
      else if (test.type !== 'custom')
        check('test.column', step.name, [test.column], `The test ${test.type}`, [...path, 'column'])
    })
    check('test.column', step.name, step.unique_key, 'unique_key', ['steps', index, 'unique_key'])
  })
  definition.publish.snapshots.forEach((snapshot, index) => {
    const path = ['publish', 'snapshots', index]
    if (definition.steps.some(step => step.name === snapshot.step)) {
      check('publish.unknown', snapshot.step, snapshot.columns, 'publish', [...path, 'columns'])
      return
    }
    problems.push({
      code: 'publish.unknown',
      severity: 'error',
      file: 'pipeline.yaml',
      ...locate([...path, 'step']),
      message: `publish names the step "${snapshot.step}", which is not there.`,
      hint: didYouMean(
        snapshot.step,
        definition.steps.map(step => step.name),
        'Name one of the steps, or leave it out.',
      ),
      step_id: null,
    })
  })
  return problems
}
