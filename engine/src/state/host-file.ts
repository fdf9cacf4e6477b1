import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'

/**
 * `host.json`: who owns the data folder and how to talk to it. It only informs: the ownership itself is the operating
 * system's lock on `state.duckdb`, which ends with its process however that dies. So a file left by a dead host holds nobody up.
 */
const hostInfo = z.object({
  pid: z.number().int().positive(),
  /** Where the host answers on loopback; null while it serves nothing. */
  port: z.number().int().positive().nullable(),
  /** The bearer token of its HTTP bridge. */
  token: z.string().nullable(),
})
export type HostInfo = z.infer<typeof hostInfo>

const path = (folder: string) => join(folder, 'host.json')

/** Replaces the file at once, so that a reader never sees half of it; mode 0600. */
export function writeHostFile(folder: string, info: HostInfo): void {
  const aside = `${path(folder)}.${process.pid}`
  writeFileSync(aside, `${JSON.stringify(info)}\n`, { mode: 0o600 })
  renameSync(aside, path(folder))
}

/** The host that says it owns the folder, or null when none does or its process is gone. */
export function readHostFile(folder: string): HostInfo | null {
  let text: string
  try {
    text = readFileSync(path(folder), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
  const parsed = hostInfo.safeParse(safeJson(text))
  return parsed.success && alive(parsed.data.pid) ? parsed.data : null
}

export function removeHostFile(folder: string): void {
  if (readHostFile(folder)?.pid === process.pid) rmSync(path(folder), { force: true })
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    // A file that some other program wrote says nothing about a host.
    return null
  }
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}
