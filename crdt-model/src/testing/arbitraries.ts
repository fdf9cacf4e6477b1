import * as fc from 'fast-check'
import {
  type DataTest,
  type PipelineDefinition,
  pipelineDefinition,
  type StepDefinition,
} from '../documents/definition.ts'

/** Texts that files, YAML and CRDTs stumble over, among ordinary ones. */
const SPECIAL = [
  '',
  ' ',
  '\n',
  'a\n',
  'a\r\nb\r\n',
  '\ufeffselect 1',
  '주간 매출\n',
  '🦆🇰🇷👩‍👩‍👧',
  'no',
  '~',
  'null',
  '1e3',
  '0x10',
  '- a',
  'a: b',
  'a #b',
  '#',
  '"',
  "'",
  '|\n  x',
  '> x',
  '%YAML 1.2',
  '---\n...',
  '&a *a !b',
  '\ttab',
  'trailing  ',
  '\u0000\u0007\u2028',
  'x\n\n\n',
  '  indented\nless\n',
  '@',
  '`',
]

export const anyText: fc.Arbitrary<string> = fc.oneof(
  fc.constantFrom(...SPECIAL),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.string({ unit: 'grapheme', maxLength: 40 }),
  fc.array(fc.constantFrom(...SPECIAL), { maxLength: 4 }).map(parts => parts.join('')),
)

/** Any JSON that a document can hold: Automerge itself refuses the key `__proto__`. */
export const anyHeldJson: fc.Arbitrary<fc.JsonValue> = fc
  .jsonValue({ maxDepth: 3 })
  .filter(value => !JSON.stringify(value).includes('"__proto__":'))

const anyName = fc.stringMatching(/^[a-z_][a-z0-9_]{0,10}$/).filter(name => name !== '__proto__')
const anyPipelineName = fc.stringMatching(/^[a-z0-9][a-z0-9_-]{0,20}$/)
const someText = anyText.filter(text => text.length > 0)
const anyNumber = fc.oneof(
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map(value => (Object.is(value, -0) ? 0 : value)),
)
const anyScalar = fc.oneof(anyText, anyNumber, fc.boolean(), fc.constant(null))
const keyed = <T>(value: fc.Arbitrary<T>, maxKeys = 3) =>
  fc.dictionary(anyName, value, { maxKeys, noNullPrototype: true })

const anyTest = (id: string): fc.Arbitrary<DataTest> => {
  const base = { id: fc.constant(id), severity: fc.constantFrom('warn', 'error'), description: anyText }
  return fc.oneof(
    fc.record({ ...base, type: fc.constant('not_null'), column: someText }),
    fc.record({
      ...base,
      type: fc.constant('unique'),
      columns: fc.array(someText, { minLength: 1, maxLength: 3 }),
    }),
    fc.record({
      ...base,
      type: fc.constant('accepted_values'),
      column: someText,
      values: fc.array(anyScalar, { minLength: 1, maxLength: 4 }),
    }),
    fc.record({ ...base, type: fc.constant('custom'), sql: someText }),
  ) as fc.Arbitrary<DataTest>
}

const anyStep = (id: string, name: string): fc.Arbitrary<StepDefinition> =>
  fc.record({
    id: fc.constant(id),
    name: fc.constant(name),
    description: anyText,
    sql: anyText,
    materialize: fc.constantFrom('table', 'view', 'incremental', 'snapshot'),
    unique_key: fc.array(anyText, { maxLength: 2 }),
    time_column: fc.option(anyText),
    lookback: fc.option(anyText),
    tests: fc
      .uniqueArray(fc.constantFrom('t1', 't2', 't3', 't4'), { maxLength: 3 })
      .chain(ids => fc.tuple(...ids.map(anyTest))),
    timeout_s: fc.option(fc.integer({ min: 1, max: 86_400 })),
    retry: fc.option(
      fc.record({ attempts: fc.integer({ min: 1, max: 10 }), backoff_s: fc.integer({ min: 0, max: 3600 }) }),
    ),
  })

const anySteps: fc.Arbitrary<StepDefinition[]> = fc
  .uniqueArray(fc.record({ id: fc.constantFrom('s1', 's2', 's3', 's4', 's5', 's6'), name: anyName }), {
    maxLength: 5,
    selector: step => step.id,
    comparator: 'IsStrictlyEqual',
  })
  .filter(steps => new Set(steps.map(step => step.name)).size === steps.length)
  .chain(steps => fc.tuple(...steps.map(step => anyStep(step.id, step.name))))

/** Any definition that the schema allows and whose ids and step names are unique; its SQL need not be SQL. */
export const anyDefinition: fc.Arbitrary<PipelineDefinition> = fc
  .record({
    schema_version: fc.constant(1 as const),
    name: anyPipelineName,
    description: anyText,
    tags: fc.array(anyText, { maxLength: 3 }),
    params: keyed(
      fc.record({
        type: fc.constantFrom('text', 'integer', 'number', 'boolean', 'date', 'timestamp'),
        description: anyText,
        default: anyScalar,
        allowed: fc.array(anyScalar, { maxLength: 3 }),
      }),
    ),
    sources: keyed(
      fc.record({
        kind: fc.constantFrom('csv', 'parquet', 'json'),
        description: anyText,
        path: someText,
        options: keyed(
          fc.oneof(
            anyScalar,
            fc.array(anyScalar, { maxLength: 3 }),
            keyed(anyText, 2),
            fc.array(fc.record({ name: someText, type: someText }), { minLength: 1, maxLength: 2 }),
          ),
        ),
      }),
    ),
    steps: anySteps,
    report: anyText,
    publish: fc.record({
      report: fc.boolean(),
      snapshots: fc.array(
        fc.record({
          step: anyName,
          columns: fc.array(anyText, { maxLength: 2 }),
          max_rows: fc.integer({ min: 1, max: 1_000_000 }),
        }),
        { maxLength: 2 },
      ),
    }),
  })
  .map(value => pipelineDefinition.parse(value))
