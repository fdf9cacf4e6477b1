export { type Column, type ColumnType, columnSchema, quoteName, quoteText, sqlType } from './column-types.ts'
export {
  type CatalogRecord,
  catalogRecord,
  type Pointer,
  type ResultRecord,
  resultRecord,
  type TestOutcome,
} from './records.ts'
export { selectFromFile } from './storage-types.ts'
export { type CollectOptions, Warehouse } from './warehouse.ts'
