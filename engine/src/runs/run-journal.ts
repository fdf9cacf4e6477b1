import { stat } from 'node:fs/promises'
import type { LogLine } from '../contract/index.ts'
import { logLine, logPath, RunLog, toldBy } from '../logs/index.ts'
import type { RunEvent } from '../run/index.ts'

type Told = NonNullable<ReturnType<typeof toldBy>>

/** Writes a run's log and tells its views each line as it is written. What comes after `close` is left out. */
export class RunJournal {
  readonly #log: RunLog
  readonly #about: Pick<LogLine, 'run_id' | 'trace_id' | 'project_id'>
  readonly #now: () => number
  readonly #onLines: (lines: LogLine[]) => void
  #closed = false

  constructor(
    dataFolder: string,
    about: { readonly run_id: string; readonly workspace_id: string },
    now: () => number,
    onLines: (lines: LogLine[]) => void,
  ) {
    const { run_id, workspace_id: project_id } = about
    this.#about = { run_id, trace_id: run_id.replaceAll('-', ''), project_id }
    this.#log = new RunLog({ dataDir: dataFolder, ...this.#about })
    this.#now = now
    this.#onLines = onLines
  }

  event(event: RunEvent): void {
    // Its descriptors may be somebody else's by then.
    if (this.#closed) return
    this.#log.event(event)
    const told = toldBy(event)
    if (told) this.#onLines([{ ts: event.ts, ...this.#about, ...told }])
  }

  /** A line of this program's own: a template with names from the definition, never a value. */
  say(level: LogLine['level'], message: string, about: Partial<Pick<Told, 'step' | 'cause'>> = {}): void {
    if (this.#closed) return
    const ts = new Date(this.#now()).toISOString()
    const line = {
      ts,
      level,
      asset_id: null,
      step: about.step ?? null,
      attempt: null,
      cause: about.cause ?? null,
      message,
    }
    this.#log.write(line)
    this.#onLines([{ ...line, ...this.#about }])
  }

  /** What was written is on the disk when it returns. */
  settle(): void {
    if (!this.#closed) this.#log.settle()
  }

  /** Settles and gives the files back, also when it throws because the disk takes nothing. Again it does nothing. */
  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#log.close()
  }
}

/** The lines of a log's text; what is no whole line of the format is left out. */
export const linesOf = (text: string): LogLine[] =>
  text.split('\n').flatMap(line => {
    try {
      const read = logLine.safeParse(JSON.parse(line))
      return read.success ? [read.data] : []
    } catch {
      return []
    }
  })

/** Bytes of a run's log so far; 0 when there is none. */
export const logBytes = (dataFolder: string, runId: string): Promise<number> =>
  stat(logPath(dataFolder, runId)).then(
    found => found.size,
    () => 0,
  )
