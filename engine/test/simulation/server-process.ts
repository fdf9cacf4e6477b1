import { type ChildProcess, spawn } from 'node:child_process'
import { join } from 'node:path'
import type { Door } from './network.ts'

const ROOT = join(import.meta.dirname, '..', '..', '..')
const START_MS = 60_000

/** `pluto-server` in a process of its own, on one port for as long as it is started again. */
export class ServerProcess implements Door {
  readonly server: { readonly url: string }
  readonly #env: Record<string, string>
  #child: ChildProcess | null = null
  #died = new AbortController()
  output = ''

  constructor(port: number, databaseUrl: string, dataDir: string) {
    this.server = { url: `http://127.0.0.1:${port}` }
    this.#env = {
      HOST: '127.0.0.1',
      PORT: String(port),
      DATA_DIR: dataDir,
      DATABASE_URL: databaseUrl,
      AUTH_SECRET: 'a secret of forty characters, for tests.',
      SIGNUP: 'open',
      LOG_LEVEL: 'error',
    }
    this.#died.abort()
  }

  get dead(): boolean {
    return this.#died.signal.aborted
  }
  get died(): AbortSignal {
    return this.#died.signal
  }

  /** Resolves when it listens. */
  async start(): Promise<void> {
    const { PATH = '', NODE_COMPILE_CACHE = '' } = process.env
    const child = spawn(process.execPath, [join(ROOT, 'sync-server', 'bin', 'pluto-server.ts'), 'start'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH, NODE_COMPILE_CACHE, ...this.#env },
    })
    this.#child = child
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`it does not listen:\n${this.output}`)), START_MS)
      const hear = (text: string): void => {
        this.output = (this.output + text).slice(-20_000)
        if (!text.includes('listening')) return
        clearTimeout(timer)
        resolve()
      }
      child.stdout.setEncoding('utf8').on('data', hear)
      child.stderr.setEncoding('utf8').on('data', hear)
      child.once('exit', code => {
        clearTimeout(timer)
        reject(new Error(`it ended with ${code}:\n${this.output}`))
      })
    })
    this.#died = new AbortController()
    // One that ends by itself is a finding: the tests look at `dead`.
    child.once('exit', () => this.#died.abort())
  }

  /** SIGKILL. */
  kill(): Promise<void> {
    return this.#end('SIGKILL')
  }

  stop(): Promise<void> {
    return this.#end('SIGTERM')
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise<void>(resolve => child.once('exit', () => resolve()))
    child.kill(signal)
    await gone
  }
}
