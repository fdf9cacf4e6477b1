import { mkdirSync } from 'node:fs'
import { appendFile, open, readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type LogLine, logLine } from '../contract/index.ts'
import type { RunEvent } from '../run/index.ts'

/**
 * The log of a run: `{data_dir}/logs/{run_id}.jsonl`, whole lines, appended only. Its messages are templates with names from the
 * definition: what the engine itself says can quote data and is not in here, so the file may leave the machine as it is.
 */
export class RunLog {
  readonly path: string
  readonly #about: Pick<LogLine, 'run_id' | 'trace_id' | 'project_id'>
  readonly #onLines: (lines: LogLine[]) => void
  readonly #now: () => number
  #tail: Promise<void> = Promise.resolve()
  #waiting: LogLine[] = []

  constructor(
    dataFolder: string,
    about: { readonly run_id: string; readonly workspace_id: string },
    now: () => number,
    onLines: (lines: LogLine[]) => void,
  ) {
    this.path = logPath(dataFolder, about.run_id)
    mkdirSync(dirname(this.path), { recursive: true })
    this.#about = {
      run_id: about.run_id,
      trace_id: about.run_id.replaceAll('-', ''),
      project_id: about.workspace_id,
    }
    this.#now = now
    this.#onLines = onLines
  }

  say(
    level: LogLine['level'],
    message: string,
    more: Partial<Pick<LogLine, 'asset_id' | 'step' | 'attempt' | 'cause' | 'ts'>> = {},
  ): void {
    this.#waiting.push({
      ts: more.ts ?? new Date(this.#now()).toISOString(),
      level,
      ...this.#about,
      asset_id: more.asset_id ?? null,
      step: more.step ?? null,
      attempt: more.attempt ?? null,
      cause: more.cause ?? null,
      message,
    })
    if (this.#waiting.length > 1) return
    // Lines of one moment share a write.
    this.#tail = this.#tail.then(async () => {
      const lines = this.#waiting
      this.#waiting = []
      await appendFile(this.path, lines.map(line => `${JSON.stringify(line)}\n`).join(''), { mode: 0o600 })
      this.#onLines(lines)
    })
    // Whoever waits for `written` hears of it; nobody has to.
    this.#tail.catch(() => undefined)
  }

  event(event: RunEvent): void {
    const said = wordsFor(event)
    if (!said) return
    const about =
      event.type === 'run' || event.type === 'progress'
        ? {}
        : {
            asset_id: event.step_id,
            step: event.step,
            attempt: event.type === 'step' && event.attempt > 0 ? event.attempt : null,
          }
    this.say(said.level, said.message, { ...about, ts: event.ts, cause: said.cause ?? null })
  }

  /** Resolves when every line is written. Rejects if one could not be. */
  written(): Promise<void> {
    return this.#tail
  }
}

export const logPath = (dataFolder: string, runId: string): string =>
  join(dataFolder, 'logs', `${runId}.jsonl`)

/** The lines after the first `after`, and how many there are. A last line that a crash cut short is left out. */
export async function readLog(
  dataFolder: string,
  runId: string,
  after: number,
): Promise<{ lines: LogLine[]; next_line: number }> {
  const text = await readFile(logPath(dataFolder, runId), 'utf8').catch(() => '')
  return linesOf(text, after)
}

export function linesOf(text: string, after: number): { lines: LogLine[]; next_line: number } {
  const whole = text.slice(0, text.lastIndexOf('\n') + 1).split('\n').filter(Boolean)
  const lines = whole.slice(after).flatMap(line => {
    try {
      const read = logLine.safeParse(JSON.parse(line))
      return read.success ? [read.data] : []
    } catch {
      return []
    }
  })
  return { lines, next_line: Math.max(after, whole.length) }
}

/** Bytes of the log so far; 0 when there is none. */
export const logBytes = (dataFolder: string, runId: string): Promise<number> =>
  stat(logPath(dataFolder, runId)).then(
    found => found.size,
    () => 0,
  )

/** Whole lines from an offset, at most `limit` bytes (one longer line comes whole). Empty when there is no whole line. */
export async function readChunk(path: string, offset: number, limit: number): Promise<string> {
  const file = await open(path, 'r')
  try {
    const buffer = Buffer.alloc(limit)
    const { bytesRead } = await file.read(buffer, 0, limit, offset)
    const end = buffer.lastIndexOf(0x0a, bytesRead - 1)
    return bytesRead === 0 || end < 0 ? '' : buffer.toString('utf8', 0, end + 1)
  } finally {
    await file.close()
  }
}

interface Words {
  readonly level: LogLine['level']
  readonly message: string
  readonly cause?: string
}

/** What the log says of an event: names from the definition, counts and classes. */
function wordsFor(event: RunEvent): Words | null {
  switch (event.type) {
    case 'progress':
      return null
    case 'run':
      if (event.state === 'running') return { level: 'info', message: 'The run started.' }
      return null
    case 'test':
      if (event.state === 'passed')
        return { level: 'debug', message: `Test ${event.test} of ${event.step} passed.` }
      return {
        level: event.severity === 'error' ? 'error' : 'warn',
        message:
          event.state === 'failed'
            ? `Test ${event.test} of ${event.step} found ${event.failing_rows ?? 0} failing rows.`
            : `Test ${event.test} of ${event.step} could not be carried out.`,
        cause: 'data_test',
      }
    case 'step':
      return stepWords(event)
  }
}

function stepWords(event: Extract<RunEvent, { type: 'step' }>): Words | null {
  const { step } = event
  switch (event.state) {
    case 'waiting':
      return event.attempt > 0 ? { level: 'warn', message: `Step ${step} is tried again.` } : null
    case 'running':
      return { level: 'info', message: `Step ${step} started.` }
    case 'done': {
      const rows = event.rows === undefined ? '' : ` with ${event.rows} rows`
      return { level: 'info', message: `Step ${step} is done${rows}, in ${event.duration_ms ?? 0} ms.` }
    }
    case 'reused':
      return { level: 'info', message: `Step ${step} is reused.` }
    case 'skipped':
      return { level: 'warn', message: `Step ${step} was skipped: something that it reads has no result.` }
    case 'cancelled':
      return { level: 'warn', message: `Step ${step} was cancelled.`, cause: 'cancelled' }
    case 'failed': {
      const cause = event.error?.class ?? 'internal'
      const place = event.error?.position
      const at = place ? ` at line ${place.line}, column ${place.column}` : ''
      return { level: 'error', message: `Step ${step} failed (${cause})${at}.`, cause }
    }
  }
}
