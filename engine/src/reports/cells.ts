import type { ReportColumn, ReportRows } from './report-types.ts'

/** Rows of a table that a report shows; the rest is counted. */
export const TABLE_ROWS = 50
/** Characters of a cell that are shown. */
const CELL_CHARACTERS = 200

const NUMERIC =
  /^(TINYINT|SMALLINT|INTEGER|BIGINT|HUGEINT|UTINYINT|USMALLINT|UINTEGER|UBIGINT|UHUGEINT|FLOAT|DOUBLE|DECIMAL)(\(|$)/
/** Whole numbers that name something rather than count it. */
const NAMING = /(^|_)(id|code|zip|year|no|nr|number|month|day|hour)$/i

export const isNumeric = (column: ReportColumn): boolean => NUMERIC.test(column.type)

export interface Cell {
  readonly text: string
  /** The whole value, when `text` is a shortened one. */
  readonly exact: string | null
  readonly isNull: boolean
}

/**
 * A value for reading: whole numbers grouped in thousands, fractions to three decimals (four digits below one), long texts
 * cut. The exact value goes along when it differs.
 */
export function cellOf(value: unknown, column: ReportColumn): Cell {
  if (value === null || value === undefined) return { text: 'NULL', exact: null, isNull: true }
  const exact = typeof value === 'object' ? JSON.stringify(value) : String(value)
  const text = isNumeric(column) ? numberText(exact, column) : shortened(exact)
  return {
    text,
    exact: text === exact || text.replaceAll(',', '').replace('−', '-') === exact ? null : exact,
    isNull: false,
  }
}

function numberText(exact: string, column: ReportColumn): string {
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(exact)
  if (!match) return exact
  const [, minus = '', whole = '', fraction = ''] = match
  const sign = minus && '−'
  if (fraction === '') return sign + (NAMING.test(column.name) ? whole : grouped(whole))
  if (/^DECIMAL/.test(column.type)) return `${sign}${grouped(whole)}.${fraction}`
  const number = Number(exact)
  if (Math.abs(number) < 1) return sign + String(Number(Math.abs(number).toPrecision(4)))
  const [roundedWhole = '', roundedFraction] = String(Number(Math.abs(number).toFixed(3))).split('.')
  return sign + grouped(roundedWhole) + (roundedFraction ? `.${roundedFraction}` : '')
}

/** From five digits on: `2,012` would read as a count, and is most often a year. */
const grouped = (digits: string): string =>
  digits.length < 5 ? digits : digits.replaceAll(/\B(?=(\d{3})+$)/g, ',')

function shortened(text: string): string {
  const flat = text.replaceAll(/\s+/g, ' ')
  return flat.length > CELL_CHARACTERS ? `${flat.slice(0, CELL_CHARACTERS)}…` : flat
}

export const escapeHtml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

/** `rest`: how many more rows there are. */
export function tableHtml({ columns, rows }: ReportRows, rest: number): string {
  const attribute = (column: ReportColumn) => (isNumeric(column) ? ' class="n"' : '')
  const head = columns
    .map(column => `<th scope="col"${attribute(column)}>${escapeHtml(column.name)}</th>`)
    .join('')
  const body = rows.map(row => {
    const cells = columns.map((column, index) => {
      const cell = cellOf(row[index], column)
      const text = cell.isNull ? '<span class="null">NULL</span>' : escapeHtml(cell.text)
      const title = cell.exact === null ? '' : ` title="${escapeHtml(cell.exact.slice(0, 2_000))}"`
      return `<td${attribute(column)}${title}>${text}</td>`
    })
    return `<tr>${cells.join('')}</tr>`
  })
  const empty = rows.length === 0 ? '<p class="rest">No rows.</p>' : ''
  const more = rest > 0 ? `<p class="rest">${restWords(rest)}</p>` : ''
  return `<div class="table"><table><thead><tr>${head}</tr></thead><tbody>${body.join('\n')}</tbody></table></div>${empty}${more}`
}

/** The same table in GitHub's markdown. */
export function tableMarkdown({ columns, rows }: ReportRows, rest: number): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  const escaped = (text: string) => text.replaceAll(/[\\|<>`*_[\]]/g, '\\$&')
  const body = rows.map(row =>
    line(
      columns.map((column, index) => {
        const cell = cellOf(row[index], column)
        return cell.isNull ? '*NULL*' : escaped(cell.text)
      }),
    ),
  )
  const head = [
    line(columns.map(column => escaped(column.name))),
    line(columns.map(column => (isNumeric(column) ? '---:' : '---'))),
  ]
  return [...head, ...body, ...(rest > 0 ? ['', `*${restWords(rest)}*`] : [])].join('\n')
}

const restWords = (rest: number): string =>
  `${rest.toLocaleString('en-US')} more ${rest === 1 ? 'row is' : 'rows are'} left out.`
