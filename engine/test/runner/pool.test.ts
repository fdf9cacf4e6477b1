import { execFileSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { RunnerPool } from '../../src/runner/index.ts'

// A rejection or an exception that nobody hears fails these tests by itself.

let folder: string
let tempRoot: string
let pool: RunnerPool
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pluto-pool-'))
  tempRoot = join(folder, 'tmp')
  pool = new RunnerPool({ tempRoot })
})
afterEach(async () => {
  await pool.close()
  rmSync(folder, { recursive: true, force: true })
})

const settled = () => new Promise(resolve => setImmediate(resolve))

it('[RUN19] a pool without room for a spare has none, and goes on when there is room', async () => {
  const runner = pool.take()
  await runner.ready
  // A runner that is ready keeps its compiled code there, and may just be making the folder for it.
  await vi.waitFor(() => {
    rmSync(tempRoot, { recursive: true, force: true })
    writeFileSync(tempRoot, 'no folder')
  }, 20_000)
  await runner.kill()
  await settled()
  expect(() => pool.take()).toThrow()
  rmSync(tempRoot)
  const next = pool.take()
  await next.ready
  await next.kill()
})

it('[RUN19] a runner whose temporary folder cannot be removed is gone all the same', async context => {
  const runner = pool.take()
  await runner.ready
  const temp = join(tempRoot, readdirSync(tempRoot).find(name => name.startsWith('runner-'))!)
  if (!mountOver(temp)) context.skip('it needs to mount a file system, as root on Linux')
  try {
    await runner.kill()
    await settled()
  } finally {
    execFileSync('umount', ['--lazy', temp])
  }
  expect(runner.alive).toBe(false)
})

/** A folder that is mounted over cannot be removed. False where it cannot be mounted. */
function mountOver(path: string): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', path], { stdio: 'pipe' })
    return true
  } catch {
    // Not allowed in this container.
    return false
  }
}
