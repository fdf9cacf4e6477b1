import {
  closeSync,
  fdatasyncSync,
  promises as fs,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  writeSync,
} from 'node:fs'
import path from 'node:path'
import type { RunEvent } from '../run/index.ts'
import { type LogLine, logLine, type PrivateLine, toldBy } from './log-lines.ts'
import { SecretRedactor } from './redaction.ts'

export interface RunLogOptions {
  readonly dataDir: string
  readonly run_id: string
  /** One per request or occurrence that led to the run. */
  readonly trace_id: string
  /** The workspace. */
  readonly project_id: string
  readonly redactor?: SecretRedactor
}

export const logPath = (dataDir: string, runId: string): string =>
  path.join(dataDir, 'logs', `${runId}.jsonl`)
export const privateLogPath = (dataDir: string, runId: string): string =>
  path.join(dataDir, 'private', `${runId}.jsonl`)

/**
 * The two logs of a run. A line is in the system's hands when `write` returns, so a killed process loses none; lines of level
 * warn and above, and the end of the run, are on the disk. Whole lines are only ever added. Throws the system's error when the disk
 * is full: a run without a log is not a run.
 */
export class RunLog {
  readonly #options: RunLogOptions
  readonly #redactor: SecretRedactor
  readonly #public: number
  readonly #private: number

  constructor(options: RunLogOptions) {
    this.#options = options
    this.#redactor = options.redactor ?? new SecretRedactor()
    this.#public = openForAppend(logPath(options.dataDir, options.run_id))
    try {
      this.#private = openForAppend(privateLogPath(options.dataDir, options.run_id))
    } catch (error) {
      closeSync(this.#public)
      throw error
    }
  }

  /** What `onEvent` of a run hands over. */
  event(event: RunEvent): void {
    const told = toldBy(event)
    if (told) this.write({ ts: event.ts, ...told })
    const own = privateWords(event)
    if (own)
      this.#append(this.#private, {
        ts: event.ts,
        run_id: this.#options.run_id,
        ...own,
      } satisfies PrivateLine)
  }

  write(line: Omit<LogLine, 'run_id' | 'trace_id' | 'project_id'>): void {
    const { run_id, trace_id, project_id } = this.#options
    const { ts, level, ...rest } = line
    this.#append(this.#public, { ts, level, run_id, trace_id, project_id, ...rest } satisfies LogLine)
    if (level === 'warn' || level === 'error') fdatasyncSync(this.#public)
  }

  /** What was written is on the disk when it returns. */
  settle(): void {
    for (const file of [this.#public, this.#private]) fdatasyncSync(file)
  }

  /** Settles, and gives both files back, also when it throws what the disk said. Nothing may be written afterwards. */
  close(): void {
    try {
      this.settle()
    } finally {
      for (const file of [this.#public, this.#private]) closeSync(file)
    }
  }

  #append(file: number, line: object): void {
    const bytes = Buffer.from(`${this.#redactor.redact(JSON.stringify(line))}\n`)
    let at = 0
    try {
      while (at < bytes.length) at += writeSync(file, bytes, at)
    } catch (error) {
      // The disk took a part of it: the next line must not follow on that.
      if (at > 0) ftruncateSync(file, fstatSync(file).size - at)
      throw error
    }
  }
}

function privateWords(event: RunEvent): Pick<PrivateLine, 'step' | 'message' | 'engine'> | null {
  if (event.type === 'progress') return null
  const step = event.type === 'run' ? null : event.step
  const engine = event.type === 'run' ? null : (event.private ?? null)
  const message = event.error?.message ?? (event.type === 'step' ? event.reason : undefined) ?? null
  return message === null && engine === null ? null : { step, message: message ?? '', engine }
}

function openForAppend(file: string): number {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
  const opened = openSync(file, 'a+', 0o600)
  try {
    const { size } = fstatSync(opened)
    const whole = endOfLines(opened, size)
    // A crash can leave half a line. Nobody has it: only whole lines are sent.
    if (whole < size) ftruncateSync(opened, whole)
    return opened
  } catch (error) {
    closeSync(opened)
    throw error
  }
}

const PIECE_BYTES = 64 * 1024

/** Bytes up to the end of the last whole line. */
function endOfLines(file: number, size: number): number {
  const piece = Buffer.alloc(PIECE_BYTES)
  for (let end = size; end > 0; ) {
    const start = Math.max(0, end - PIECE_BYTES)
    const read = readSync(file, piece, 0, end - start, start)
    const newline = piece.subarray(0, read).lastIndexOf(0x0a)
    if (newline >= 0) return start + newline + 1
    end = start
  }
  return 0
}

/** The lines of a run's log, in order; half a line at the end, or one that is none, is left out. Empty when there is no log. */
export async function readRunLog(dataDir: string, runId: string): Promise<LogLine[]> {
  const text = await fs.readFile(logPath(dataDir, runId), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return ''
    throw error
  })
  return text.split('\n').flatMap(line => {
    const read = line === '' ? null : logLine.safeParse(parseJson(line))
    return read?.success ? [read.data] : []
  })
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
