// `npm test`: builds what the browser tests need, runs every project under one keychain of its own,
// names what this machine made it leave out, and ends with the line `N passed, N failed`.
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { leftOutVariable, underKeychain } from '@pluto-duck/test-fixtures/services'
import { z } from 'zod'
import { run } from './run.ts'

/** The counts of vitest's JSON report that matter here. */
const report = z.object({
  numPassedTests: z.number(),
  numFailedTests: z.number(),
  testResults: z.array(
    z.object({ name: z.string(), status: z.string(), assertionResults: z.array(z.unknown()) }),
  ),
})

const root = resolve(import.meta.dirname, '..')
const bin = join(root, 'node_modules', '.bin')
const state = await mkdtemp(join(tmpdir(), 'pluto-test-'))
const reportFile = join(state, 'report.json')
const leftOutFile = join(state, 'left-out.txt')

let failed = Number(process.env.PLUTO_FAILED_BEFORE ?? 0)
let passed = 0
let appBuilt = false
try {
  if (existsSync(join(root, 'desktop', 'vite.config.ts'))) {
    const built = await run(
      [join(bin, 'turbo'), 'run', 'build', '--filter=@pluto-duck/desktop', '--output-logs=errors-only'],
      { cwd: root },
    )
    appBuilt = built === 0
    if (!appBuilt) failed++
  }
  const exitCode = await runTests(process.argv.slice(2))
  const counted = await readReport()
  passed = counted.passed
  failed += counted.failed
  // An error outside any test, or a crash before the report was written.
  if (exitCode !== 0 && failed === 0) failed = 1
  await printLeftOut()
} finally {
  await rm(state, { recursive: true, force: true })
}
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1

async function runTests(extra: string[]): Promise<number> {
  const vitest = [process.execPath, join(root, 'node_modules', 'vitest', 'vitest.mjs'), 'run'] as const
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${reportFile}`]
  const command = [...vitest, ...reporters, '--passWithNoTests', ...extra] as const
  const wrapped = underKeychain(join(state, 'keychain'), command)
  return await run('missing' in wrapped ? command : wrapped.command, {
    cwd: root,
    env: {
      [leftOutVariable]: leftOutFile,
      // The programs that tests start are compiled once, not each time.
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE ?? join(root, 'node_modules', '.cache', 'compile'),
      ...(appBuilt ? { PLUTO_TEST_BUILT: 'yes' } : {}),
    },
  })
}

async function readReport(): Promise<{ passed: number; failed: number }> {
  if (!existsSync(reportFile)) return { passed: 0, failed: 1 }
  const { numPassedTests, numFailedTests, testResults } = report.parse(
    JSON.parse(await readFile(reportFile, 'utf8')),
  )
  // A file that could not even be loaded has no test to count.
  const broken = testResults.filter(file => file.status === 'failed' && file.assertionResults.length === 0)
  for (const file of broken) console.log(`could not run ${file.name}`)
  return { passed: numPassedTests, failed: numFailedTests + broken.length }
}

async function printLeftOut(): Promise<void> {
  if (!existsSync(leftOutFile)) return
  const reasons = new Map<string, number>()
  for (const line of (await readFile(leftOutFile, 'utf8')).trim().split('\n')) {
    reasons.set(line, (reasons.get(line) ?? 0) + 1)
  }
  for (const [reason, times] of reasons)
    console.log(`left out ${times} ${times === 1 ? 'group' : 'groups'} of tests, ${reason}`)
}
