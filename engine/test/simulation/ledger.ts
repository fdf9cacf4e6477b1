import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { z } from 'zod'

const entry = z.object({
  /** Seeds that passed. */
  passed: z.number().int(),
  failed: z.array(z.number().int()),
  /** The seed after the last one. */
  next: z.number().int(),
  minutes: z.number(),
})
const ledger = z.record(z.string(), entry)
export type LedgerEntry = z.infer<typeof entry>

const FILE = join(import.meta.dirname, '..', '..', '..', '.cache', 'simulation.json')

/** How many seeds passed at which version of the code. Not in git: each machine adds up its own. */
export function readLedger(): Record<string, LedgerEntry> {
  try {
    return ledger.parse(JSON.parse(readFileSync(FILE, 'utf8')))
  } catch {
    // None yet, or of an older form: it only counts.
    return {}
  }
}

export function addToLedger(version: string, run: LedgerEntry): LedgerEntry {
  const all = readLedger()
  const before = all[version] ?? { passed: 0, failed: [], next: 1, minutes: 0 }
  const now = {
    passed: before.passed + run.passed,
    failed: [...new Set([...before.failed, ...run.failed])],
    next: Math.max(before.next, run.next),
    minutes: before.minutes + run.minutes,
  }
  mkdirSync(dirname(FILE), { recursive: true })
  writeFileSync(FILE, `${JSON.stringify({ ...all, [version]: now }, null, 2)}\n`)
  return now
}

/** The commit, marked when files differ from it. */
export function codeVersion(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=10'], {
      encoding: 'utf8',
      cwd: import.meta.dirname,
    }).trim()
  } catch {
    // A copy without git.
    return 'unknown'
  }
}
