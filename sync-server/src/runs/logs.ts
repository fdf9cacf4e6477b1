import { AppError } from '@pluto-duck/crdt-model/errors'
import { logLine } from '@pluto-duck/crdt-model/protocol'
import type { Response } from 'express'
import type { Kysely } from 'kysely'
import type { ServerContext } from '../app/context.ts'
import { type Database, transact } from '../database/index.ts'
import { lockRun } from './record.ts'

/** Bytes of one run's log; what is longer is a program that logs its data. */
const LOG_LIMIT = 64 * 1024 * 1024
/** Chunks read at once while a log is sent. */
const PAGE = 16

/**
 * Appends whole lines at an offset and answers the next one. The same chunk again answers as before; another offset is
 * `run.log_offset` with the right one. Lines that are not as docs/formats.md fixes them are refused, all or none.
 */
export const appendLog = async (
  ctx: ServerContext,
  runId: string,
  userId: string,
  { offset, lines }: { readonly offset: number; readonly lines: string },
): Promise<number> => {
  assertLines(lines, runId)
  const bytes = Buffer.byteLength(lines)
  return await transact(ctx.db, async tx => {
    const run = await lockRun(tx, runId, userId)
    if (offset < run.log_bytes) {
      const there = await tx
        .selectFrom('run_log_chunks')
        .select('lines')
        .where('run_id', '=', runId)
        .where('start', '=', offset)
        .executeTakeFirst()
      if (there?.lines === lines) return offset + bytes
    }
    if (offset !== run.log_bytes) {
      throw new AppError('run.log_offset', 'The log does not end there.', {
        details: { next_offset: run.log_bytes },
      })
    }
    if (offset + bytes > LOG_LIMIT) {
      throw new AppError('request.too_large', 'The log of this run is full.', {
        details: { limit: LOG_LIMIT },
      })
    }
    await tx.insertInto('run_log_chunks').values({ run_id: runId, start: offset, lines }).execute()
    await tx
      .updateTable('runs')
      .set({ log_bytes: offset + bytes })
      .where('id', '=', runId)
      .execute()
    return offset + bytes
  })
}

const assertLines = (lines: string, runId: string): void => {
  if (!lines.endsWith('\n')) throw new AppError('request.invalid', 'A chunk ends with a newline.')
  lines
    .slice(0, -1)
    .split('\n')
    .forEach((line, index) => {
      const parsed = logLine.safeParse(parse(line, index))
      if (!parsed.success) {
        const issue = parsed.error.issues[0]
        throw new AppError('request.invalid', `Line ${index + 1} of the chunk is no log line.`, {
          details: { line: index + 1, field: issue?.path.join('.') ?? '', code: issue?.code ?? '' },
        })
      }
      if (parsed.data.run_id !== runId) {
        throw new AppError('request.invalid', `Line ${index + 1} of the chunk is of another run.`, {
          details: { line: index + 1 },
        })
      }
    })
}

const parse = (line: string, index: number): unknown => {
  try {
    return JSON.parse(line)
  } catch {
    throw new AppError('request.invalid', `Line ${index + 1} of the chunk is not JSON.`, {
      details: { line: index + 1 },
    })
  }
}

/** Sends the log from a byte offset on, a few chunks at a time. */
export const sendLog = async (
  db: Kysely<Database>,
  runId: string,
  offset: number,
  response: Response,
): Promise<void> => {
  response.set('cache-control', 'no-store').type('text/plain')
  let from = offset
  for (;;) {
    const chunks = await db
      .selectFrom('run_log_chunks')
      .select(['start', 'lines'])
      .where('run_id', '=', runId)
      .where('start', '>=', await chunkAt(db, runId, from))
      .orderBy('start')
      .limit(PAGE)
      .execute()
    const start = from
    for (const chunk of chunks) {
      const bytes = Buffer.from(chunk.lines)
      const part = bytes.subarray(Math.max(0, from - chunk.start))
      if (part.length === 0) continue
      from = chunk.start + bytes.length
      if (!response.write(part)) await drained(response)
    }
    if (from === start || response.closed) break
  }
  response.end()
}

const chunkAt = async (db: Kysely<Database>, runId: string, offset: number): Promise<number> => {
  const chunk = await db
    .selectFrom('run_log_chunks')
    .select('start')
    .where('run_id', '=', runId)
    .where('start', '<=', offset)
    .orderBy('start', 'desc')
    .limit(1)
    .executeTakeFirst()
  return chunk?.start ?? 0
}

const drained = (response: Response): Promise<void> =>
  new Promise(resolve => {
    const go = (): void => {
      response.off('drain', go)
      response.off('close', go)
      resolve()
    }
    response.once('drain', go)
    response.once('close', go)
  })
