/**
 * `npm start`: the whole product on embedded defaults. A server with its own Postgres, a host with its data folder, a local
 * user signed in, a sample workspace, the app in a window (Electron when its binary is there) or in the browser.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire, enableCompileCache } from 'node:module'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import type { RunningServer } from '@pluto-duck/sync-server'
import { makeSample } from './sample.ts'

const ROOT = resolve(import.meta.dirname, '..')
/** Compiled code of both processes, kept between starts: loading takes a third less. */
const COMPILE_CACHE = join(ROOT, 'node_modules', '.cache', 'compile')

/** How long the host may take to end; the server's own limit comes after it. */
const HOST_STOP_MS = 8_000

const HELP = `Usage: npm start -- [options]

Starts Pluto Duck on this machine: a server with its own Postgres, a host, a sample workspace, and the app.

  --no-open        do not open a window or a browser; only print the address
  --port N         port of the app on 127.0.0.1 (default: any free port)
  --data-dir DIR   where everything is kept (default: ~/.pluto-duck)
  --help           this text

Prints one line "ready <address>". Ctrl-C stops everything; a second start finds it as it was left.`

interface Options {
  readonly open: boolean
  readonly port: number
  readonly dataDir: string
}

const readOptions = (): Options => {
  let values: { 'no-open'?: boolean; port?: string; 'data-dir'?: string; help?: boolean }
  try {
    ;({ values } = parseArgs({
      options: {
        'no-open': { type: 'boolean' },
        port: { type: 'string' },
        'data-dir': { type: 'string' },
        help: { type: 'boolean' },
      },
    }))
  } catch (error) {
    return exitWith(2, `${(error as Error).message}\n\n${HELP}`)
  }
  if (values.help) return exitWith(0, HELP)
  const port = Number(values.port ?? 0)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    return exitWith(2, `--port ${values.port}: give a number from 0 to 65535.`)
  }
  const dataDir = resolve(values['data-dir'] ?? join(homedir(), '.pluto-duck'))
  return { open: !values['no-open'], port, dataDir }
}

const exitWith = (code: number, text: string): never => {
  ;(code === 0 ? process.stdout : process.stderr).write(`${text}\n`)
  process.exit(code)
}

/** Builds the app; turbo answers from its cache when nothing that it is made of has changed. */
const buildApp = (): Promise<void> =>
  new Promise((done, failed) => {
    const turbo = join(ROOT, 'node_modules', '.bin', 'turbo')
    const child = spawn(
      turbo,
      ['run', 'build', '--filter=@pluto-duck/desktop', '--output-logs=errors-only'],
      {
        cwd: ROOT,
        stdio: ['ignore', 'ignore', 'inherit'],
        env: { ...process.env, TURBO_TELEMETRY_DISABLED: '1' },
        shell: process.platform === 'win32',
      },
    )
    child.once('error', failed)
    child.once('exit', code =>
      code === 0 ? done() : failed(new Error('the app could not be built: see `npm run build`')),
    )
  })

interface HostProcess {
  readonly child: ChildProcess
  /** Resolves with the app's address. */
  connect(server: string, token: string): Promise<string>
}

/** Starts `pluto serve`, which loads while the server starts and is told of it by `connect`. */
const startHost = (options: Options): HostProcess => {
  const program = join(ROOT, 'engine', 'bin', 'pluto.ts')
  const child = spawn(
    process.execPath,
    [program, 'serve', '--json', '--connect-stdin', '--port', String(options.port)],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, PLUTO_HOME: join(options.dataDir, 'host'), NODE_COMPILE_CACHE: COMPILE_CACHE },
    },
  )
  const ready = Promise.withResolvers<string>()
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
    const line = text.split('\n').find(candidate => /^\{"ready":.*\}$/.test(candidate))
    if (line) ready.resolve((JSON.parse(line) as { ready: string }).ready)
  })
  child.once('error', ready.reject)
  child.once('exit', code => ready.reject(new Error(`the host ended with code ${code}`)))
  ready.promise.catch(() => {})
  return {
    child,
    connect: (server, token) => {
      // Left open: when this program dies, however, the host sees its end and ends too.
      child.stdin.write(`${JSON.stringify({ server, token })}\n`)
      return ready.promise
    },
  }
}

/** The Electron binary, or null: the registry's package fetches it on its first run, so it may not be there. */
const electronBinary = (): string | null => {
  const resolveFrom = createRequire(join(ROOT, 'desktop', 'package.json'))
  const names: Partial<Record<NodeJS.Platform, string>> = {
    darwin: 'Electron.app/Contents/MacOS/Electron',
    win32: 'electron.exe',
  }
  const dir = resolve(resolveFrom.resolve('electron/package.json'), '..')
  const path = join(dir, 'dist', names[process.platform] ?? 'electron')
  return existsSync(path) ? path : null
}

const openApp = (address: string): void => {
  const binary = electronBinary()
  if (!binary) {
    openBrowser(address)
    return
  }
  const child = spawn(binary, [join(ROOT, 'desktop')], {
    stdio: 'inherit',
    env: { ...process.env, PLUTO_HOST_URL: address },
  })
  child.once('error', () => openBrowser(address))
}

/** Opens the default browser. Not being able to is no error: the address was printed. */
const openBrowser = (address: string): void => {
  const commands: Partial<Record<NodeJS.Platform, [string, ...string[]]>> = {
    darwin: ['open', address],
    win32: ['cmd', '/c', 'start', '', address],
  }
  const [command, ...args] = commands[process.platform] ?? ['xdg-open', address]
  const child = spawn(command, args, { stdio: 'ignore', detached: true })
  child.once('error', () => process.stderr.write('No browser could be opened: open the address yourself.\n'))
  child.unref()
}

const endHost = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = new Promise(resolve => child.once('exit', resolve))
  child.kill('SIGTERM')
  // What was acknowledged is on disk: a host that does not end by itself may be killed.
  const late = setTimeout(() => child.kill('SIGKILL'), HOST_STOP_MS)
  await ended
  clearTimeout(late)
}

const main = async (): Promise<void> => {
  const options = readOptions()
  enableCompileCache(COMPILE_CACHE)
  const built = buildApp()
  built.catch(() => {})
  const host = startHost(options)

  let server: RunningServer | undefined
  let stopping: Promise<void> | undefined
  const stop = (code: number): void => {
    stopping ??= (async () => {
      await endHost(host.child)
      await server?.close()
      process.exit(code)
    })()
  }
  process.on('SIGINT', () => stop(0))
  process.on('SIGTERM', () => stop(0))

  try {
    const { readConfig, startServer } = await import('@pluto-duck/sync-server')
    server = await startServer(
      readConfig({
        HOST: '127.0.0.1',
        PORT: '0',
        DATA_DIR: join(options.dataDir, 'server'),
        SIGNUP: 'invite',
        LOG_LEVEL: 'warn',
      }),
    )
    const userId = await server.ensureLocalOwner({ name: 'Local user', email: 'you@pluto-duck.localhost' })
    const token = await server.issueSession(userId)
    host.child.once('exit', code => stop(code ?? 1))
    await built
    const url = await host.connect(server.url, token)
    await makeSample(url)
    process.stdout.write(`ready ${url}\n`)
    if (options.open) openApp(url)
  } catch (error) {
    if (!stopping) process.stderr.write(`Pluto Duck could not start: ${(error as Error).message}\n`)
    stop(1)
  }
}

await main()
