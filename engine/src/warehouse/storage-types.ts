import { type Column, type ColumnType, quoteName, quoteText, sqlType } from './column-types.ts'

/**
 * How a column is written to Parquet and read back with the same `typeof` and the same value.
 *
 * Parquet changes types without a word: HUGEINT becomes DOUBLE, TIMETZ loses its offset, negative intervals fail, ENUM and BIT
 * become text, fixed arrays lists, unions structs. What does not survive is stored as text (or list, or struct) and the view
 * over the file casts it back.
 */

/** Stored as text: DuckDB reads its own text of these back exactly. */
const AS_TEXT = new Set([
  'HUGEINT',
  'UHUGEINT',
  'BIGNUM',
  'BIT',
  'TIME_TZ',
  'INTERVAL',
  'TIMESTAMP_S',
  'GEOMETRY',
])

/** The type in the file. Equal to `type` (by `sqlType`) when Parquet keeps it as it is. */
export function storedType(type: ColumnType): ColumnType {
  if ('values' in type || AS_TEXT.has(type.id)) return { id: 'VARCHAR' }
  if (type.id === 'TIMESTAMP_MS') return { id: 'TIMESTAMP' }
  if ('item' in type) return { id: 'LIST', item: storedType(type.item) }
  if ('key' in type) return { id: 'MAP', key: storedType(type.key), value: storedType(type.value) }
  if ('members' in type) {
    const stored = type.members.map(m => ({ name: m.name, type: storedType(m.type) }))
    return { id: 'STRUCT', members: type.id === 'UNION' ? [TAG, ...asUnionFields(stored)] : stored }
  }
  return type
}

/** A union is stored as its tag and one field for each member, `m0`, `m1`, …, so that no member's name can meet the tag's. */
const TAG = { name: 'tag', type: { id: 'VARCHAR' } } as const
const asUnionFields = (members: readonly { name: string; type: ColumnType }[]) =>
  members.map((m, index) => ({ name: `m${index}`, type: m.type }))

const isKept = (type: ColumnType): boolean => sqlType(storedType(type)) === sqlType(type)

function holdsUnion(type: ColumnType): boolean {
  if ('members' in type) return type.id === 'UNION' || type.members.some(m => holdsUnion(m.type))
  if ('item' in type) return holdsUnion(type.item)
  if ('key' in type) return holdsUnion(type.key) || holdsUnion(type.value)
  return false
}

/** SQL that turns `value` into what the file holds. */
export function encode(type: ColumnType, value: string, depth = 0): string {
  if (isKept(type)) return value
  if (!holdsUnion(type)) return `CAST(${value} AS ${sqlType(storedType(type))})`
  const each = `x${depth}`
  if ('members' in type && type.id === 'UNION') {
    const fields = type.members.map(
      (m, i) => `m${i} := ${encode(m.type, `union_extract(${value}, ${quoteText(m.name)})`, depth + 1)}`,
    )
    return nullable(value, `struct_pack(tag := CAST(union_tag(${value}) AS VARCHAR), ${fields.join(', ')})`)
  }
  return inside(type, value, each, depth, encode)
}

/** SQL that turns what the file holds back into the exact type and value. */
export function decode(type: ColumnType, value: string, depth = 0): string {
  if (isKept(type)) return value
  if (!holdsUnion(type)) return `CAST(${value} AS ${sqlType(type)})`
  const each = `x${depth}`
  if ('members' in type && type.id === 'UNION') {
    // DuckDB has no CASE over fixed arrays: they are lists until the whole is cast.
    const target = sqlType(withLists(type))
    const cases = type.members.map((m, i) => {
      const member = decode(m.type, `struct_extract(${value}, 'm${i}')`, depth + 1)
      return `WHEN ${quoteText(m.name)} THEN CAST(union_value(${quoteName(m.name)} := ${member}) AS ${target})`
    })
    return `CAST(CASE struct_extract(${value}, 'tag') ${cases.join(' ')} END AS ${sqlType(type)})`
  }
  return inside(type, value, each, depth, decode)
}

/** The type with every fixed array in it as a list. */
function withLists(type: ColumnType): ColumnType {
  if ('item' in type) return { id: 'LIST', item: withLists(type.item) }
  if ('key' in type) return { id: 'MAP', key: withLists(type.key), value: withLists(type.value) }
  if ('members' in type)
    return { id: type.id, members: type.members.map(m => ({ name: m.name, type: withLists(m.type) })) }
  return type
}

type Convert = (type: ColumnType, value: string, depth: number) => string

/** A conversion of what holds a union somewhere inside: a cast cannot do it, so it is done element by element. */
function inside(type: ColumnType, value: string, each: string, depth: number, convert: Convert): string {
  if ('item' in type) {
    const list = `list_transform(${value}, lambda ${each}: ${convert(type.item, each, depth + 1)})`
    return 'length' in type && convert === decode ? `CAST(${list} AS ${sqlType(type)})` : list
  }
  if ('key' in type) {
    const entry = `struct_pack(k := ${convert(type.key, `${each}.key`, depth + 1)}, v := ${convert(type.value, `${each}.value`, depth + 1)})`
    return nullable(
      value,
      `map_from_entries(list_transform(map_entries(${value}), lambda ${each}: ${entry}))`,
    )
  }
  if ('members' in type) {
    const fields = type.members.map(
      m =>
        `${quoteName(m.name)} := ${convert(m.type, `struct_extract(${value}, ${quoteText(m.name)})`, depth + 1)}`,
    )
    return nullable(value, `struct_pack(${fields.join(', ')})`)
  }
  return value
}

const nullable = (value: string, whenGiven: string): string =>
  `CASE WHEN ${value} IS NULL THEN NULL ELSE ${whenGiven} END`

/** The SELECT list that writes `columns`, read from positional names `c0`, `c1`, …; null when every column is kept as it is. */
export function encodeList(columns: readonly Column[]): string | null {
  if (columns.every(column => isKept(column.type))) return null
  return columns
    .map((column, i) => `${encode(column.type, quoteName(`c${i}`))} AS ${quoteName(column.name)}`)
    .join(', ')
}

/**
 * The SELECT that a view over a result's file is made of: exact types, exact values, the columns by name.
 *
 * Any DuckDB reads it, with no extension and no setting of ours.
 */
export function selectFromFile(path: string, columns: readonly Column[]): string {
  const list = columns.map(column => {
    const name = quoteName(column.name)
    const value = decode(column.type, name)
    return value === name ? name : `${value} AS ${name}`
  })
  return `SELECT ${list.join(', ')} FROM read_parquet([${quoteText(path)}], binary_as_string = false, union_by_name = false, hive_partitioning = false)`
}
