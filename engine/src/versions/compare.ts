import {
  diffDefinitions,
  diffLines,
  type FieldChange,
  type PipelineDefinition,
  pipelineToFiles,
  type StepDefinition,
} from '@pluto-duck/crdt-model'
import type { Comparison } from '../contract/index.ts'

/** What is known of a step's result or shape on one side; absent when it was never compiled or run here. */
export interface StepFacts {
  readonly columns: readonly { readonly name: string; readonly type: string }[] | null
  readonly rows: number | null
  /** SQL without formatting and comments, as compile gives it. */
  readonly normalized_sql: string | null
  /** Names of the steps it reads. */
  readonly depends_on: readonly string[]
}

/** A side of a comparison: the definition, and by step id what is known of it. */
export interface ComparedSide {
  readonly definition: PipelineDefinition
  readonly facts: ReadonlyMap<string, StepFacts>
}

/**
 * Compares two states of a pipeline: files, settings, the plan (edited steps and everything downstream of them), columns and
 * rows. Formatting alone is no change: such a file has the status `formatting` and its step is `same`.
 */
export const compareSides = (pipelineId: string, before: ComparedSide, after: ComparedSide): Comparison => {
  const diff = diffDefinitions(before.definition, after.definition)
  return {
    pipeline_id: pipelineId,
    files: compareFiles(before, after),
    settings: [
      ...diff.settings.map(change => setting(change.field, change)),
      ...diff.steps
        .filter(step => step.change === 'changed')
        .flatMap(step => [
          ...(step.renamed ? [setting(`${step.name}: name`, { field: 'name', ...step.renamed })] : []),
          ...step.settings.map(change => setting(`${step.name}: ${change.field}`, change)),
          ...step.tests.map(change => setting(`${step.name}: test ${change.field}`, change)),
        ]),
      ...diff.params.flatMap(named =>
        named.settings.map(change => setting(`param ${named.name}: ${change.field}`, change)),
      ),
      ...diff.sources.flatMap(named =>
        named.settings.map(change => setting(`source ${named.name}: ${change.field}`, change)),
      ),
      ...diff.publish.map(change => setting(`publish: ${change.field}`, change)),
    ],
    steps: compareSteps(before, after),
  }
}

const setting = (label: string, change: Omit<FieldChange, 'field'> & { field?: string }) => ({
  label,
  before: inWords(change.before),
  after: inWords(change.after),
})

const inWords = (value: unknown): string | null => {
  if (value === undefined || value === null) return null
  return typeof value === 'string' ? value : JSON.stringify(value)
}

const compareFiles = (before: ComparedSide, after: ComparedSide): Comparison['files'] => {
  const left = pipelineToFiles(before.definition)
  const right = pipelineToFiles(after.definition)
  const paths = [...new Set([...Object.keys(left), ...Object.keys(right)])].sort()
  return paths.flatMap(path => {
    return comparedFile(path, left[path], right[path], () => isFormatting(path, before, after))
  })
}

/** A file of both sides, line by line; nothing when it is the same. A side without it is undefined. */
export const comparedFile = (
  path: string,
  was: string | undefined,
  is: string | undefined,
  isFormatting: () => boolean = () => false,
): Comparison['files'] => {
  if (was === is) return []
  const status =
    was === undefined ? 'added' : is === undefined ? 'removed' : isFormatting() ? 'formatting' : 'changed'
  const lines = diffLines(was ?? '', is ?? '').map(line => ({
    op: line.kind,
    text: line.text.replace(/\r?\n$/, ''),
    before: line.before ?? null,
    after: line.after ?? null,
  }))
  return [{ path, status, before: was ?? '', after: is ?? '', lines }]
}

/** Both sides of a step's file are known without formatting, and are the same. */
const isFormatting = (path: string, before: ComparedSide, after: ComparedSide): boolean => {
  const name = path.replace(/\.sql$/, '')
  if (name === path) return false
  const normalized = (side: ComparedSide) => {
    const step = side.definition.steps.find(candidate => candidate.name === name)
    return step ? (side.facts.get(step.id)?.normalized_sql ?? null) : null
  }
  const was = normalized(before)
  return was !== null && was === normalized(after)
}

const compareSteps = (before: ComparedSide, after: ComparedSide): Comparison['steps'] => {
  const was = new Map(before.definition.steps.map(step => [step.id, step]))
  const is = new Map(after.definition.steps.map(step => [step.id, step]))
  const rebuilt = rebuiltSteps(before, after)
  const steps = [...after.definition.steps, ...before.definition.steps.filter(step => !is.has(step.id))]
  return steps.map(step => {
    const old = was.get(step.id)
    const now = is.get(step.id)
    const left = before.facts.get(step.id)
    const right = after.facts.get(step.id)
    return {
      step_id: step.id,
      name: step.name,
      change: !old
        ? ('added' as const)
        : !now
          ? ('removed' as const)
          : rebuilt.edited.has(step.id)
            ? ('edited' as const)
            : rebuilt.downstream.has(step.id)
              ? ('downstream' as const)
              : old.name !== now.name
                ? ('renamed' as const)
                : ('same' as const),
      ...compareColumns(left?.columns ?? null, right?.columns ?? null),
      rows_before: left?.rows ?? null,
      rows_after: right?.rows ?? null,
    }
  })
}

/** Steps whose own meaning changed, and steps that read (directly or not) one that changed. */
const rebuiltSteps = (before: ComparedSide, after: ComparedSide) => {
  const was = new Map(before.definition.steps.map(step => [step.id, step]))
  const edited = new Set<string>()
  for (const step of after.definition.steps) {
    const old = was.get(step.id)
    if (!old || !meansTheSame(old, step, before.facts.get(step.id), after.facts.get(step.id)))
      edited.add(step.id)
  }
  const idOf = new Map(after.definition.steps.map(step => [step.name, step.id]))
  const downstream = new Set<string>()
  const touched = (id: string) => edited.has(id) || downstream.has(id)
  for (let grew = true; grew; ) {
    grew = false
    for (const step of after.definition.steps) {
      if (touched(step.id)) continue
      const reads = after.facts.get(step.id)?.depends_on ?? []
      if (reads.some(name => touched(idOf.get(name) ?? ''))) {
        downstream.add(step.id)
        grew = true
      }
    }
  }
  return { edited, downstream }
}

const meansTheSame = (
  old: StepDefinition,
  now: StepDefinition,
  left: StepFacts | undefined,
  right: StepFacts | undefined,
): boolean => {
  if (old.materialize !== now.materialize) return false
  if (old.sql === now.sql) return true
  const was = left?.normalized_sql ?? null
  return was !== null && was === (right?.normalized_sql ?? null)
}

const compareColumns = (before: StepFacts['columns'], after: StepFacts['columns']) => {
  const none = { columns_added: [], columns_removed: [], columns_retyped: [] }
  if (!before || !after) return none
  const was = new Map(before.map(column => [column.name, column.type]))
  const is = new Map(after.map(column => [column.name, column.type]))
  return {
    columns_added: after.filter(column => !was.has(column.name)).map(column => ({ ...column })),
    columns_removed: before.filter(column => !is.has(column.name)).map(column => ({ ...column })),
    columns_retyped: after.flatMap(column => {
      const type = was.get(column.name)
      return type === undefined || type === column.type
        ? []
        : [{ name: column.name, before: type, after: column.type }]
    }),
  }
}
