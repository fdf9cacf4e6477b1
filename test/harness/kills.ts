import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'

/** How often one looks for a moment that lasts only some milliseconds. */
const LOOK_MS = 4
/** Within this a killed process has to be gone. */
const GONE_MS = 10_000

/** Waits until `look` says yes, looking every few milliseconds; false when it did not within `ms`. */
export const soon = async (look: () => boolean | Promise<boolean>, ms = 30_000): Promise<boolean> => {
  for (const end = Date.now() + ms; Date.now() < end; await delay(LOOK_MS)) if (await look()) return true
  return false
}

/** What a system call about a process that may end at any moment gives, or `none` when it has ended. */
const ofLiving = <T>(look: () => T, none: T): T => {
  try {
    return look()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return none
    throw error
  }
}

/** State letter and parent of a process, or null when there is none of this id. */
const statOf = (pid: number): { state: string; parent: number } | null =>
  ofLiving(() => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const [state, parent] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return { state: state as string, parent: Number(parent) }
  }, null)

export const isAlive = (pid: number): boolean => {
  const stat = statOf(pid)
  return stat !== null && stat.state !== 'Z'
}

/** Whether the process has the file of a result open that is still being made: it is in the middle of a step. */
const isAtWork = (pid: number): boolean =>
  ofLiving(
    () =>
      readdirSync(`/proc/${pid}/fd`).some(fd =>
        ofLiving(() => readlinkSync(`/proc/${pid}/fd/${fd}`), '').includes('/.making-'),
      ),
    false,
  )

/** The runner of a host that executes a step right now, or null. */
export const runnerAtWork = (host: number): number | null =>
  readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number)
    .find(pid => statOf(pid)?.parent === host && isAtWork(pid)) ?? null

/** SIGKILL. True when the process lived at that moment; it is gone when this resolves. */
export const killNow = async (pid: number): Promise<boolean> => {
  if (!isAlive(pid)) return false
  ofLiving(() => process.kill(pid, 'SIGKILL'), false)
  if (!(await soon(() => !isAlive(pid), GONE_MS))) throw new Error(`the process ${pid} outlived its SIGKILL`)
  return true
}

/**
 * Waits until a runner of the host executes a step, lets `after` milliseconds pass, and kills it if it still does. False when
 * it had finished by then, or none came within `within`: nothing was killed.
 */
export const killRunnerAtWork = async (host: number, after: number, within = 20_000): Promise<boolean> => {
  let pid: number | null = null
  const found = await soon(() => {
    pid = runnerAtWork(host)
    return pid !== null
  }, within)
  if (!found || pid === null) return false
  await delay(after)
  return isAtWork(pid) && (await killNow(pid))
}

/** Counts what was really killed, in which phase. */
export class KillBook {
  readonly #counts = new Map<string, number>()

  add(phase: string, victim: string): void {
    const key = `${victim} in ${phase}`
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1)
  }

  of(victim: string): number {
    let sum = 0
    for (const [key, count] of this.#counts) if (key.startsWith(`${victim} in `)) sum += count
    return sum
  }

  get table(): Record<string, number> {
    return Object.fromEntries([...this.#counts].toSorted(([a], [b]) => a.localeCompare(b)))
  }
}
