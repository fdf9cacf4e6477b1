import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { type ReportLayout, readReport } from '../reports/report-blocks.ts'
import type { TextPosition } from './text-position.ts'

/** A piece of SQL somewhere in a pipeline, and how a place in it maps to a place in its file. */
export interface SqlUnit {
  readonly kind: 'step' | 'test' | 'report'
  readonly file: string
  readonly sql: string
  /** The step's name; the step that is tested; null in a report. */
  readonly step: string | null
  readonly step_id: string | null
  /** How messages call it: `step "orders"`. */
  readonly title: string
  place(position: TextPosition): TextPosition
}

export interface Units {
  readonly units: readonly SqlUnit[]
  readonly report: ReportLayout
}

/** Finds a path such as `['steps', 0, 'tests', 1, 'sql']` of the definition in pipeline.yaml. */
export type Locate = (path: ReadonlyArray<string | number>) => TextPosition

/** Every SQL text of a definition: steps, custom tests and report blocks. */
export function unitsOf(definition: PipelineDefinition, locate: Locate): Units {
  const units: SqlUnit[] = []
  definition.steps.forEach((step, index) => {
    units.push({
      kind: 'step',
      file: `${step.name}.sql`,
      sql: step.sql,
      step: step.name,
      step_id: step.id,
      title: `step "${step.name}"`,
      place: position => position,
    })
    step.tests.forEach((test, testIndex) => {
      if (test.type !== 'custom') return
      const place = locate(['steps', index, 'tests', testIndex, 'sql'])
      units.push({
        kind: 'test',
        file: 'pipeline.yaml',
        sql: test.sql,
        step: step.name,
        step_id: step.id,
        title: `test ${testIndex + 1} of step "${step.name}"`,
        // How the text is folded in YAML is the writer's choice, so a place inside it would be a guess.
        place: () => place,
      })
    })
  })
  const report = readReport(definition.report)
  for (const part of report.parts) {
    if (part.kind !== 'sql') continue
    units.push({
      kind: 'report',
      file: 'report.md',
      sql: part.sql,
      step: null,
      step_id: null,
      title: `report block "${part.name}"`,
      place: position => ({ line: position.line + part.line - 1, column: position.column }),
    })
  }
  return { units, report }
}
