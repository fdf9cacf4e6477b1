import { isMap, isNode, isScalar, LineCounter, type ParsedNode, parseDocument } from 'yaml'
import type { TextPosition } from './text-position.ts'
import type { Locate } from './units.ts'

/** Places in the text of a pipeline.yaml. A path that is not written there gets the place of what would hold it. */
export function yamlPlaces(text: string): Locate {
  const lines = new LineCounter()
  const document = parseDocument(text, { lineCounter: lines, logLevel: 'silent' })
  const place = (offset: number): TextPosition => {
    const { line, col } = lines.linePos(offset)
    return { line: Math.max(1, line), column: Math.max(1, col) }
  }
  return path => {
    let node: unknown = document.contents
    let offset = 0
    for (const part of path) {
      if (isMap<ParsedNode, ParsedNode | null>(node)) {
        const pair = node.items.find(item => isScalar(item.key) && String(item.key.value) === String(part))
        if (!pair) break
        offset = pair.key.range[0]
        node = pair.value
      } else {
        const inner: unknown =
          isNode(node) && 'get' in node ? document.getIn([...pathTo(path, part)], true) : undefined
        if (!isNode(inner)) break
        node = inner
        if (inner.range) offset = inner.range[0]
      }
    }
    return place(offset)
  }
}

function pathTo(path: ReadonlyArray<string | number>, part: string | number): Array<string | number> {
  return path.slice(0, path.indexOf(part) + 1)
}
