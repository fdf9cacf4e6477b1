export type ColumnKind = 'number' | 'text' | 'time' | 'boolean' | 'other'

/** What kind of values a DuckDB type holds. */
export function kindOfType(type: string): ColumnKind {
  const upper = type.toUpperCase()
  if (/\[\]$|^(STRUCT|MAP|LIST|UNION|BLOB|BIT|JSON)/.test(upper)) return 'other'
  if (/^(U?(TINY|SMALL|BIG|HUGE)?INT|INTEGER|UINTEGER|DECIMAL|DOUBLE|FLOAT|REAL|NUMERIC)/.test(upper))
    return 'number'
  if (/^(DATE|TIME|INTERVAL)/.test(upper)) return 'time'
  if (upper.startsWith('BOOL')) return 'boolean'
  return /^(VARCHAR|TEXT|ENUM|UUID|CHAR|STRING)/.test(upper) ? 'text' : 'other'
}

const SIGNS: Record<ColumnKind, string> = { number: '#', text: 'Aa', time: '◷', boolean: '◑', other: '{}' }
export const signOfType = (type: string): string => SIGNS[kindOfType(type)]
