import type { Cell } from '../state/preview.svelte.ts'

interface Column {
  readonly name: string
  readonly type: string
}
type Write = (columns: readonly Column[], rows: readonly (readonly Cell[])[], name: string) => string

/** RFC 4180 with a header; NULL is an empty field and an empty text is `""`, so the two stay apart. */
export const rowsAsCsv: Write = (columns, rows) => {
  const field = (cell: Cell): string => {
    if (cell === null) return ''
    const text = String(cell)
    return text === '' || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
  }
  return [columns.map(({ name }) => field(name)), ...rows.map(row => row.map(field))]
    .map(line => line.join(','))
    .join('\r\n')
}

export const rowsAsMarkdown: Write = (columns, rows) => {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map(cell => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
  return [
    line(columns.map(({ name }) => name)),
    line(columns.map(() => '---')),
    ...rows.map(row => line(row.map(cell => (cell === null ? 'NULL' : String(cell))))),
  ].join('\n')
}

/** A VALUES list that DuckDB reads as these rows. */
export const rowsAsSql: Write = (columns, rows, name) => {
  const quote = (text: string): string => `"${text.replaceAll('"', '""')}"`
  const value = (cell: Cell): string =>
    cell === null ? 'NULL' : typeof cell === 'string' ? `'${cell.replaceAll("'", "''")}'` : String(cell)
  const tuples = rows.map(row => `  (${row.map(value).join(', ')})`).join(',\n')
  return `select * from (values\n${tuples}\n) as ${quote(name || 'rows')} (${columns.map(column => quote(column.name)).join(', ')})`
}
