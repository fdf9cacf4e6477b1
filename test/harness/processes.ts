import { type ChildProcess, spawn } from 'node:child_process'
import { resolve } from 'node:path'

const ROOT = resolve(import.meta.dirname, '..', '..')

export interface Started<T> {
  readonly ready: T
  readonly pid: number
  /** Everything that it printed on both streams. */
  output(): string
  /** SIGKILL: what a crash is. Resolves when the process is gone. */
  kill(): Promise<void>
  /** SIGTERM, and SIGKILL when it does not end within 15 s. */
  stop(): Promise<void>
}

const START_MS = 60_000
const STOP_MS = 15_000

/** Starts one of the product's programs and resolves when `ready` finds in its output what it waits for. */
export const startProgram = <T>(
  script: string,
  args: readonly string[],
  env: Record<string, string>,
  ready: (stdout: string) => T | null,
  startMs = START_MS,
): Promise<Started<T>> => {
  const child = spawn(process.execPath, [resolve(ROOT, script), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...inherited(), ...env },
  })
  let stdout = ''
  let all = ''
  const gone = new Promise<void>(done => child.once('exit', () => done()))
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    await gone
  }
  return new Promise((resolveStarted, reject) => {
    const timer = setTimeout(() => fail('did not become ready'), startMs)
    const fail = (what: string) => {
      clearTimeout(timer)
      child.kill('SIGKILL')
      reject(new Error(`${script} ${args.join(' ')} ${what}:\n${all.slice(-4000)}`))
    }
    const listen = (stream: ChildProcess['stdout'], isOut: boolean) =>
      stream?.setEncoding('utf8').on('data', (text: string) => {
        all += text
        if (!isOut) return
        stdout += text
        const value = ready(stdout)
        if (value === null) return
        clearTimeout(timer)
        resolveStarted({
          ready: value,
          pid: child.pid as number,
          output: () => all,
          kill: () => end('SIGKILL'),
          stop: async () => {
            const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
            await end('SIGTERM')
            clearTimeout(late)
          },
        })
      })
    listen(child.stdout, true)
    listen(child.stderr, false)
    child.once('error', error => fail(error.message))
    child.once('exit', code => fail(`ended with ${code}`))
  })
}

/** The environment without settings of ours, so that a test says all that it depends on; the keychain's address stays. */
const inherited = (): Record<string, string> =>
  Object.fromEntries(
    Object.entries(process.env).filter(
      (entry): entry is [string, string] =>
        entry[1] !== undefined && !/^(PLUTO_(?!TEST)|S3_|DATABASE_URL|AUTH_SECRET)/.test(entry[0]),
    ),
  )

export interface Ended {
  readonly exit: number | null
  readonly out: string
  readonly err: string
}

/** Runs one of the product's programs to its end. */
export const runProgram = (
  script: string,
  args: readonly string[],
  env: Record<string, string>,
): Promise<Ended> =>
  new Promise((resolveEnded, reject) => {
    const child = spawn(process.execPath, [resolve(ROOT, script), ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...inherited(), ...env },
    })
    let out = ''
    let err = ''
    const late = setTimeout(() => child.kill('SIGKILL'), START_MS)
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      err += text
    })
    child.once('error', reject)
    child.once('close', exit => {
      clearTimeout(late)
      resolveEnded({ exit, out, err })
    })
  })
