import { sqlIdentifier } from '../compile/sql-text.ts'
import type { OutputOf } from '../contract/index.ts'
import type { Preview } from '../run/index.ts'
import { sqlType } from '../warehouse/index.ts'

type Summary = OutputOf<'result.summary'>
type ColumnSummary = Summary['columns'][number]

const BINS = 20
const NUMERIC = /^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL|FLOAT|DOUBLE|REAL)/
const MOMENT = /^(DATE|TIMESTAMP)/
const NESTED = /(\[\d*\]$)|^(STRUCT|MAP|UNION|LIST|ARRAY)/

/** Counts, extremes and a small histogram of each column of a relation. Times are binned in UTC. */
export async function summarise(session: Preview, relation: string): Promise<Summary> {
  const from = `FROM ${sqlIdentifier(relation)}`
  const { columns } = await session.query(`SELECT * ${from}`, { offset: 0, limit: 0 })
  const named = columns.map(column => {
    const type = sqlType(column.type)
    const name = sqlIdentifier(column.name)
    return { name: column.name, type, sql: NESTED.test(type) ? `CAST(${name} AS VARCHAR)` : name }
  })
  const facts = named.flatMap(({ sql }) => [
    `count(${sql})`,
    `count(DISTINCT ${sql})`,
    `CAST(min(${sql}) AS VARCHAR)`,
    `CAST(max(${sql}) AS VARCHAR)`,
  ])
  const { rows } = await session.query(`SELECT ${['count(*)', ...facts].join(', ')} ${from}`, {
    offset: 0,
    limit: 1,
  })
  const [total, ...found] = rows[0] ?? []
  const count = Number(total ?? 0)
  const summaries: ColumnSummary[] = []
  for (const [index, { name, type, sql }] of named.entries()) {
    const [present, distinct, min, max] = found.slice(index * 4, index * 4 + 4)
    summaries.push({
      name,
      type,
      nulls: count - Number(present ?? 0),
      distinct: Number(distinct ?? 0),
      min: min === null || min === undefined ? null : String(min),
      max: max === null || max === undefined ? null : String(max),
      bins: await binsOf(session, from, sql, type),
    })
  }
  return { rows: count, columns: summaries }
}

function binsOf(session: Preview, from: string, sql: string, type: string): Promise<ColumnSummary['bins']> {
  if (NUMERIC.test(type))
    return equalWidth(session, from, `CAST(${sql} AS DOUBLE)`, label => shortNumber(label))
  if (MOMENT.test(type)) {
    const seconds = `CAST(epoch(CAST(${sql} AS TIMESTAMP)) AS DOUBLE)`
    return equalWidth(session, from, seconds, at => new Date(at * 1000).toISOString().slice(0, 10))
  }
  return mostFrequent(session, from, sql)
}

async function equalWidth(
  session: Preview,
  from: string,
  value: string,
  label: (low: number) => string,
): Promise<ColumnSummary['bins']> {
  const range = await session.query(
    `SELECT min(v), max(v) FROM (SELECT ${value} AS v ${from}) WHERE isfinite(v)`,
    { offset: 0, limit: 1 },
  )
  const [low, high] = (range.rows[0] ?? []).map(Number)
  const known = range.rows[0]?.[0] !== null && low !== undefined && high !== undefined
  if (!known || !Number.isFinite(low) || !Number.isFinite(high)) return []
  const width = (high - low) / BINS
  const bin = width > 0 ? `least(${BINS - 1}, floor((v - (${low})) / ${width}))` : '0'
  const counted = await session.query(
    `SELECT CAST(${bin} AS INTEGER) AS b, count(*) FROM (SELECT ${value} AS v ${from}) WHERE isfinite(v) GROUP BY 1`,
    { offset: 0, limit: BINS },
  )
  const counts = new Map(counted.rows.map(([at, n]) => [Number(at), Number(n)]))
  return Array.from({ length: width > 0 ? BINS : 1 }, (_, at) => ({
    label: label(low + at * width),
    count: counts.get(at) ?? 0,
  }))
}

async function mostFrequent(session: Preview, from: string, sql: string): Promise<ColumnSummary['bins']> {
  const { rows } = await session.query(
    `SELECT left(CAST(${sql} AS VARCHAR), 100) AS v, count(*) AS n ${from} WHERE ${sql} IS NOT NULL GROUP BY 1 ORDER BY n DESC, v`,
    { offset: 0, limit: BINS },
  )
  return rows.map(([value, n]) => ({ label: String(value), count: Number(n) }))
}

const shortNumber = (value: number): string => String(Number(value.toPrecision(4)))
