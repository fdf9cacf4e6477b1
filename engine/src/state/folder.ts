import { chmodSync, mkdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'

/** The data folder: `PLUTO_HOME`, else the place for application data of this system. Not made. */
export function dataFolder(
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
): string {
  if (env.PLUTO_HOME) return resolve(env.PLUTO_HOME)
  if (platform === 'darwin') return join(homedir(), 'Library', 'Application Support', 'pluto-duck')
  if (platform === 'win32') return join(env.APPDATA ?? join(homedir(), 'AppData', 'Roaming'), 'pluto-duck')
  return join(env.XDG_DATA_HOME || join(homedir(), '.local', 'share'), 'pluto-duck')
}

/**
 * Where compiled code of this program is kept between starts: the user's own, because whoever writes there is run. Not the data folder:
 * it holds nothing of anybody, and may be thrown away at any time.
 */
export function codeCacheFolder(
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
): string {
  const own = join('pluto-duck', 'code')
  if (platform === 'darwin') return join(homedir(), 'Library', 'Caches', own)
  if (platform === 'win32') return join(env.LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local'), own)
  return join(env.XDG_CACHE_HOME || join(homedir(), '.cache'), own)
}

/** Makes the folder, readable by its owner only. */
export function makeDataFolder(folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  chmodSync(folder, 0o700)
}
