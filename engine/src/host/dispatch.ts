import { AppError, type Result, toAppError } from '@pluto-duck/crdt-model/errors'
import { z } from 'zod'
import {
  type InputOf,
  METHODS,
  type MethodName,
  type OutputOf,
  type ParsedInputOf,
} from '../contract/index.ts'

/** Who calls: a view (one page or window) keeps its id for as long as it lives. */
export interface Caller {
  readonly viewId: string
}

/** A handler for every method of the contract: a missing one does not compile. */
export type Handlers = {
  readonly [M in MethodName]: (input: ParsedInputOf<M>, caller: Caller) => Promise<OutputOf<M>> | OutputOf<M>
}

export interface DispatchLog {
  error(context: Record<string, unknown>, message: string): void
}

/**
 * Calls one method: parses the input, runs the handler, turns whatever is thrown into an error body. Never rejects.
 * The cause of an error goes to the log and stays on this machine.
 */
export const dispatch = async (
  handlers: Handlers,
  name: string,
  input: unknown,
  caller: Caller,
  log: DispatchLog,
): Promise<Result<unknown>> => {
  try {
    if (!Object.hasOwn(METHODS, name)) {
      throw new AppError('request.not_found', `There is no method ${JSON.stringify(name.slice(0, 80))}.`)
    }
    const method = name as MethodName
    const parsed = METHODS[method].input.safeParse(input ?? {})
    if (!parsed.success) {
      throw new AppError('request.invalid', `${method}: ${z.prettifyError(parsed.error)}`, {
        details: {
          issues: parsed.error.issues.map(({ path, message }) => ({ path: path.join('.'), message })),
        },
      })
    }
    const handler = handlers[method] as (input: unknown, caller: Caller) => unknown
    return { ok: true, value: await handler(parsed.data, caller) }
  } catch (thrown) {
    const error = toAppError(thrown)
    if (error.code === 'internal') log.error({ method: name, err: error.cause ?? error }, 'a method failed')
    return { ok: false, error: error.toBody() }
  }
}

/** The host's methods as plain typed functions, for callers in the same process (the CLI without a running host). */
export type Call = <M extends MethodName>(method: M, input: InputOf<M>) => Promise<Result<OutputOf<M>>>
