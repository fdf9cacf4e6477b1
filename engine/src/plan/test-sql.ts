import type { DataTest, Scalar } from '@pluto-duck/crdt-model'
import { sqlIdentifier, sqlString } from '../compile/sql-text.ts'

/**
 * A data test as one SELECT of its failing rows. NULLs fail `not_null` alone: the other tests look at values, as SQL's own
 * constraints do. A custom test is the author's own text.
 */
export function failingRowsSql(step: string, test: DataTest): string {
  const from = `FROM ${sqlIdentifier(step)}`
  switch (test.type) {
    case 'not_null':
      return `SELECT * ${from} WHERE ${sqlIdentifier(test.column)} IS NULL`
    case 'unique': {
      const columns = test.columns.map(sqlIdentifier)
      const present = columns.map(column => `${column} IS NOT NULL`).join(' AND ')
      return `SELECT ${columns.join(', ')}, count(*) AS ${sqlIdentifier('rows')} ${from} WHERE ${present} GROUP BY ${columns.join(', ')} HAVING count(*) > 1`
    }
    case 'accepted_values': {
      const column = sqlIdentifier(test.column)
      const values = test.values.filter(value => value !== null).map(literal)
      const outside = values.length > 0 ? ` AND ${column} NOT IN (${values.join(', ')})` : ''
      return `SELECT * ${from} WHERE ${column} IS NOT NULL${outside}`
    }
    case 'custom':
      return test.sql
  }
}

/** How people and reports call a test: `not_null(id)`. */
export function testLabel(test: DataTest): string {
  switch (test.type) {
    case 'not_null':
    case 'accepted_values':
      return `${test.type}(${test.column})`
    case 'unique':
      return `unique(${test.columns.join(', ')})`
    case 'custom':
      return test.description || 'custom'
  }
}

const literal = (value: Scalar): string =>
  typeof value === 'string' ? sqlString(value) : String(value).toUpperCase()
