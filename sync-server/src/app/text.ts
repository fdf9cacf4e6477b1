import { AppError } from '@pluto-duck/crdt-model/errors'

/**
 * Refuses text that Postgres cannot hold: NUL characters and halves of surrogate pairs. Without this they would pass every
 * schema and fail at the insert.
 */
export const assertStorable = (value: unknown, where: string): void => {
  const waiting: unknown[] = [value]
  while (waiting.length > 0) {
    const next = waiting.pop()
    if (typeof next === 'string') {
      if (next.includes('\0') || !next.isWellFormed()) {
        throw new AppError(
          'request.invalid',
          `The ${where} of the request has a character that cannot be stored.`,
        )
      }
    } else if (next !== null && typeof next === 'object' && !(next instanceof Uint8Array)) {
      waiting.push(...Object.keys(next), ...Object.values(next))
    }
  }
}
