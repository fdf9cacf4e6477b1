import { fork } from 'node:child_process'
import { cpuSeconds, memoryMb } from './process.ts'

/**
 * Parts of a benchmark in processes of their own: a file forks itself with the name of a role. Messages and arguments go by
 * IPC, so they may hold bytes. `playRole` comes behind what the roles use.
 *
 *   await playRole({ readers: async (part, { K }) => { …; part.say('ready'); await part.heard(); part.say(result) } })
 *   const readers = startRole(import.meta.filename, 'readers', { K: 10 })
 */
export interface Part {
  say(message: unknown): void
  /** The next message from the benchmark. */
  heard(): Promise<unknown>
}

export interface Role {
  readonly pid: number
  say(message: unknown): void
  /** The next message of the role; rejects when it ends before, or after `timeoutMs` (default 120,000). */
  heard(timeoutMs?: number): Promise<unknown>
  cpuSeconds(): number
  memoryMb(): { now: number; peak: number }
  /** Resolves when it has ended by itself. */
  exited(): Promise<void>
  /** Ends it with SIGKILL. */
  kill(): Promise<void>
}

const MARK = '--role='

/** In a process that was started for a role: plays it and ends the process. In any other: returns at once. */
export async function playRole(
  roles: Readonly<Record<string, (part: Part, args: never) => Promise<void>>>,
): Promise<void> {
  const given = process.argv.find(argument => argument.startsWith(MARK))
  if (given === undefined) return
  const queue = new Queue()
  process.on('message', message => queue.put(message))
  process.on('disconnect', () => process.exit(0))
  let said: Promise<void> = Promise.resolve()
  const say = (message: unknown): void => {
    said = new Promise(resolve => process.send!({ message }, undefined, undefined, () => resolve()))
  }
  const args = (await queue.take()) as never
  await roles[given.slice(MARK.length)]!({ say, heard: () => queue.take() }, args)
  await said
  process.exit(0)
}

export function startRole(
  file: string,
  name: string,
  args: unknown,
  options: { readonly execArgv?: readonly string[]; readonly env?: Readonly<Record<string, string>> } = {},
): Role {
  const child = fork(file, [`${MARK}${name}`], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    serialization: 'advanced',
    execArgv: [...(options.execArgv ?? [])],
    env: { ...process.env, ...options.env },
  })
  child.send(args as object)
  const queue = new Queue()
  const ended = new Promise<void>(resolve =>
    child.once('exit', (code, signal) => {
      queue.fail(new Error(`the part "${name}" ended with ${signal ?? code}`))
      resolve()
    }),
  )
  child.on('message', ({ message }: { message: unknown }) => queue.put(message))
  return {
    pid: child.pid!,
    say: message => void child.send(message as object),
    heard: (timeoutMs = 120_000) => queue.take(timeoutMs),
    cpuSeconds: () => cpuSeconds(child.pid!),
    memoryMb: () => memoryMb(child.pid!),
    exited: () => ended,
    kill: async () => {
      child.kill('SIGKILL')
      await ended
    },
  }
}

class Queue {
  readonly #items: unknown[] = []
  #failed: Error | null = null
  #wake: (() => void) | null = null

  put(item: unknown): void {
    this.#items.push(item)
    this.#wake?.()
  }

  fail(error: Error): void {
    this.#failed = error
    this.#wake?.()
  }

  async take(timeoutMs = 600_000): Promise<unknown> {
    let late = false
    const timer = setTimeout(() => {
      late = true
      this.#wake?.()
    }, timeoutMs)
    try {
      while (this.#items.length === 0) {
        if (this.#failed) throw this.#failed
        if (late) throw new Error(`nothing was said for ${timeoutMs} ms`)
        await new Promise<void>(resolve => {
          this.#wake = resolve
        })
      }
      return this.#items.shift()
    } finally {
      clearTimeout(timer)
    }
  }
}
