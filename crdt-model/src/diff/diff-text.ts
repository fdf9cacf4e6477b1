import { diffArrays } from 'diff'

export interface DiffLine {
  readonly kind: 'same' | 'added' | 'removed'
  /** The line with its end (`\n` or `\r\n`), which the last may lack. */
  readonly text: string
  /** Its number before and after, from 1; absent on the side that does not have it. */
  readonly before?: number
  readonly after?: number
}

/** Changed lines with up to three unchanged ones around them. */
export interface Hunk {
  readonly lines: readonly DiffLine[]
}

export interface TextDiff {
  readonly added: number
  readonly removed: number
  readonly hunks: readonly Hunk[]
}

const CONTEXT = 3
/** Beyond this many differing lines the smallest difference is not looked for: the middle is replaced as a whole. */
const SEARCH_LIMIT = 4_000

/** Every line of both texts in order, each once: what a side-by-side view shows. */
export function diffLines(before: string, after: string): DiffLine[] {
  const left = linesOf(before)
  const right = linesOf(after)
  const parts = diffArrays(left, right, { maxEditLength: SEARCH_LIMIT }) ?? [
    { value: left, removed: true, added: false },
    { value: right, removed: false, added: true },
  ]
  const lines: DiffLine[] = []
  let was = 0
  let is = 0
  for (const part of parts)
    for (const text of part.value) {
      if (part.removed) lines.push({ kind: 'removed', text, before: ++was })
      else if (part.added) lines.push({ kind: 'added', text, after: ++is })
      else lines.push({ kind: 'same', text, before: ++was, after: ++is })
    }
  return lines
}

/** The hunks of two texts. Equal texts have none. */
export function diffText(before: string, after: string): TextDiff {
  const lines = diffLines(before, after)
  const hunks: Hunk[] = []
  let start = -1
  let last = -1
  const close = () => {
    if (start >= 0) hunks.push({ lines: lines.slice(start, Math.min(lines.length, last + CONTEXT + 1)) })
  }
  lines.forEach((line, at) => {
    if (line.kind === 'same') return
    if (start < 0 || at - last > 2 * CONTEXT) {
      close()
      start = Math.max(0, at - CONTEXT)
    }
    last = at
  })
  close()
  const count = (kind: DiffLine['kind']) => lines.filter(line => line.kind === kind).length
  return { added: count('added'), removed: count('removed'), hunks }
}

/** The lines with their ends; joined they are the text. */
export const linesOf = (text: string): string[] => text.match(/[^\n]*\n|[^\n]+$/g) ?? []
