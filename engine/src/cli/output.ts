import { AppError, CODES, EXIT, toAppError } from '@pluto-duck/crdt-model/errors'

/** How a command writes: to `out` what was asked for, to `err` everything about it (progress, hints, errors). */
export interface Output {
  readonly json: boolean
  readonly tty: boolean
  out(text: string): void
  err(text: string): void
}

export const processOutput = (json: boolean): Output => ({
  json,
  tty: Boolean(process.stderr.isTTY) && !json,
  out: text => {
    process.stdout.write(`${text}\n`)
  },
  err: text => {
    process.stderr.write(`${text}\n`)
  },
})

/** The answer of a command: as JSON with `--json`, else as the text that `human` makes. */
export const answer = <T>(output: Output, value: T, human: (value: T) => string): void => {
  output.out(output.json ? JSON.stringify(value) : human(value))
}

/** A table with aligned columns; an empty one says `empty`. */
export const table = (
  head: readonly string[],
  rows: readonly (readonly string[])[],
  empty: string,
): string => {
  if (rows.length === 0) return empty
  const widths = head.map((name, i) => Math.max(width(name), ...rows.map(row => width(row[i] ?? ''))))
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) =>
        i === cells.length - 1 ? cell : cell + ' '.repeat(Math.max(0, (widths[i] ?? 0) - width(cell))),
      )
      .join('  ')
  return [line(head.map(name => name.toUpperCase())), ...rows.map(line)].join('\n')
}

const WIDE =
  /\p{Script=Hangul}|\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Emoji_Presentation}/u

/** Columns that a terminal uses: East Asian wide characters and emoji take two. */
const width = (text: string): number => {
  let total = 0
  for (const char of text) {
    const code = char.codePointAt(0) as number
    total += code >= 0x1100 && WIDE.test(char) ? 2 : 1
  }
  return total
}

/** Local date and time to the minute. */
export const when = (timestamp: string | null): string =>
  timestamp === null
    ? '–'
    : new Date(timestamp).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' })

export const duration = (ms: number | null): string => {
  if (ms === null) return ''
  if (ms < 1000) return `${Math.round(ms)} ms`
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`
}

/** Writes an error and answers the exit code of its class. */
export const fail = (output: Output, thrown: unknown): number => {
  const error = toAppError(thrown)
  if (output.json) output.err(JSON.stringify({ error: error.toBody() }))
  else {
    output.err(`Error: ${error.message}`)
    output.err(`  ${error.hint}  [${error.code}]`)
    if (error.code === 'internal' && process.env.PLUTO_DEBUG && error.cause)
      output.err(String((error.cause as Error).stack ?? error.cause))
  }
  return CODES[error.code].exit
}

/** A command that found something wrong (problems, failed run) and has said so already; carries the exit code only. */
export class Finding extends Error {
  readonly exit: number
  constructor(exit: number) {
    super('finding')
    this.exit = exit
  }
}

export const usage = (message: string): AppError => new AppError('usage.invalid', message)
export { EXIT }
