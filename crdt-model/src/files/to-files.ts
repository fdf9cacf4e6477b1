import { Document, isScalar, Scalar, visit } from 'yaml'
import {
  identifierName,
  type PipelineDefinition,
  paramDefinition,
  pipelineDefinition,
  publishDefinition,
  sourceDefinition,
  stepDefinition,
} from '../documents/definition.ts'

export const PIPELINE_FILE = 'pipeline.yaml'
export const REPORT_FILE = 'report.md'

/**
 * A pipeline as a folder: `pipeline.yaml` (everything but the texts), `<step>.sql` and `report.md`, each exactly the text of
 * the definition (no newline added). Paths are relative to the folder. Fields that have their default are left out and maps
 * are sorted, so equal definitions give equal files.
 *
 * `pipelineFromFiles` gives the same definition back.
 */
export function pipelineToFiles(definition: PipelineDefinition): Record<string, string> {
  const files: Record<string, string> = {}
  const taken = new Set<string>()
  const steps = definition.steps.map((step, index) => {
    const { id, name, sql, ...settings } = step
    const file = sqlFile(name, index, taken)
    files[file] = sql
    return {
      id,
      name,
      ...(file === `${name}.sql` ? {} : { file }),
      ...withoutDefaults(settings, stepDefinition.shape),
      ...(step.tests.length > 0
        ? {
            tests: step.tests.map(({ id: testId, type, severity, description, ...fields }) => ({
              id: testId,
              type,
              ...(severity === 'error' ? {} : { severity }),
              ...(description === '' ? {} : { description }),
              ...fields,
            })),
          }
        : {}),
    }
  })
  const named = (things: Record<string, object>, shape: Shape) =>
    Object.fromEntries(
      Object.keys(things)
        .sort()
        .map(name => [name, sorted(withoutDefaults(things[name]!, shape))]),
    )
  const { name, description, tags, publish } = definition
  const outline = {
    schema_version: definition.schema_version,
    name,
    ...withoutDefaults({ description, tags }, pipelineDefinition.shape),
    ...section('params', named(definition.params, paramDefinition.shape)),
    ...section('sources', named(definition.sources, sourceDefinition.shape)),
    ...(steps.length > 0 ? { steps } : {}),
    ...section('publish', withoutDefaults(publish, publishDefinition.shape)),
  }
  files[PIPELINE_FILE] = asYaml(outline)
  if (definition.report !== '') files[REPORT_FILE] = definition.report
  return files
}

/** Lines that begin or end with blanks, and returns, are lost or changed in a block of lines: such a text is quoted. */
const NO_BLOCK = /^\s|[ \t]\n|[ \t]$|\n[ \t]|\r/

function asYaml(outline: Record<string, unknown>): string {
  const document = new Document(outline, { aliasDuplicateObjects: false })
  visit(document, {
    Scalar: (_key, node) => {
      if (
        isScalar(node) &&
        typeof node.value === 'string' &&
        node.value.includes('\n') &&
        NO_BLOCK.test(node.value)
      )
        node.type = Scalar.QUOTE_DOUBLE
    },
  })
  return document.toString({ lineWidth: 0 })
}

type Shape = Readonly<Record<string, { safeParse(value: unknown): { success: boolean; data?: unknown } }>>

/** The fields whose value is not the default, in the order of the schema. */
function withoutDefaults(thing: object, shape: Shape): Record<string, unknown> {
  const fields = thing as Record<string, unknown>
  const kept: Record<string, unknown> = {}
  for (const [key, schema] of Object.entries(shape)) {
    if (!Object.hasOwn(fields, key)) continue
    const absent = schema.safeParse(undefined)
    if (absent.success && JSON.stringify(absent.data) === JSON.stringify(fields[key])) continue
    kept[key] = fields[key]
  }
  return kept
}

const section = (key: string, value: Record<string, unknown>): Record<string, unknown> =>
  Object.keys(value).length > 0 ? { [key]: value } : {}

/** Maps inside a thing in the order of their keys; lists keep theirs. */
function sorted(value: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => {
      if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) return [key, entry]
      const map = entry as Record<string, unknown>
      return [
        key,
        sorted(
          Object.fromEntries(
            Object.keys(map)
              .sort()
              .map(inner => [inner, map[inner]]),
          ),
        ),
      ]
    }),
  )
}

/** `<name>.sql`; a name that is taken or no file name gets another, which pipeline.yaml then tells. */
function sqlFile(name: string, index: number, taken: Set<string>): string {
  const usual = `${name}.sql`
  const file = identifierName.safeParse(name).success && !taken.has(usual) ? usual : `step-${index + 1}.sql`
  taken.add(file)
  return file
}
