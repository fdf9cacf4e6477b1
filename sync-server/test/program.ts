import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export const program = fileURLToPath(new URL('../bin/pluto-server.ts', import.meta.url))

export interface Program {
  readonly child: ChildProcess
  /** What it has printed so far. */
  readonly out: () => string
  readonly err: () => string
  /** Its exit code; null when a signal ended it. */
  readonly ended: Promise<number | null>
  /** Where it said that it listens. */
  readonly url: string
}

/** Runs `pluto-server` until it ends. */
export const runProgram = (args: string[], env: Record<string, string>): Omit<Program, 'url'> => {
  const { PATH = '', HOME = '', NODE_COMPILE_CACHE = '' } = process.env
  const child = spawn(process.execPath, [program, ...args], {
    env: { PATH, HOME, NODE_COMPILE_CACHE, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [out, err] = ['', '']
  child.stdout.on('data', chunk => {
    out += chunk
  })
  child.stderr.on('data', chunk => {
    err += chunk
  })
  const ended = new Promise<number | null>(resolve => child.once('close', resolve))
  return { child, out: () => out, err: () => err, ended }
}

/** Runs `pluto-server start` and resolves when it listens. */
export const startProgram = async (args: string[], env: Record<string, string>): Promise<Program> => {
  const running = runProgram(args, env)
  const url = await new Promise<string>((resolve, reject) => {
    running.child.stdout?.on('data', () => {
      const found = /^listening (\S+)/m.exec(running.out())
      if (found) resolve(found[1] as string)
    })
    void running.ended.then(code => reject(new Error(`ended with ${code}: ${running.err()}`)))
  })
  return { ...running, url }
}
