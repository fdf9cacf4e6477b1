import * as Automerge from '@automerge/automerge'
import type { PipelineDefinition, Scalar, StepDefinition } from './definition.ts'
import type { Problem } from './problem.ts'
import { readPipeline } from './read-pipeline.ts'
import type { PipelineDoc } from './schema.ts'
import { problemAt, schemaProblems } from './schema-problems.ts'

const PIPELINE_FILE = 'pipeline.yaml'

/**
 * Everything that can be said to be wrong without parsing SQL: invalid values, names used twice, steps without SQL,
 * references to steps that are not there. All at once, in the order of the definition.
 *
 * Takes a document or a definition. A version may be published when none has severity `error`.
 */
export function problemsOf(subject: PipelineDoc | PipelineDefinition): Problem[] {
  if (isDefinition(subject)) return definitionProblems(subject)
  const { definition, problems } = readPipeline(subject)
  return [...problems, ...definitionProblems(definition)]
}

const isDefinition = (subject: PipelineDoc | PipelineDefinition): subject is PipelineDefinition =>
  !Automerge.isAutomerge(subject)

function definitionProblems(definition: PipelineDefinition): Problem[] {
  return [
    ...schemaProblems(definition),
    ...identityProblems(definition),
    ...textProblems(definition),
    ...definition.steps.flatMap((step, index) => stepProblems(step, index)),
    ...paramProblems(definition),
    ...sourceProblems(definition),
    ...publishProblems(definition),
  ]
}

/** What has a name or an id: a definition, or as much of one as could be read. */
export interface Named {
  readonly steps: readonly {
    readonly id: string
    readonly name: string
    readonly tests: readonly { readonly id: string }[]
  }[]
}

/** Names and ids that must be unique and are not. */
export function identityProblems(definition: Named): Problem[] {
  const found: Problem[] = []
  const repeated = (values: readonly string[], report: (value: string, index: number) => void) => {
    const seen = new Set<string>()
    values.forEach((value, index) => {
      if (seen.has(value)) report(value, index)
      seen.add(value)
    })
  }
  repeated(
    definition.steps.map(step => step.name),
    (name, index) =>
      found.push(
        problem(
          'step.duplicate_name',
          `Two steps are called «${name}».`,
          ['steps', index, 'name'],
          definition,
          {
            hint: 'Rename one of them; steps refer to each other by name.',
          },
        ),
      ),
  )
  repeated(
    definition.steps.map(step => step.id),
    (id, index) =>
      found.push(
        problem('step.duplicate_id', `Two steps have the id «${id}».`, ['steps', index, 'id'], definition, {
          hint: 'Remove the id of the copied step; import gives it a new one.',
        }),
      ),
  )
  definition.steps.forEach((step, stepIndex) => {
    repeated(
      step.tests.map(test => test.id),
      (id, index) =>
        found.push(
          problem(
            'test.duplicate_id',
            `Two tests of «${step.name}» have the id «${id}».`,
            ['steps', stepIndex, 'tests', index, 'id'],
            definition,
            { hint: 'Remove the id of the copied test; import gives it a new one.' },
          ),
        ),
    )
  })
  return found
}

/** Text that UTF-8 cannot hold would come back from a file or a document as something else. */
export function textProblems(definition: PipelineDefinition): Problem[] {
  const found: Problem[] = []
  const visit = (value: unknown, path: readonly (string | number)[]): void => {
    if (typeof value === 'string') {
      if (!value.isWellFormed())
        found.push(
          problem(
            'value.not_text',
            `The text at ${path.join('.')} holds half of a character.`,
            path,
            definition,
            {
              hint: 'Type the broken character again.',
            },
          ),
        )
    } else if (Array.isArray(value))
      for (const [index, entry] of value.entries()) visit(entry, [...path, index])
    else if (typeof value === 'object' && value !== null)
      for (const [key, entry] of Object.entries(value)) {
        visit(key, [...path, key])
        visit(entry, [...path, key])
      }
  }
  visit(definition, [])
  return found
}

function stepProblems(step: StepDefinition, index: number): Problem[] {
  const found: Problem[] = []
  const add = (code: string, message: string, hint: string, field: string, file = PIPELINE_FILE) =>
    found.push({
      code,
      message,
      hint,
      severity: 'error',
      file,
      step_id: step.id,
      path: ['steps', index, field],
    })
  if (step.sql.trim() === '')
    add('step.missing_sql', `Step «${step.name}» has no SQL.`, 'Write one SELECT.', 'sql', `${step.name}.sql`)
  if (step.materialize === 'incremental' && step.unique_key.length === 0 && step.time_column === null)
    add(
      'step.incremental_key',
      `Step «${step.name}» is incremental but says neither by which key nor by which time.`,
      'Set unique_key or time_column.',
      'materialize',
    )
  if (step.materialize === 'snapshot' && step.unique_key.length === 0)
    add(
      'step.snapshot_key',
      `Step «${step.name}» is a snapshot without a unique_key.`,
      'Set unique_key to the columns that name a row.',
      'materialize',
    )
  return found
}

const DATE = /^\d{4}-\d{2}-\d{2}$/
const FITS: Record<string, (value: Scalar) => boolean> = {
  text: value => typeof value === 'string',
  integer: value => typeof value === 'number' && Number.isInteger(value),
  number: value => typeof value === 'number',
  boolean: value => typeof value === 'boolean',
  date: value => typeof value === 'string' && DATE.test(value) && !Number.isNaN(Date.parse(value)),
  timestamp: value => typeof value === 'string' && !Number.isNaN(Date.parse(value)),
}

function paramProblems(definition: PipelineDefinition): Problem[] {
  const found: Problem[] = []
  for (const [name, param] of Object.entries(definition.params)) {
    const fits = FITS[param.type]
    const add = (code: string, message: string, path: (string | number)[], hint: string) =>
      found.push(problem(code, message, ['params', name, ...path], definition, { hint }))
    if (fits && param.default !== null && !fits(param.default))
      add(
        'param.wrong_type',
        `The default of «${name}» is no ${param.type}.`,
        ['default'],
        `Give a ${param.type}.`,
      )
    param.allowed.forEach((value, index) => {
      if (fits && !fits(value))
        add(
          'param.wrong_type',
          `An allowed value of «${name}» is no ${param.type}.`,
          ['allowed', index],
          `Give a ${param.type}.`,
        )
    })
    if (param.default !== null && param.allowed.length > 0 && !param.allowed.includes(param.default))
      add(
        'param.default_not_allowed',
        `The default of «${name}» is none of its allowed values.`,
        ['default'],
        'Add it to allowed, or choose another default.',
      )
  }
  return found
}

function sourceProblems(definition: PipelineDefinition): Problem[] {
  return Object.entries(definition.sources).flatMap(([name, source]) => {
    const columns = source.options.columns
    if (columns === undefined || Array.isArray(columns)) return []
    return [
      problem(
        'source.columns_unordered',
        `The columns of source «${name}» are no list.`,
        ['sources', name, 'options', 'columns'],
        definition,
        { hint: 'Write them as a list of {name, type}: their order matters.' },
      ),
    ]
  })
}

function publishProblems(definition: PipelineDefinition): Problem[] {
  const names = new Set(definition.steps.map(step => step.name))
  return definition.publish.snapshots.flatMap((snapshot, index) =>
    names.has(snapshot.step)
      ? []
      : [
          problem(
            'publish.unknown_step',
            `A snapshot of «${snapshot.step}» is to be published, and there is no such step.`,
            ['publish', 'snapshots', index, 'step'],
            definition,
            { hint: 'Name one of the steps, or remove the snapshot.' },
          ),
        ],
  )
}

const problem = (
  code: string,
  message: string,
  path: readonly (string | number)[],
  subject: unknown,
  { hint }: { hint: string },
): Problem => problemAt(code, message, path, subject, hint)
