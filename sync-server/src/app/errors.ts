import { AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import { asDatabaseError } from '../database/index.ts'

/** Any thrown value as the error that is sent. What nobody foresaw is `internal`, with the original as its cause. */
export const asRequestError = (error: unknown): AppError => {
  if (error instanceof AppError) return error
  return asBodyError(error) ?? asDatabaseError(error) ?? asDataError(error) ?? toAppError(error)
}

const propertyOf = (error: unknown, name: string): unknown =>
  typeof error === 'object' && error !== null && name in error
    ? (error as Record<string, unknown>)[name]
    : undefined

/** What Express's parsers and router throw for a request that cannot be read. */
const asBodyError = (error: unknown): AppError | null => {
  const type = propertyOf(error, 'type')
  switch (type) {
    case 'entity.too.large':
      return new AppError('request.too_large', 'The body is larger than this route takes.', {
        details: { limit: propertyOf(error, 'limit') },
      })
    case 'entity.parse.failed':
      return new AppError('request.invalid', 'The body is not JSON.')
    case 'encoding.unsupported':
    case 'charset.unsupported':
      return new AppError('request.unsupported_media_type', 'The encoding of the body is not supported.')
    case 'entity.verify.failed':
    case 'request.aborted':
    case 'request.size.invalid':
      return new AppError('request.invalid', 'The body ended before it was whole.')
  }
  const status = propertyOf(error, 'status')
  if (typeof status === 'number' && status >= 400 && status < 500) {
    return new AppError('request.invalid', 'The request could not be read.', { cause: error })
  }
  return null
}

/** SQLSTATE class 22: a value that passed the schema and that Postgres cannot hold (out of range, bad encoding). */
const asDataError = (error: unknown): AppError | null => {
  const code = propertyOf(error, 'code')
  if (typeof code !== 'string' || !/^22[0-9A-Z]{3}$/.test(code)) return null
  return new AppError('request.invalid', 'A value of the request is out of range.', { cause: error })
}
