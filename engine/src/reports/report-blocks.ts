import { parse as parseYaml } from 'yaml'
import { chartData, chartViolation } from './charts.ts'

/** A fenced block of report.md that is evaluated; `line` is that of its first line of content, from 1. */
export type ReportBlock =
  | { readonly kind: 'sql'; readonly name: string; readonly sql: string; readonly line: number }
  | {
      readonly kind: 'chart'
      readonly spec: Record<string, unknown>
      /** Names of the sql blocks and steps that it shows. */
      readonly data: readonly string[]
      readonly line: number
    }

export interface BlockProblem {
  readonly code: 'report.block' | 'report.chart'
  readonly line: number
  readonly message: string
  readonly hint: string
}

/** Report markdown cut into text and blocks, in order. Text keeps its fences of other languages. */
export type ReportPart = { readonly kind: 'text'; readonly markdown: string } | ReportBlock

export interface ReportLayout {
  readonly parts: readonly ReportPart[]
  readonly problems: readonly BlockProblem[]
}

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*(\S*)\s*(.*)$/
const BLOCK_NAME = /^[a-z_][a-z0-9_]{0,62}$/

/**
 * A ```sql fence with a name is a query, one without is a code sample; ```chart is a Vega-Lite spec in JSON or YAML whose
 * `data.name` is a sql block or a step. A block that cannot be read is a problem and is left out of the parts.
 */
export function readReport(markdown: string): ReportLayout {
  const parts: ReportPart[] = []
  const problems: BlockProblem[] = []
  const names = new Set<string>()
  const lines = markdown.split(/\r?\n/)
  let text: string[] = []
  const flush = () => {
    if (text.some(line => line.trim() !== '')) parts.push({ kind: 'text', markdown: text.join('\n') })
    text = []
  }
  for (let at = 0; at < lines.length; at++) {
    const fence = FENCE.exec(lines[at]!)
    if (!fence) {
      text.push(lines[at]!)
      continue
    }
    const [, marks = '', language = '', info = ''] = fence
    let end = at + 1
    while (end < lines.length && !isClosing(lines[end]!, marks)) end++
    const content = lines.slice(at + 1, end).join('\n')
    const line = at + 2
    const name = info.trim()
    if (language === 'sql' && name !== '') {
      flush()
      const problem = blockNameProblem(name, names)
      if (problem) problems.push({ code: 'report.block', line: at + 1, ...problem })
      else parts.push({ kind: 'sql', name, sql: content, line })
      names.add(name)
    } else if (language === 'chart') {
      flush()
      const chart = readChart(content, line)
      if ('problem' in chart) problems.push(chart.problem)
      else parts.push(chart)
    } else {
      text.push(...lines.slice(at, end + 1))
    }
    if (end >= lines.length && (language === 'chart' || (language === 'sql' && name !== ''))) {
      problems.push({
        code: 'report.block',
        line: at + 1,
        message: 'This block is never closed.',
        hint: `Close it with ${marks} on a line of its own.`,
      })
    }
    at = end
  }
  flush()
  return { parts, problems }
}

function isClosing(line: string, marks: string): boolean {
  const trimmed = line.trim()
  return trimmed.length >= marks.length && trimmed === marks[0]!.repeat(trimmed.length)
}

function blockNameProblem(name: string, taken: ReadonlySet<string>) {
  if (!BLOCK_NAME.test(name)) {
    return {
      message: `"${name}" cannot name a sql block.`,
      hint: 'Use a-z, 0-9 and _, and do not start with a digit.',
    }
  }
  return taken.has(name)
    ? { message: `Two sql blocks are called "${name}".`, hint: 'Rename one of them.' }
    : null
}

function readChart(content: string, line: number): ReportBlock | { problem: BlockProblem } {
  const bad = (message: string, hint: string, offset = 0) => ({
    problem: { code: 'report.chart' as const, line: line + offset, message, hint },
  })
  let spec: unknown
  try {
    spec = parseYaml(content)
  } catch (error) {
    const place = (error as { linePos?: Array<{ line: number }> }).linePos?.[0]?.line ?? 1
    const reason = error instanceof Error ? error.message.split('\n')[0] : ''
    return bad(
      `The chart is neither JSON nor YAML: ${reason}`,
      'Mend it, or copy an example from docs/formats.md.',
      place - 1,
    )
  }
  if (!isRecord(spec)) return bad('The chart is empty.', 'Write a Vega-Lite spec in JSON or YAML.')
  const violation = chartViolation(spec)
  if (violation) return bad(violation, 'Leave it out.')
  const data = chartData(spec)
  if (data.length === 0)
    return bad('The chart does not say what it shows.', 'Add data: {name: "<sql block or step>"}.')
  return { kind: 'chart', spec, data, line }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
