import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'

export interface Serving {
  readonly url: string
  readonly folder: string
  /** Ends the host as a power cut would, and starts it again on the same port. */
  restart(): Promise<string>
  close(): Promise<void>
}

const PLUTO = fileURLToPath(new URL('../../../engine/bin/pluto.ts', import.meta.url))

/** A real host on a data folder of its own, without a server. */
export async function serve(): Promise<Serving> {
  const folder = await mkdtemp(join(tmpdir(), 'pluto-app-'))
  let child: ChildProcess
  const start = async (port: string): Promise<string> => {
    child = spawn(process.execPath, [PLUTO, 'serve', '--port', port], {
      env: { ...process.env, PLUTO_HOME: folder },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    if (!child.stdout) throw new Error('The host has no output.')
    for await (const line of createInterface({ input: child.stdout }))
      if (line.startsWith('ready ')) return line.slice('ready '.length)
    throw new Error('The host ended before it was ready.')
  }
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise(resolve => child.once('exit', resolve))
    child.kill(signal)
    await ended
  }
  const url = await start('0')
  return {
    url,
    folder,
    async restart() {
      await end('SIGKILL')
      return start(new URL(url).port)
    },
    async close() {
      await end('SIGTERM')
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
}
