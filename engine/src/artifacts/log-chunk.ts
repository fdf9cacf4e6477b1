import { open } from 'node:fs/promises'
import { logLine } from '@pluto-duck/crdt-model/protocol'

const NEWLINE = 0x0a
const BLANK = 0x20

/**
 * Whole lines of a run's log from an offset, at most `limit` bytes, as the server takes them. What a power cut or a bad disk left
 * between them, and is no line of this run, is sent as blanks beside a line that is: so the text is as long as it is in the file, and
 * both sides count the same. Empty when there is no line.
 */
export async function readChunk(path: string, runId: string, offset: number, limit: number): Promise<string> {
  const file = await open(path, 'r')
  try {
    const buffer = Buffer.alloc(limit)
    const { bytesRead } = await file.read(buffer, 0, limit, offset)
    const end = bytesRead === 0 ? -1 : buffer.lastIndexOf(NEWLINE, bytesRead - 1)
    return withoutBroken(buffer.subarray(0, end + 1), runId)
  } finally {
    await file.close()
  }
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
