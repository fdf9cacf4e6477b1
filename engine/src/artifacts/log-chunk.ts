import { open } from 'node:fs/promises'
import { type LogLine, logLine } from '@pluto-duck/crdt-model/protocol'
import type { RunRecord } from '../runs/run-record.ts'

const NEWLINE = 0x0a
const BLANK = 0x20
/** More than the longest line that the server takes. */
const LONGEST_LINE = 64 * 1024

/**
 * Whole lines of a run's log from an offset, at most `limit` bytes, as the server takes them. What a power cut or a bad disk left
 * between them, and is no line of this run, is sent as blanks beside a line that is: so the text is as long as it is in the file, and
 * both sides count the same. Where all of `limit` is such, a line that says so stands beside the blanks. Empty when there is no line.
 *
 * @param limit more than twice the longest line.
 */
export async function readChunk(
  path: string,
  run: Pick<RunRecord, 'run_id' | 'workspace_id' | 'created_at'>,
  offset: number,
  limit: number,
): Promise<string> {
  const file = await open(path, 'r')
  try {
    const buffer = Buffer.alloc(limit)
    const { bytesRead } = await file.read(buffer, 0, limit, offset)
    const whole = bytesRead === 0 ? 0 : buffer.lastIndexOf(NEWLINE, bytesRead - 1) + 1
    const lines = withoutBroken(buffer.subarray(0, whole), run.run_id)
    if (lines !== '' || bytesRead < limit) return lines
    // What is behind the last newline can be the beginning of a line, unless it is too long for one.
    return unreadable(run, limit - whole > LONGEST_LINE ? limit : whole)
  } finally {
    await file.close()
  }
}

/** So many bytes that stand for as many that are no lines. The same at each attempt. */
function unreadable(
  { run_id, workspace_id, created_at }: Pick<RunRecord, 'run_id' | 'workspace_id' | 'created_at'>,
  bytes: number,
): string {
  const line: LogLine = {
    ts: created_at,
    level: 'warn',
    run_id,
    trace_id: run_id.replaceAll('-', ''),
    project_id: workspace_id,
    asset_id: null,
    step: null,
    attempt: null,
    cause: null,
    message: `Here ${bytes} bytes of the log could not be read.`,
  }
  return `${JSON.stringify(line).padEnd(bytes - 1)}\n`
}

function withoutBroken(lines: Buffer, runId: string): string {
  let last = -1
  for (let start = 0; start < lines.length; ) {
    const end = lines.indexOf(NEWLINE, start)
    if (isLine(lines.subarray(start, end), runId)) last = end
    // JSON may begin with blanks: these begin the next line.
    else lines.fill(BLANK, start, end + 1)
    start = end + 1
  }
  if (last < 0) return ''
  if (last < lines.length - 1) {
    // It may end with them, too: those behind the last line.
    lines[last] = BLANK
    lines[lines.length - 1] = NEWLINE
  }
  return lines.toString('utf8')
}

function isLine(bytes: Buffer, runId: string): boolean {
  const text = bytes.toString('utf8')
  // Bytes that are no UTF-8 would become longer.
  if (Buffer.byteLength(text) !== bytes.length) return false
  try {
    const read = logLine.safeParse(JSON.parse(text))
    return read.success && read.data.run_id === runId
  } catch {
    return false
  }
}
