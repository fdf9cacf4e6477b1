/**
 * The SQL up to its closing semicolon, so that it can be put in parentheses.
 *
 * Strings, quoted names, dollar quotes and comments are stepped over. The result is parsed again before it is used, so a
 * mistake here can only make good SQL be refused, never let a second statement through.
 */
export function withoutTerminator(sql: string): string {
  let at = 0
  while (at < sql.length) {
    const rest = sql.slice(at)
    const skipped = SKIP.exec(rest)
    if (skipped) {
      at += skipped[0].length
      continue
    }
    const tag = /^\$([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$/.exec(rest)
    if (tag) {
      const end = sql.indexOf(tag[0], at + tag[0].length)
      at = end < 0 ? sql.length : end + tag[0].length
      continue
    }
    if (rest.startsWith('/*')) {
      at = endOfComment(sql, at)
      continue
    }
    if (sql[at] === ';') return sql.slice(0, at)
    at += 1
  }
  return sql
}

/** Words, escape strings, plain strings, quoted names and line comments, whole. */
const SKIP =
  /^(?:[eE]'(?:[^'\\]|\\[\s\S]|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*|\d[\w.]*|\s+)/

function endOfComment(sql: string, start: number): number {
  let depth = 0
  for (let at = start; at < sql.length; at++) {
    if (sql.startsWith('/*', at)) {
      depth += 1
      at += 1
    } else if (sql.startsWith('*/', at)) {
      depth -= 1
      at += 1
      if (depth === 0) return at + 1
    }
  }
  return sql.length
}
