import type { z } from 'zod'

/**
 * One method that the UI (or the CLI beside a running host) may call, as data. IPC and HTTP + SSE are two transports over the
 * same table; both sides parse. Results are `{ok: true, value} | {ok: false, error}`; nothing rejects across a process.
 */
export interface Method {
  readonly input: z.ZodType
  readonly output: z.ZodType
  /** One line: what it does, for `--help`, the palette and the documentation. */
  readonly summary: string
}

export const method = <const M extends Method>(definition: M): M => definition
