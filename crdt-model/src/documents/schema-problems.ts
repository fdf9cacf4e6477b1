import type { z } from 'zod'
import { pipelineDefinition } from './definition.ts'
import type { Problem } from './problem.ts'

type Path = readonly (string | number)[]
type Issue = z.core.$ZodIssue

/** What the schema refuses, in words of the pipeline rather than of the schema; `value` need not be a definition at all. */
export function schemaProblems(value: unknown): Problem[] {
  const parsed = pipelineDefinition.safeParse(value, { reportInput: true })
  if (parsed.success) return []
  return parsed.error.issues.flatMap(issue => fromIssue(issue, issue.path.map(toKey), value))
}

function fromIssue(issue: Issue, path: Path, value: unknown): Problem[] {
  const field = String(path.at(-1) ?? 'pipeline')
  const owner = whereIs(path.slice(0, -1), value)
  const say = (code: string, message: string, hint: string, at: Path = path): Problem =>
    problemAt(code, message, at, value, hint)
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map(key =>
      say(
        'value.unknown_key',
        `Unknown key «${key}»${ofOwner(whereIs(path, value))}.`,
        'Remove it, or check its spelling.',
        [...path, key],
      ),
    )
  if (field === 'schema_version' && Number(issue.input) > 1)
    return [
      say('document.too_new', 'A newer program wrote this pipeline.', 'Update this program, then try again.'),
    ]
  const what = `«${field}»${ofOwner(owner)}`
  switch (issue.code) {
    case 'invalid_key':
      return [say('name.invalid', `«${field}» is no name: ${issue.issues[0]?.message ?? ''}.`, 'Rename it.')]
    case 'invalid_value': {
      const allowed = issue.values.map(String).join(', ')
      return [
        missing(issue, what, say) ??
          say('value.invalid', `${what} is none of: ${allowed}.`, `Give one of: ${allowed}.`),
      ]
    }
    case 'invalid_union': {
      const options =
        'options' in issue && Array.isArray(issue.options) ? issue.options.map(String).join(', ') : ''
      if (options === '')
        return [
          say(
            'value.invalid',
            `${what} has no value that fits.`,
            'Give a text, a number, true, false, or a list of these.',
          ),
        ]
      return [say('value.invalid', `${what} is none of: ${options}.`, `Give one of: ${options}.`)]
    }
    case 'invalid_type': {
      const kind = KINDS[issue.expected] ?? issue.expected
      const hint = issue.expected === 'array' ? `Write it as a list: ${field}: [ … ].` : `Give ${kind}.`
      return [missing(issue, what, say) ?? say('value.invalid', `${what} is not ${kind}.`, hint)]
    }
    case 'too_small':
    case 'too_big': {
      const [limit, word] =
        issue.code === 'too_small' ? [issue.minimum, 'at least'] : [issue.maximum, 'at most']
      const bound = `${issue.inclusive === false ? 'more than' : word} ${limit}`
      if (issue.origin === 'number')
        return [say('value.invalid', `${what} is out of range.`, `Give a number of ${bound}.`)]
      return [say('value.invalid', `${what} is empty.`, 'Give it a value, or remove it.')]
    }
    case 'invalid_format':
    case 'custom':
      return [
        say(
          field === 'name' ? 'name.invalid' : 'value.invalid',
          `${what} is invalid.`,
          `Change it: ${issue.message}.`,
        ),
      ]
    default:
      return [say('value.invalid', `${what} is invalid: ${issue.message}.`, 'Change it.')]
  }
}

const KINDS: Record<string, string> = {
  array: 'a list',
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  object: 'a map of keys',
  record: 'a map of keys',
  null: 'empty',
}

function missing(
  issue: Issue,
  what: string,
  say: (code: string, message: string, hint: string) => Problem,
): Problem | undefined {
  if (issue.input !== undefined) return undefined
  return say('value.missing', `${what} is missing.`, `Add ${what.slice(0, what.indexOf('»') + 1)}.`)
}

const toKey = (part: PropertyKey): string | number => (typeof part === 'number' ? part : String(part))
const ofOwner = (owner: string): string => (owner === '' ? '' : ` of ${owner}`)

/** What a person calls the thing at a path: `step «orders», test 2`; empty for the pipeline itself. */
function whereIs(path: Path, value: unknown): string {
  const words: string[] = []
  for (let at = 0; at < path.length; at += 1) {
    const [part, next] = [path[at], path[at + 1]]
    if (part === 'steps' && typeof next === 'number') {
      words.push(`step ${nameOfStep(value, next)}`)
      at += 1
    } else if (part === 'tests' && typeof next === 'number') {
      words.push(`test ${next + 1}`)
      at += 1
    } else if ((part === 'params' || part === 'sources') && next !== undefined) {
      words.push(`${part === 'params' ? 'param' : 'source'} «${next}»`)
      at += 1
    } else words.push(typeof part === 'number' ? `entry ${part + 1}` : String(part))
  }
  return words.join(', ')
}

function nameOfStep(value: unknown, index: number): string {
  const name = stepAt(value, index)?.name
  return name === undefined ? `number ${index + 1}` : `«${name}»`
}

/** A problem at a place of a definition, with the file that holds it. */
export function problemAt(
  code: string,
  message: string,
  path: Path,
  subject: unknown,
  hint: string,
): Problem {
  const step = path[0] === 'steps' && typeof path[1] === 'number' ? stepAt(subject, path[1]) : undefined
  const file =
    path[0] === 'report'
      ? 'report.md'
      : step?.name !== undefined && path[2] === 'sql'
        ? `${step.name}.sql`
        : 'pipeline.yaml'
  return {
    code,
    message,
    hint,
    severity: 'error',
    file,
    path,
    ...(step?.id === undefined ? {} : { step_id: step.id }),
  }
}

function stepAt(subject: unknown, index: number): { id?: string; name?: string } | undefined {
  const steps = (subject as { steps?: unknown } | null)?.steps
  const step: unknown = Array.isArray(steps) ? steps[index] : undefined
  if (typeof step !== 'object' || step === null) return undefined
  const { id, name } = step as { id?: unknown; name?: unknown }
  return { ...(typeof id === 'string' ? { id } : {}), ...(typeof name === 'string' ? { name } : {}) }
}
