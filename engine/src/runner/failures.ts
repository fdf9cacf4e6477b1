import { AppError, type ErrorCode } from '@pluto-duck/crdt-model/errors'
import { z } from 'zod'
import type { ErrorClass, Failure, Position } from './protocol.ts'

/** A failure of the runner as the error of this program: `run.<class>`. The private words are kept apart from the message. */
export class RunnerError extends AppError {
  readonly failure: Failure

  constructor(failure: Failure, cause?: unknown) {
    const code: ErrorCode = `run.${failure.class}`
    super(code, failure.message, {
      ...(failure.hint === undefined ? {} : { hint: failure.hint }),
      ...(failure.position === undefined ? {} : { details: { position: failure.position } }),
      ...(cause === undefined ? {} : { cause }),
    })
    this.name = 'RunnerError'
    this.failure = failure
  }
}

const engineError = z.object({
  exception_type: z.string(),
  exception_message: z.string(),
  position: z.string().optional(),
})

/**
 * DuckDB's error, or null if it is something else. With `errors_as_json` most are JSON, but not those of a worker thread:
 * these are `<kind> Error: <message>`.
 */
export function readEngineError(error: unknown): z.infer<typeof engineError> | null {
  const text = error instanceof Error ? error.message : String(error)
  const json = /^(?:[A-Za-z ]+ Error: )?(\{.*\})\s*$/s.exec(text)
  if (json) {
    const read = engineError.safeParse(jsonOrNull(json[1] ?? ''))
    if (read.success) return read.data
  }
  const plain = /^([A-Za-z ]+) Error: (.*)$/s.exec(text)
  return plain ? { exception_type: plain[1] ?? '', exception_message: plain[2] ?? '' } : null
}

function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

/** Where `offset` (UTF-8 bytes) is in `sql`; past the end means the end. */
export function positionAt(sql: string, offset: number): Position {
  const before = Buffer.from(sql, 'utf8').subarray(0, Math.max(0, offset)).toString('utf8')
  const lines = before.split('\n')
  return { offset, line: lines.length, column: (lines.at(-1) ?? '').length + 1 }
}

/** Kinds of error that speak of the text of the SQL and of names, and so quote no data. */
const ABOUT_TEXT = new Set(['Parser', 'Binder', 'Catalog', 'Syntax', 'Not implemented'])

const CLASSES: Readonly<Record<string, ErrorClass>> = {
  'Out of Memory': 'resource',
  Interrupt: 'cancelled',
  INTERRUPT: 'cancelled',
  IO: 'source',
  HTTP: 'network',
  Permission: 'permission',
  Connection: 'network',
  INTERNAL: 'internal',
  Internal: 'internal',
  FATAL: 'internal',
  Fatal: 'internal',
}

/**
 * What DuckDB threw, split into words that may leave the machine and words that may not.
 *
 * @param prefix bytes that were put before the user's SQL; taken off the position.
 */
export function classify(error: unknown, sql: string, prefix = 0): Failure {
  const text = error instanceof Error ? error.message : String(error)
  const engine = readEngineError(error)
  if (engine === null)
    return { class: 'internal', message: 'The SQL engine failed in an unexpected way.', private: text }
  const kind = engine.exception_type
  const offset = engine.position === undefined ? Number.NaN : Number(engine.position) - prefix
  const inText = Number.isFinite(offset) && offset >= 0 && offset <= Buffer.byteLength(sql)
  const position = inText ? positionAt(sql, offset) : undefined
  const at = position ? ` at line ${position.line}, column ${position.column}` : ''
  const errorClass = CLASSES[kind] ?? 'sql'
  const firstLine = engine.exception_message.split('\n')[0] ?? ''
  const message = ABOUT_TEXT.has(kind)
    ? firstLine
    : (MESSAGES[kind] ?? `The SQL engine refused a value or an operation (${kind} error)`) + at + '.'
  return {
    class: errorClass,
    message,
    private: `${kind} Error: ${engine.exception_message}`,
    ...(position ? { position } : {}),
  }
}

/** Templates for kinds whose own words can quote data. */
const MESSAGES: Readonly<Record<string, string>> = {
  Conversion: 'A value could not be converted to the type asked for',
  'Out of Range': 'A value is out of the range of its type',
  'Invalid Input': 'A function was given a value that it does not take',
  'Out of Memory': 'The step needs more memory or temporary disk than it may use',
  Interrupt: 'The statement was cancelled',
  INTERRUPT: 'The statement was cancelled',
  IO: 'A file could not be read or written',
  Permission: 'The step tried to reach a file or setting outside its sandbox',
  Constraint: 'A value broke a constraint',
}
