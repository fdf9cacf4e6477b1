import { CODES, type CodeInfo, type ErrorCode } from './codes.ts'

/** What leaves a process about an error. Never holds the cause, a stack, or a value from a user's data. */
export interface ErrorBody {
  readonly code: ErrorCode
  readonly message: string
  readonly hint: string
  readonly details?: Record<string, unknown>
  readonly request_id?: string
}

export interface AppErrorOptions {
  /** What to do next. Default: the code's own hint. */
  readonly hint?: string
  /** Machine-readable facts about the error; safe to send. */
  readonly details?: Record<string, unknown>
  /** Logged where it is caught, never sent. */
  readonly cause?: unknown
}

/** The one error class. `message` says what happened, `hint` what to do next. Thrown inside, converted at the edge. */
export class AppError extends Error {
  readonly code: ErrorCode
  readonly hint: string
  readonly details: Record<string, unknown> | undefined

  constructor(code: ErrorCode, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'AppError'
    this.code = code
    this.hint = options.hint ?? CODES[code].hint
    this.details = options.details
  }

  get info(): CodeInfo {
    return CODES[this.code]
  }

  toBody(requestId?: string): ErrorBody {
    return {
      code: this.code,
      message: this.message,
      hint: this.hint,
      ...(this.details ? { details: this.details } : {}),
      ...(requestId ? { request_id: requestId } : {}),
    }
  }

  /** Rebuilds an error that another process sent. An unknown code (a newer peer) becomes `internal`. */
  static fromBody(body: unknown): AppError {
    const given = (typeof body === 'object' && body !== null ? body : {}) as Partial<ErrorBody>
    const known = typeof given.code === 'string' && given.code in CODES
    return new AppError(
      known ? (given.code as ErrorCode) : 'internal',
      String(given.message ?? 'Unknown error'),
      {
        ...(given.hint ? { hint: given.hint } : {}),
        ...(given.details ? { details: given.details } : {}),
      },
    )
  }
}

/** Any thrown value as an AppError; what is not one becomes `internal` with the original as its cause. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error
  return new AppError('internal', 'Something went wrong inside the program.', { cause: error })
}

/** The result of every call across a process boundary: never a rejected promise. */
export type Result<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: ErrorBody }
