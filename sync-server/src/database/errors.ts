import { AppError } from '@pluto-duck/crdt-model/errors'
import type { Kysely, Transaction } from 'kysely'
import type { Database } from './tables.ts'

const LOST = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ENOTFOUND',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'EAI_AGAIN',
  // admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections
  '57P01',
  '57P02',
  '57P03',
  '53300',
  // disk_full, out_of_memory, io_error, and read_only_sql_transaction: a standby that is not the primary yet
  '53100',
  '53200',
  '58030',
  '25006',
])
const LOST_TEXT =
  /connection terminated|timeout exceeded when trying to connect|connection ended|client has encountered a connection error|server closed the connection/i
const codeOf = (error: unknown): string =>
  typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : ''

const isLost = (error: unknown): boolean => {
  const text = error instanceof Error ? error.message : ''
  const code = codeOf(error)
  return LOST.has(code) || /^08/.test(code) || LOST_TEXT.test(text)
}

/**
 * `database.unavailable` when the error, or what caused it (libraries wrap it in words of their own), says that the database
 * cannot be reached, or takes nothing, now; null for any other.
 */
export const asDatabaseError = (error: unknown): AppError | null => {
  let at: unknown = error
  for (let depth = 0; depth < 5 && at instanceof Error; depth++, at = at.cause)
    if (isLost(at))
      return new AppError('database.unavailable', 'The database does not answer, or takes nothing.', {
        cause: error,
      })
  return null
}

/** Whether an insert met a row that is there already. */
export const isUniqueViolation = (error: unknown): boolean => codeOf(error) === '23505'

const ATTEMPTS = 4

/** A transaction which is tried again (4 times in all) when Postgres ended it for a deadlock or a serialization failure. */
export const transact = async <T>(
  db: Kysely<Database>,
  work: (tx: Transaction<Database>) => Promise<T>,
): Promise<T> => {
  for (let attempt = 1; ; attempt++) {
    try {
      return await db.transaction().execute(work)
    } catch (error) {
      const again = codeOf(error) === '40001' || codeOf(error) === '40P01'
      if (!again || attempt === ATTEMPTS) throw error
    }
  }
}
