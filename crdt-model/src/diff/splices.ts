import { diffArrays } from 'diff'
import { linesOf } from './diff-text.ts'

/** One replacement in a text. Positions count UTF-16 code units of the text before. */
export interface Splice {
  readonly at: number
  readonly remove: number
  readonly insert: string
}

const SEARCH_LIMIT = 2_000
const TOKENS = /[\p{L}\p{N}_]+|\r?\n|[^\S\n]+|[^\p{L}\p{N}_\s]/gu

/**
 * The replacements that turn one text into another, from the last to the first, so that each can be applied as it is.
 *
 * Lines that both have are kept before anything inside a line is compared, then words: what stays is what a reader would say stayed,
 * so comments and blame keep to their lines, and an import merges with what others typed. (A least difference by characters
 * keeps letters of unrelated words.)
 */
export function splicesBetween(before: string, after: string): Splice[] {
  return replacements(linesOf(before), linesOf(after))
    .flatMap(({ at, removed, added }) =>
      replacements(tokensOf(removed), tokensOf(added)).map(inner =>
        trim(at + inner.at, inner.removed, inner.added),
      ),
    )
    .reverse()
}

interface Replacement {
  readonly at: number
  readonly removed: string
  readonly added: string
}

function replacements(before: readonly string[], after: readonly string[]): Replacement[] {
  const parts = diffArrays([...before], [...after], { maxEditLength: SEARCH_LIMIT })
  if (!parts) return [{ at: 0, removed: before.join(''), added: after.join('') }]
  const found: Replacement[] = []
  let at = 0
  let removed = ''
  let added = ''
  const close = () => {
    if (removed !== '' || added !== '') found.push({ at: at - removed.length, removed, added })
    removed = ''
    added = ''
  }
  for (const part of parts) {
    const text = part.value.join('')
    if (part.added) added += text
    else {
      if (!part.removed) close()
      at += text.length
      if (part.removed) removed += text
    }
  }
  close()
  return found
}

/** Leaves out what both begin and end with, without cutting a character in two. */
function trim(at: number, removed: string, added: string): Splice {
  const short = Math.min(removed.length, added.length)
  let head = 0
  while (head < short && removed[head] === added[head]) head += 1
  if (head > 0 && isHigh(removed.charCodeAt(head - 1))) head -= 1
  let tail = 0
  while (tail < short - head && removed.at(-1 - tail) === added.at(-1 - tail)) tail += 1
  if (tail > 0 && isLow(removed.charCodeAt(removed.length - tail))) tail -= 1
  return {
    at: at + head,
    remove: removed.length - head - tail,
    insert: added.slice(head, added.length - tail),
  }
}

const isHigh = (unit: number): boolean => (unit & 0xfc00) === 0xd800
const isLow = (unit: number): boolean => (unit & 0xfc00) === 0xdc00

/** Words, white space and single other characters; joined they are the text. */
function tokensOf(text: string): string[] {
  const tokens: string[] = []
  let end = 0
  for (const match of text.matchAll(TOKENS)) {
    if (match.index > end) tokens.push(text.slice(end, match.index))
    tokens.push(match[0])
    end = match.index + match[0].length
  }
  if (end < text.length) tokens.push(text.slice(end))
  return tokens
}
