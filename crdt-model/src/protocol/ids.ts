import { v7, validate, version } from 'uuid'
import { z } from 'zod'

/** Ids are UUID v7 made by the client. The server refuses other versions, so that ids sort by creation everywhere. */
export const id = z
  .string()
  .refine(value => validate(value) && version(value) === 7, 'must be a UUID v7')
  .meta({ format: 'uuid', description: 'UUID v7, made by the client' })

/** A user's id, made by the server. */
export const userId = z.string().min(1).max(64)

/** SHA-256 as 64 lower-case hex digits: a change's hash, a content hash, a file's checksum. */
export const hash = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits')

/** UTC, ISO 8601 with milliseconds. */
export const timestamp = z.iso.datetime({ offset: false })

export const seq = z.number().int().nonnegative()

export const newId = (): string => v7()
