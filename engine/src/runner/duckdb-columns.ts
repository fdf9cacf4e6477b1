import {
  DuckDBArrayType,
  DuckDBDecimalType,
  DuckDBEnumType,
  DuckDBListType,
  DuckDBMapType,
  type DuckDBResultReader,
  DuckDBStructType,
  type DuckDBType,
  DuckDBTypeId,
  DuckDBUnionType,
} from '@duckdb/node-api'
import { type Column, type ColumnType, sqlType } from '../warehouse/column-types.ts'

/** The columns of a result. Names that differ only in case get `_1`, `_2`: a table cannot hold both. */
export function columnsOf(reader: DuckDBResultReader): Column[] {
  const taken = new Set<string>()
  return reader.columnTypes().map((duckType, index) => {
    const type = columnType(duckType)
    return { name: freeName(reader.columnName(index), taken), sql_type: sqlType(type), type }
  })
}

function freeName(wanted: string, taken: Set<string>): string {
  let name = wanted
  for (let n = 1; taken.has(name.toLowerCase()); n++) name = `${wanted}_${n}`
  taken.add(name.toLowerCase())
  return name
}

export function columnType(type: DuckDBType): ColumnType {
  if (type instanceof DuckDBDecimalType) return { id: 'DECIMAL', width: type.width, scale: type.scale }
  if (type instanceof DuckDBEnumType) return { id: 'ENUM', values: [...type.values] }
  if (type instanceof DuckDBListType) return { id: 'LIST', item: columnType(type.valueType) }
  if (type instanceof DuckDBArrayType)
    return { id: 'ARRAY', item: columnType(type.valueType), length: type.length }
  if (type instanceof DuckDBMapType)
    return { id: 'MAP', key: columnType(type.keyType), value: columnType(type.valueType) }
  if (type instanceof DuckDBStructType)
    return { id: 'STRUCT', members: members(type.entryNames, type.entryTypes) }
  if (type instanceof DuckDBUnionType)
    return { id: 'UNION', members: members(type.memberTags, type.memberTypes) }
  const id = DuckDBTypeId[type.typeId] ?? 'VARCHAR'
  return type.alias === undefined ? { id } : { id, alias: type.alias }
}

const members = (names: readonly string[], types: readonly DuckDBType[]) =>
  types.map((type, index) => ({ name: names[index] ?? '', type: columnType(type) }))
