import { readdirSync, readFileSync } from 'node:fs'

/** What a process has used, as Linux tells it in /proc. All answer NaN where there is no /proc, or the process is gone. */

const TICKS_PER_SECOND = 100

/** Fields of /proc/<pid>/stat behind the program's name: state is 0, the parent 1. */
const statOf = (pid: number): string[] => {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return text.slice(text.lastIndexOf(')') + 2).split(' ')
}

const seconds = (...ticks: (string | undefined)[]): number =>
  ticks.reduce((sum, one) => sum + Number(one), 0) / TICKS_PER_SECOND

/** Seconds of CPU (user and system, all threads) since the process began. */
export function cpuSeconds(pid: number): number {
  try {
    const stat = statOf(pid)
    return seconds(stat[11], stat[12])
  } catch {
    return Number.NaN
  }
}

/** The same of a process, its children and those of its children that have ended. For Postgres: its first process. */
export function familyCpuSeconds(pid: number): number {
  try {
    const stat = statOf(pid)
    let sum = seconds(stat[11], stat[12], stat[13], stat[14])
    for (const name of readdirSync('/proc')) {
      if (!/^\d+$/.test(name)) continue
      try {
        const child = statOf(Number(name))
        if (Number(child[1]) === pid) sum += seconds(child[11], child[12])
      } catch {
        // It ended meanwhile, and is counted by its parent.
      }
    }
    return sum
  } catch {
    return Number.NaN
  }
}

/** The parent's pid. */
export const parentOf = (pid: number): number => Number(statOf(pid)[1])

/** Megabytes in memory now, and the most that there ever were. */
export function memoryMb(pid: number): { now: number; peak: number } {
  try {
    const text = readFileSync(`/proc/${pid}/status`, 'utf8')
    const of = (name: string): number => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(text)?.[1]) / 1024
    return { now: of('VmRSS'), peak: of('VmHWM') }
  } catch {
    return { now: Number.NaN, peak: Number.NaN }
  }
}

/** Milliseconds on a clock that all processes of this machine share. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6
