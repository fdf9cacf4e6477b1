// `npm run check`: formatting and lint, types (cached by turbo for each package), the arrows between packages. Runs all, fails on any.
import { join, resolve } from 'node:path'
import { run } from './run.ts'

const root = resolve(import.meta.dirname, '..')
const bin = (name: string) => join(root, 'node_modules', '.bin', name)

const steps: readonly (readonly [string, readonly [string, ...string[]]])[] = [
  ['formatting and lint', [bin('biome'), 'check', '--diagnostic-level=error', '.']],
  [
    'types',
    [bin('turbo'), 'run', 'typecheck', '--continue', '--concurrency=100%', '--output-logs=errors-only'],
  ],
  ['imports', [process.execPath, join(root, 'scripts', 'check-imports.ts')]],
]

const failed: string[] = []
for (const [name, command] of steps) {
  if ((await run(command, { cwd: root })) !== 0) failed.push(name)
}
if (failed.length > 0) console.error(`check failed: ${failed.join(', ')}`)
process.exitCode = failed.length === 0 ? 0 : 1
