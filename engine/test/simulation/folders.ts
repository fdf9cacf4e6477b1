import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { State } from '../../src/state/index.ts'

/** Memory, where the system offers it: a simulated device is opened and crashed many times a second. */
const PLACE = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()

export const makeFolder = (): string => mkdtempSync(join(PLACE, 'pluto-sim-'))
export const removeFolder = (folder: string): void =>
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 })

let template: Promise<string> | null = null

/** A folder with a new state in it: its tables are made once for the process. */
export async function freshState(): Promise<string> {
  template ??= (async () => {
    const folder = makeFolder()
    await (await State.open(folder)).close()
    process.once('exit', () => removeFolder(folder))
    return folder
  })()
  const folder = makeFolder()
  cpSync(await template, folder, { recursive: true })
  return folder
}

/**
 * What a process that dies now leaves on the disk: the database and its log as far as it is written, maybe in the middle of a
 * commit.
 */
export function leftBehind(folder: string): string {
  const copy = makeFolder()
  for (const file of ['state.duckdb', 'state.duckdb.wal'])
    if (existsSync(join(folder, file))) cpSync(join(folder, file), join(copy, file))
  return copy
}
