import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

export interface HostAddress {
  readonly origin: string
  readonly token: string
}

export interface HostProcess {
  /** Resolves with the address each time the host is ready. */
  onReady(listener: (address: HostAddress) => void): void
  onGone(listener: () => void): void
  stop(): Promise<void>
}

const RESTART_MS = 2000
const STOP_MS = 5000

/** The address in the line that `pluto serve` prints when it is ready; null for every other line. */
export function addressIn(line: string): HostAddress | null {
  const found = /\bhttp:\/\/(?:127\.0\.0\.1|localhost):\d+\/\?token=[^\s"]+/.exec(line)?.[0]
  if (!found) return null
  const url = new URL(found)
  const token = url.searchParams.get('token')
  return token ? { origin: url.origin, token } : null
}

/** A host that another program runs (`npm start` has its own): it is neither started nor stopped here. */
export function attachHost(address: HostAddress): HostProcess {
  return {
    onReady: listener => queueMicrotask(() => listener(address)),
    onGone: () => undefined,
    stop: async () => undefined,
  }
}

/** Runs `pluto serve` beside the window, with this program as its Node, and starts it again when it ends by itself. */
export function startHost(entry: string): HostProcess {
  const ready = new Set<(address: HostAddress) => void>()
  const gone = new Set<() => void>()
  let child: ChildProcess | null = null
  let stopping = false

  const start = (): void => {
    child = spawn(process.execPath, [entry, 'serve'], {
      env: { ...process.env, ELECTRON_RUN_AS_NODE: '1' },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    if (child.stdout)
      createInterface({ input: child.stdout }).on('line', line => {
        const address = addressIn(line)
        if (address) for (const listener of ready) listener(address)
      })
    child.once('exit', () => {
      child = null
      for (const listener of gone) listener()
      if (!stopping) setTimeout(start, RESTART_MS)
    })
  }
  start()

  return {
    onReady: listener => void ready.add(listener),
    onGone: listener => void gone.add(listener),
    async stop() {
      stopping = true
      const ending = child
      if (!ending) return
      const ended = new Promise<void>(resolve => ending.once('exit', () => resolve()))
      ending.kill('SIGTERM')
      const timer = setTimeout(() => ending.kill('SIGKILL'), STOP_MS)
      await ended
      clearTimeout(timer)
    },
  }
}
