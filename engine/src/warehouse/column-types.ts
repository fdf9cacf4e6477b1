import { z } from 'zod'

/**
 * A DuckDB type as a tree, exact enough to write it in SQL again. `id` is DuckDB's own name of the type; `alias` names what is
 * another type underneath (JSON is a VARCHAR).
 */
export type ColumnType =
  | { readonly id: string; readonly alias?: string | undefined }
  | { readonly id: 'DECIMAL'; readonly width: number; readonly scale: number }
  | { readonly id: 'ENUM'; readonly values: readonly string[] }
  | { readonly id: 'LIST'; readonly item: ColumnType }
  | { readonly id: 'ARRAY'; readonly item: ColumnType; readonly length: number }
  | { readonly id: 'MAP'; readonly key: ColumnType; readonly value: ColumnType }
  | { readonly id: 'STRUCT' | 'UNION'; readonly members: readonly Member[] }
export interface Member {
  readonly name: string
  readonly type: ColumnType
}

const member = z.lazy(() => z.strictObject({ name: z.string(), type: columnTypeSchema }))
export const columnTypeSchema: z.ZodType<ColumnType> = z.lazy(() =>
  z.union([
    z.strictObject({ id: z.literal('DECIMAL'), width: z.number(), scale: z.number() }),
    z.strictObject({ id: z.literal('ENUM'), values: z.array(z.string()) }),
    z.strictObject({ id: z.literal('LIST'), item: columnTypeSchema }),
    z.strictObject({ id: z.literal('ARRAY'), item: columnTypeSchema, length: z.number() }),
    z.strictObject({ id: z.literal('MAP'), key: columnTypeSchema, value: columnTypeSchema }),
    z.strictObject({ id: z.enum(['STRUCT', 'UNION']), members: z.array(member) }),
    z.strictObject({ id: z.string(), alias: z.string().optional() }),
  ]),
)

export const columnSchema = z.strictObject({
  name: z.string(),
  /** The type as DuckDB writes it, for people: `DECIMAL(18,3)`. */
  sql_type: z.string(),
  type: columnTypeSchema,
})
export type Column = z.infer<typeof columnSchema>

/** `"name"`, with quotes doubled: safe in SQL whatever it holds. */
export const quoteName = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** `'text'`, with quotes doubled: safe in SQL whatever it holds. */
export const quoteText = (text: string): string => `'${text.replaceAll("'", "''")}'`

/** The type in SQL, exact: casting to it gives the same `typeof`. */
export function sqlType(type: ColumnType): string {
  if ('width' in type) return `DECIMAL(${type.width},${type.scale})`
  if ('values' in type) return `ENUM(${type.values.map(quoteText).join(', ')})`
  if ('length' in type) return `${sqlType(type.item)}[${type.length}]`
  if ('item' in type) return `${sqlType(type.item)}[]`
  if ('key' in type) return `MAP(${sqlType(type.key)}, ${sqlType(type.value)})`
  if ('members' in type)
    return `${type.id}(${type.members.map(m => `${quoteName(m.name)} ${sqlType(m.type)}`).join(', ')})`
  if ('alias' in type && type.alias === 'JSON') return 'JSON'
  return PLAIN_NAMES[type.id] ?? type.id
}

/** DuckDB's type ids whose SQL name is another. A bare NULL becomes an INTEGER, as in CREATE TABLE AS. */
const PLAIN_NAMES: Readonly<Record<string, string>> = {
  TIME_TZ: 'TIME WITH TIME ZONE',
  TIMESTAMP_TZ: 'TIMESTAMP WITH TIME ZONE',
  SQLNULL: 'INTEGER',
}
