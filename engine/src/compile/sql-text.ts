/** A `$name` (or `$1`, `?`) written in a SQL text, with its UTF-16 offsets. */
export interface ParamToken {
  /** Without the `$`; digits for a positional one, `?` for the anonymous one. */
  readonly name: string
  readonly start: number
  readonly end: number
}

const SKIPPED = [
  /--[^\n]*/y,
  /\/\*[\s\S]*?(?:\*\/|$)/y,
  /[eE]'(?:[^'\\]|\\[\s\S]|'')*(?:'|$)/y,
  /'(?:[^']|'')*(?:'|$)/y,
  /"(?:[^"]|"")*(?:"|$)/y,
  /\$([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$[\s\S]*?(?:\$\1\$|$)/y,
]
const PARAM = /\$([A-Za-z_][A-Za-z0-9_]*|[0-9]+)|\?/y
const WORD = /[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*/y

/**
 * The parameters that a SQL text names, outside strings, comments and quoted identifiers. The engine's syntax tree has the
 * names without their places; this gives the places.
 */
export function paramTokens(sql: string): ParamToken[] {
  const tokens: ParamToken[] = []
  let at = 0
  while (at < sql.length) {
    const skipped = matchAny(SKIPPED, sql, at) ?? matchAny([WORD], sql, at)
    if (skipped !== null) {
      at = skipped
      continue
    }
    PARAM.lastIndex = at
    const match = PARAM.exec(sql)
    if (match) {
      tokens.push({ name: match[1] ?? '?', start: at, end: at + match[0].length })
      at += match[0].length
    } else {
      at += 1
    }
  }
  return tokens
}

function matchAny(patterns: readonly RegExp[], text: string, at: number): number | null {
  for (const pattern of patterns) {
    pattern.lastIndex = at
    const match = pattern.exec(text)
    if (match && match[0].length > 0) return at + match[0].length
  }
  return null
}

/** A string as a SQL literal. */
export const sqlString = (value: string): string => `'${value.replaceAll("'", "''")}'`

/** A name as a quoted SQL identifier. */
export const sqlIdentifier = (name: string): string => `"${name.replaceAll('"', '""')}"`
