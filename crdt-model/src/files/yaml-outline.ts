import { type Document, isMap, isNode, isScalar, LineCounter, type Node, parseDocument } from 'yaml'
import type { Problem } from '../documents/problem.ts'
import { PIPELINE_FILE } from './to-files.ts'

/** pipeline.yaml as plain values, with the line of each. */
export interface YamlOutline {
  readonly value: unknown
  readonly problems: readonly Problem[]
  /** The place of a path's value or, when there is none, of what would hold it. `key` asks for the key's own place. */
  locate(path: readonly (string | number)[], key?: 'key'): { line: number; column: number }
}

/** Parses pipeline.yaml. Bad YAML is reported with line and column, every error at once; `value` is then `undefined`. */
export function parseOutline(text: string): YamlOutline {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false })
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(line, 1), column: Math.max(col, 1) }
  }
  const problems: Problem[] = [...document.errors, ...document.warnings].map(error => ({
    code: 'file.bad_yaml',
    message: `${PIPELINE_FILE} is no valid YAML: ${error.message}`,
    hint: error.code === 'DUPLICATE_KEY' ? 'Remove one of the two.' : 'Mend the YAML here.',
    severity: 'error',
    file: PIPELINE_FILE,
    ...place(error.pos[0]),
  }))
  let value: unknown
  if (problems.length === 0) {
    try {
      value = document.toJS()
    } catch (error) {
      problems.push({
        code: 'file.bad_yaml',
        message: `${PIPELINE_FILE} cannot be read: ${error instanceof Error ? error.message : 'bad alias'}`,
        hint: 'Write the values out instead of referring to them.',
        severity: 'error',
        file: PIPELINE_FILE,
        line: 1,
        column: 1,
      })
    }
  }
  return { value, problems, locate: (path, key) => place(offsetOf(document, path, key === 'key')) }
}

function offsetOf(document: Document.Parsed, path: readonly (string | number)[], wantsKey: boolean): number {
  for (let length = path.length; length >= 0; length -= 1) {
    const inner = path.slice(0, length)
    const whole = length === path.length
    if (length > 0 && (wantsKey || !whole)) {
      const key = keyNode(document, inner)
      if (key?.range) return key.range[0]
    }
    const node: unknown = length === 0 ? document.contents : document.getIn(inner, true)
    if (isNode(node) && node.range && (length > 0 || path.length === 0 || isMap(node))) return node.range[0]
  }
  return 0
}

function keyNode(document: Document.Parsed, path: readonly (string | number)[]): Node | undefined {
  const parent: unknown = path.length === 1 ? document.contents : document.getIn(path.slice(0, -1), true)
  if (!isMap(parent)) return undefined
  const pair = parent.items.find(item => isScalar(item.key) && String(item.key.value) === String(path.at(-1)))
  return isNode(pair?.key) ? pair.key : undefined
}
