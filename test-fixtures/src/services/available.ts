import { accessSync, appendFileSync, constants, existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'

export type Service = 'postgres' | 's3' | 'chromium' | 'keychain'

/** The file to which tests append what they left out; `npm test` prints it at the end. */
export const leftOutVariable = 'PLUTO_TEST_LEFT_OUT'

const checks: Record<Service, () => string | undefined> = {
  postgres: missingPostgres,
  s3: missingS3,
  chromium: missingChromium,
  keychain: missingKeychain,
}

/**
 * Whether this machine has what a test needs. What it lacks is named in the list that `npm test` prints at its end:
 *
 * `describe.skipIf(!available('s3'))('uploads', …)`
 */
export function available(service: Service): boolean {
  const reason = missing(service)
  if (reason === undefined) return true
  leaveOut(service, reason)
  return false
}

/** Names a group of tests that is left out, and why, in the list that `npm test` prints at its end. */
export function leaveOut(what: string, reason: string): void {
  const line = `${what}: ${reason}`
  const file = process.env[leftOutVariable]
  if (file === undefined) console.warn(`left out: ${line}`)
  else appendFileSync(file, `${line}\n`)
}

/** Why a service cannot be used here and what to do about it, or undefined when it can. Starts nothing. */
export function missing(service: Service): string | undefined {
  return checks[service]()
}

/** The Chromium that the browser tests drive: `PLUTO_CHROMIUM`, else the system's own. */
export function chromiumPath(): string | undefined {
  const named = process.env.PLUTO_CHROMIUM
  if (named !== undefined && named !== '') return existsSync(named) ? named : undefined
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    const found = which(name)
    if (found !== undefined) return found
  }
  return undefined
}

function missingPostgres(): string | undefined {
  if (process.env.DATABASE_URL_TEST !== undefined) return undefined
  if (process.getuid?.() === 0 && which('useradd') === undefined) {
    return 'as root Postgres needs a user to run as, and useradd is not there; set DATABASE_URL_TEST to a server of yours'
  }
  return undefined
}

function missingS3(): string | undefined {
  const advice = 'run `test-fixtures/services/s3-server.sh install` as root on Debian 12'
  if (process.getuid?.() !== 0) return `the test S3 server runs as root only; ${advice}`
  const programs = [
    'swift-proxy-server',
    'swift-account-server',
    'swift-container-server',
    'swift-object-server',
  ]
  const lacking = [...programs, 'memcached', 'curl', 'python3'].find(name => which(name) === undefined)
  if (lacking !== undefined) return `${lacking} is not installed; ${advice}`
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache')
  const library = process.env.S3_SWIFT_LIB || join(cache, 'pluto-duck-swift')
  return existsSync(join(library, 'ok')) ? undefined : `Swift's newer library is not installed; ${advice}`
}

function missingChromium(): string | undefined {
  if (chromiumPath() !== undefined) return undefined
  return 'no Chromium; install the package chromium, or set PLUTO_CHROMIUM to its path'
}

function missingKeychain(): string | undefined {
  try {
    createRequire(import.meta.url).resolve('keytar/build/Release/keytar.node')
  } catch {
    return 'keytar was not built; install libsecret-1-dev, a compiler and python3, then run npm ci again'
  }
  if (process.platform !== 'linux') return undefined
  if (process.env.PLUTO_TEST_KEYCHAIN !== undefined) return undefined
  return 'no Secret Service of its own; install gnome-keyring and dbus, and run the tests by `npm test`'
}

/** The program's path on PATH, or undefined. */
export function which(program: string): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, program)
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // Not in this folder: look in the next one.
    }
  }
  return undefined
}
