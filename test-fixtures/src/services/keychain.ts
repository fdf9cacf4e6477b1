import { fileURLToPath } from 'node:url'
import { which } from './available.ts'

const script = fileURLToPath(new URL('../../services/keychain.sh', import.meta.url))

/**
 * The command line that runs `command` with an unlocked keychain of its own, kept in `stateDir`; or why that is not possible here.
 * Two devices in one test take two folders. Everywhere but on Linux the command runs as it is, with the user's own keychain.
 */
export function underKeychain(
  stateDir: string,
  command: readonly [string, ...string[]],
): { command: readonly [string, ...string[]] } | { missing: string } {
  if (process.platform !== 'linux') return { command }
  const lacking = ['gnome-keyring-daemon', 'dbus-run-session'].find(name => which(name) === undefined)
  if (lacking !== undefined) return { missing: `${lacking} is not installed; install gnome-keyring and dbus` }
  return { command: ['sh', script, stateDir, ...command] }
}
