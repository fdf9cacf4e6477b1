/**
 * `npm start`: the whole product on embedded defaults. A server with its own Postgres, a host with its data folder, a local
 * user signed in, a sample workspace, the app in a window (Electron when its binary is there) or in the browser.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { makeSample } from './sample.ts'

const ROOT = resolve(import.meta.dirname, '..')

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

/** Starts `pluto serve` and answers its address when it is ready. */
const startHost = (
  options: Options,
  server: string,
  token: string,
): Promise<{ child: ChildProcess; url: string }> =>
  new Promise((done, failed) => {
    const program = join(ROOT, 'engine', 'bin', 'pluto.ts')
    const child = spawn(process.execPath, [program, 'serve', '--json', '--port', String(options.port)], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {
        ...process.env,
        PLUTO_HOME: join(options.dataDir, 'host'),
        PLUTO_SERVER: server,
        PLUTO_TOKEN: token,
      },
    })
    let text = ''
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      const line = text.split('\n').find(candidate => /^\{"ready":.*\}$/.test(candidate))
      if (line) done({ child, url: (JSON.parse(line) as { ready: string }).ready })
    })
    child.once('error', failed)
    child.once('exit', code => failed(new Error(`the host ended with code ${code}`)))
  })

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

const main = async (): Promise<void> => {
  const options = readOptions()
  const built = buildApp()
  built.catch(() => {})
  const { readConfig, startServer } = await import('@pluto-duck/sync-server')
  const server = await startServer(
    readConfig({
      HOST: '127.0.0.1',
      PORT: '0',
      DATA_DIR: join(options.dataDir, 'server'),
      SIGNUP: 'invite',
      LOG_LEVEL: 'warn',
    }),
  )

  let host: ChildProcess | undefined
  let stopping: Promise<void> | undefined
  const stop = (code: number): void => {
    stopping ??= (async () => {
      if (host && host.exitCode === null && host.signalCode === null) {
        const ended = new Promise(resolve => host?.once('exit', resolve))
        host.kill('SIGTERM')
        await ended
      }
      await server.close()
      process.exit(code)
    })()
  }
  process.on('SIGINT', () => stop(0))
  process.on('SIGTERM', () => stop(0))

  try {
    const userId = await server.ensureLocalOwner({ name: 'Local user', email: 'you@pluto-duck.localhost' })
    const token = await server.issueSession(userId)
    await built
    const started = await startHost(options, server.url, token)
    host = started.child
    host.once('exit', code => stop(code ?? 1))
    await makeSample(started.url)
    process.stdout.write(`ready ${started.url}\n`)
    if (options.open) openApp(started.url)
  } catch (error) {
    if (!stopping) process.stderr.write(`Pluto Duck could not start: ${(error as Error).message}\n`)
    stop(1)
  }
}

await main()
