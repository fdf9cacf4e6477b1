import { mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { type Logger, pino } from 'pino'

/** What waits for a disk that takes nothing; lines beyond it are dropped. */
const WAITING_BYTES = 1024 * 1024
const STDERR = 2

/**
 * The host's own log, `host.log` in the data folder: JSON lines that never hold a token, a document's text or a row, but codes, ids
 * and counts. A disk that takes nothing costs lines, never the host. Where the file cannot be opened, lines go to stderr.
 */
export const hostLog = (folder: string): Logger => {
  mkdirSync(join(folder, 'logs'), { recursive: true })
  const destination = pino.destination({
    dest: openOr(STDERR, join(folder, 'host.log')),
    sync: false,
    maxLength: WAITING_BYTES,
  })
  // What was not written is tried again with the next line. Without a listener the first such line would end the process.
  destination.on('error', () => undefined)
  const flush = destination.flushSync.bind(destination)
  // Called when the process exits.
  destination.flushSync = () => {
    try {
      flush()
    } catch {
      // These lines are lost; the exit stays as it was meant.
    }
  }
  return pino({ level: process.env.PLUTO_LOG_LEVEL ?? 'info' }, destination)
}

function openOr(otherwise: number, file: string): number {
  try {
    return openSync(file, 'a')
  } catch {
    return otherwise
  }
}
