import type { Diagnostic } from '@codemirror/lint'
import type { Text } from '@codemirror/state'
import type { ContractProblem } from '@pluto-duck/engine/contract'

/** Problems as marks in the text: the word at line and column, or the line; one without a place marks the first line. */
export function diagnosticsOf(problems: readonly ContractProblem[], doc: Text): Diagnostic[] {
  return problems.map(problem => {
    const line = doc.line(Math.min(Math.max(problem.line ?? 1, 1), doc.lines))
    const from = Math.min(line.from + Math.max((problem.column ?? 1) - 1, 0), line.to)
    const word =
      problem.column === null ? '' : (/^[\w.$"]+/.exec(line.text.slice(from - line.from))?.[0] ?? '')
    const to = word ? from + word.length : line.to
    return {
      from: to > from ? from : line.from,
      to,
      severity: problem.severity,
      message: problem.hint ? `${problem.message}\n${problem.hint}` : problem.message,
    }
  })
}
