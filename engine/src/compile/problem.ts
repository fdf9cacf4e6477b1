import { AppError } from '@pluto-duck/crdt-model/errors'

/** What is wrong with a definition. Stable: tests, the CLI and the UI tell problems apart by it. */
export type ProblemCode =
  | 'sql.syntax'
  | 'sql.not_a_select'
  | 'sql.empty'
  | 'sql.bind'
  | 'function.not_allowed'
  | 'reference.unknown'
  | 'reference.unknown_source'
  | 'reference.cross_pipeline'
  | 'reference.file'
  | 'param.unknown'
  | 'param.positional'
  | 'param.invalid'
  | 'step.duplicate'
  | 'step.cycle'
  | 'step.reserved'
  | 'step.materialize'
  | 'test.column'
  | 'source.missing'
  | 'source.option'
  | 'source.unreadable'
  | 'publish.unknown'
  | 'report.block'
  | 'report.chart'

/**
 * One thing to mend. `line` and `column` count from 1, columns in UTF-16 code units as editors do; they point into `file`
 * as an export would write it.
 */
export interface Problem {
  readonly code: ProblemCode
  readonly severity: 'error' | 'warning'
  readonly file: string
  readonly line: number
  readonly column: number
  readonly message: string
  readonly hint: string
  /** The id of the step that it belongs to, when it belongs to one. */
  readonly step_id: string | null
}

/** By file, then position, so the same definition always lists its problems in the same order. */
export function sortProblems(problems: readonly Problem[]): Problem[] {
  const seen = new Set<string>()
  return [...problems]
    .sort(
      (a, b) =>
        a.file.localeCompare(b.file) ||
        a.line - b.line ||
        a.column - b.column ||
        a.code.localeCompare(b.code) ||
        a.message.localeCompare(b.message),
    )
    .filter(problem => {
      const key = JSON.stringify(problem)
      const isNew = !seen.has(key)
      seen.add(key)
      return isNew
    })
}

/** Throws `compile.failed` with every problem in `details` when one of them is an error. */
export function assertNoErrors(problems: readonly Problem[]): void {
  const errors = problems.filter(problem => problem.severity === 'error')
  const first = errors[0]
  if (!first) return
  const others = errors.length - 1
  throw new AppError(
    errors.every(problem => problem.code === 'step.cycle') ? 'compile.cycle' : 'compile.failed',
    `${first.file}:${first.line}:${first.column}: ${first.message}${others ? ` (and ${others} more)` : ''}`,
    { hint: first.hint, details: { problems } },
  )
}

/** `Did you mean "orders"?`, or the given sentence when nothing is near enough. */
export function didYouMean(name: string, candidates: Iterable<string>, otherwise: string): string {
  const wanted = name.toLowerCase()
  let best: string | null = null
  let bestDistance = Math.max(1, Math.floor(wanted.length / 3)) + 1
  for (const candidate of candidates) {
    const distance = editDistance(wanted, candidate.toLowerCase(), bestDistance)
    if (distance < bestDistance) {
      best = candidate
      bestDistance = distance
    }
  }
  return best === null ? otherwise : `Did you mean "${best}"?`
}

/** Optimal string alignment distance, so a swap of neighbours counts once; stops at `limit`. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row++) {
    const current = [row]
    for (let column = 1; column <= b.length; column++) {
      const cost = a[row - 1] === b[column - 1] ? 0 : 1
      let value = Math.min(last[column]! + 1, current[column - 1]! + 1, last[column - 1]! + cost)
      const swapped = row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]
      if (swapped) value = Math.min(value, beforeLast[column - 2]! + 1)
      current.push(value)
    }
    beforeLast = last
    last = current
  }
  return last[b.length]!
}
