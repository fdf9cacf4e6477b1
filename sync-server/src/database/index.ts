export { createDatabase, type ServerDatabase } from './database.ts'
export { asDatabaseError, isUniqueViolation, transact } from './errors.ts'
export { migrate } from './migrate.ts'
export type { Database, Json, Time, TimeByDefault } from './tables.ts'
