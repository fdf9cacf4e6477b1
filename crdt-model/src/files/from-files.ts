import { v7 } from 'uuid'
import { canonicalJson } from '../canonical/canonical.ts'
import { type PipelineDefinition, pipelineDefinition } from '../documents/definition.ts'
import type { Problem } from '../documents/problem.ts'
import { identityProblems, type Named, textProblems } from '../documents/problems.ts'
import { schemaProblems } from '../documents/schema-problems.ts'
import { PIPELINE_FILE, REPORT_FILE } from './to-files.ts'
import { parseOutline, type YamlOutline } from './yaml-outline.ts'

export interface ImportOptions {
  /** The pipeline that the files replace: steps and tests without an id take the id of the one they match there. */
  readonly base?: PipelineDefinition
  /** Ids for new steps and tests. Default: UUID v7. */
  readonly newId?: () => string
}

export type ImportResult =
  | { readonly ok: true; readonly definition: PipelineDefinition }
  | { readonly ok: false; readonly problems: readonly Problem[] }

/**
 * Reads a pipeline's folder: relative path -> text. Files other than `pipeline.yaml`, `*.sql` and `report.md` are not looked
 * at. Either the whole definition or every problem at once, each with file, line, column and what to do.
 *
 * SQL is taken as it is: `problemsOf` and compile judge it.
 */
export function pipelineFromFiles(
  files: Readonly<Record<string, string>>,
  options: ImportOptions = {},
): ImportResult {
  const problems: Problem[] = clashingPaths(files)
  const text = Object.hasOwn(files, PIPELINE_FILE) ? files[PIPELINE_FILE] : undefined
  if (text === undefined) {
    const other = Object.keys(files).find(path => /^pipeline\.ya?ml$/i.test(path))
    return {
      ok: false,
      problems: [
        ...problems,
        problem('file.missing', `There is no ${PIPELINE_FILE}.`, {
          hint: other
            ? `Rename ${other} to ${PIPELINE_FILE}.`
            : `Every pipeline's folder has a ${PIPELINE_FILE}.`,
        }),
      ],
    }
  }
  const outline = parseOutline(text)
  problems.push(...outline.problems)
  if (outline.problems.length > 0) return { ok: false, problems }
  if (!isRecord(outline.value))
    return {
      ok: false,
      problems: [
        ...problems,
        problem('file.bad_yaml', `${PIPELINE_FILE} holds no keys.`, {
          hint: 'Start it with `name: my-pipeline`.',
          ...outline.locate([]),
        }),
      ],
    }
  const whole = assemble(outline.value, files, outline, options, problems)
  const parsed = pipelineDefinition.safeParse(whole)
  const found = parsed.success
    ? [...identityProblems(parsed.data), ...textProblems(parsed.data)]
    : [...schemaProblems(whole), ...identityProblems(namesIn(whole))]
  problems.push(...found.map(one => located(one, outline)))
  if (parsed.success && problems.length === 0) return { ok: true, definition: parsed.data }
  return { ok: false, problems: problems.sort(byPlace) }
}

/** In the order in which a person meets them: pipeline.yaml from top to bottom, then the other files. */
function byPlace(a: Problem, b: Problem): number {
  const rank = (problem: Problem) => (problem.file === PIPELINE_FILE ? '' : (problem.file ?? ''))
  const [left, right] = [rank(a), rank(b)]
  if (left !== right) return left < right ? -1 : 1
  return (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0)
}

/** The names and ids of what could not be parsed as a whole; what has none gets one that nothing else has. */
function namesIn(whole: Record<string, unknown>): Named {
  const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : [])
  const text = (thing: unknown, key: string, other: string): string =>
    isRecord(thing) && typeof thing[key] === 'string' ? thing[key] : `${key} ${other}`
  return {
    steps: list(whole.steps).map((step, at) => ({
      id: text(step, 'id', `of step ${at}`),
      name: text(step, 'name', `of step ${at}`),
      tests: list(isRecord(step) ? step.tests : []).map((test, index) => ({
        id: text(test, 'id', `of test ${index}`),
      })),
    })),
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The outline with the texts of the other files put in and ids given where they lack. */
function assemble(
  outline: Record<string, unknown>,
  files: Readonly<Record<string, string>>,
  yaml: YamlOutline,
  options: ImportOptions,
  problems: Problem[],
): Record<string, unknown> {
  const { steps, ...rest } = outline
  if (Object.hasOwn(outline, 'report'))
    problems.push(
      problem('value.unknown_key', `The report is not written in ${PIPELINE_FILE}.`, {
        hint: `Move it to ${REPORT_FILE}.`,
        ...yaml.locate(['report'], 'key'),
      }),
    )
  const used = new Map<string, string>()
  const ids = new IdGiver(steps, options)
  const whole = {
    schema_version: 1,
    ...rest,
    // An empty section (`params:` and nothing below) is no section.
    ...Object.fromEntries(
      ['params', 'sources', 'tags', 'publish', 'description'].flatMap(key =>
        rest[key] === null ? [[key, undefined]] : [],
      ),
    ),
    report: Object.hasOwn(files, REPORT_FILE) ? files[REPORT_FILE] : '',
    ...(steps === undefined || steps === null
      ? {}
      : {
          steps: Array.isArray(steps)
            ? steps.map((step: unknown, index) =>
                isRecord(step) ? assembleStep(step, index, files, yaml, ids, used, problems) : step,
              )
            : steps,
        }),
  }
  for (const path of Object.keys(files).sort())
    if (path.endsWith('.sql') && !used.has(path))
      problems.push(
        problem('file.unlisted', `${path} belongs to no step of ${PIPELINE_FILE}.`, {
          hint: `Add a step of that name to ${PIPELINE_FILE}, or remove the file.`,
          file: path,
          line: 1,
          column: 1,
        }),
      )
  return whole
}

function assembleStep(
  step: Record<string, unknown>,
  index: number,
  files: Readonly<Record<string, string>>,
  yaml: YamlOutline,
  ids: IdGiver,
  used: Map<string, string>,
  problems: Problem[],
): Record<string, unknown> {
  const { file: named, ...rest } = step
  const add = (code: string, message: string, hint: string, field: string) =>
    problems.push(problem(code, message, { hint, ...yaml.locate(['steps', index, field], 'key') }))
  const label = typeof step.name === 'string' ? step.name : `number ${index + 1}`
  if (Object.hasOwn(step, 'sql'))
    add(
      'value.unknown_key',
      `The SQL of step «${label}» is not written in ${PIPELINE_FILE}.`,
      `Move it to ${typeof step.name === 'string' ? step.name : '<name>'}.sql.`,
      'sql',
    )
  const file =
    typeof named === 'string' ? named : typeof step.name === 'string' ? `${step.name}.sql` : undefined
  if (named !== undefined && typeof named !== 'string')
    add(
      'value.invalid',
      `The file of step «${label}» is no text.`,
      'Name its .sql file, or leave the key out.',
      'file',
    )
  let sql = ''
  if (file !== undefined) {
    const owner = used.get(file)
    if (owner !== undefined && named !== undefined)
      add(
        'file.shared',
        `Steps «${owner}» and «${label}» name the same file ${file}.`,
        'Give each its own file.',
        'file',
      )
    used.set(file, label)
    if (!file.endsWith('.sql'))
      add('value.invalid', `The file of step «${label}» is no .sql file.`, 'Name a .sql file.', 'file')
    else if (Object.hasOwn(files, file)) sql = files[file]!
    else
      add(
        'file.missing',
        `Step «${label}» has no file ${file}.`,
        `Add ${file}, or remove the step.`,
        named === undefined ? 'name' : 'file',
      )
  }
  const id = Object.hasOwn(step, 'id') ? step.id : ids.forStep(step)
  const { tests } = step
  return {
    ...rest,
    id,
    sql,
    ...(Array.isArray(tests)
      ? {
          tests: tests.map((test: unknown) =>
            isRecord(test) && !Object.hasOwn(test, 'id') ? { ...test, id: ids.forTest(id, test) } : test,
          ),
        }
      : tests === null
        ? { tests: undefined }
        : {}),
  }
}

/** Gives steps and tests without an id the id of what they match in the base, each at most once, or a new one. */
class IdGiver {
  readonly #base: PipelineDefinition | undefined
  readonly #newId: () => string
  readonly #taken = new Set<unknown>()

  constructor(steps: unknown, options: ImportOptions) {
    this.#base = options.base
    this.#newId = options.newId ?? v7
    if (!Array.isArray(steps)) return
    for (const step of steps as unknown[]) {
      if (!isRecord(step)) continue
      this.#taken.add(step.id)
      if (Array.isArray(step.tests))
        for (const test of step.tests as unknown[]) if (isRecord(test)) this.#taken.add(test.id)
    }
  }

  forStep(step: Record<string, unknown>): string {
    return this.#take(this.#base?.steps.filter(known => known.name === step.name).map(known => known.id))
  }

  forTest(stepId: unknown, test: Record<string, unknown>): string {
    const wanted = canonicalJson({ severity: 'error', description: '', ...test })
    const tests = this.#base?.steps.find(step => step.id === stepId)?.tests
    return this.#take(
      tests?.filter(({ id: _, ...fields }) => canonicalJson(fields) === wanted).map(known => known.id),
    )
  }

  #take(candidates: readonly string[] = []): string {
    const id = candidates.find(candidate => !this.#taken.has(candidate)) ?? this.#newId()
    this.#taken.add(id)
    return id
  }
}

/** Paths that are one file on a disk that ignores case. */
function clashingPaths(files: Readonly<Record<string, string>>): Problem[] {
  const seen = new Map<string, string>()
  return Object.keys(files)
    .sort()
    .flatMap(path => {
      const first = seen.get(path.toLowerCase())
      if (first === undefined) {
        seen.set(path.toLowerCase(), path)
        return []
      }
      return [
        problem('file.duplicate', `${first} and ${path} are one file on many systems.`, {
          hint: 'Remove or rename one of them.',
          file: path,
          line: 1,
          column: 1,
        }),
      ]
    })
}

function located(found: Problem, outline: YamlOutline): Problem {
  if (found.file !== PIPELINE_FILE) return { line: 1, column: 1, ...found }
  return {
    ...found,
    ...outline.locate(found.path ?? [], found.code === 'value.unknown_key' ? 'key' : undefined),
  }
}

function problem(
  code: string,
  message: string,
  place: { hint: string; file?: string; line?: number; column?: number },
): Problem {
  return { code, message, severity: 'error', file: PIPELINE_FILE, line: 1, column: 1, ...place }
}
