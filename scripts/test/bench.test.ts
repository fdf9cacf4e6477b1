import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'

const script = resolve(import.meta.dirname, '../bench.ts')
const root = mkdtempSync(join(tmpdir(), 'pluto-bench-'))
afterEach(() => rmSync(root, { recursive: true, force: true }))

const slow = { name: 'slow', value: 30, unit: 'ms', floor: 10, ratio: 3, goal: 1, met: false }
const fast = {
  name: 'fast',
  value: 900,
  unit: 'rows/s',
  floor: 1000,
  ratio: 0.9,
  goal: 0.1,
  met: true,
  better: 'higher',
}

function bench(files: Record<string, string>, ...args: string[]) {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(root, name, '..'), { recursive: true })
    writeFileSync(join(root, name), text)
  }
  return spawnSync(process.execPath, [script, ...args], {
    encoding: 'utf8',
    env: { ...process.env, PLUTO_BENCH_ROOT: root },
  })
}
const prints = (value: unknown) => `console.log(${JSON.stringify(JSON.stringify(value))})`

describe('npm run bench', () => {
  it('[BENCH2] a missed goal is shown and fails nothing', () => {
    const result = bench({ 'engine/bench/slow.bench.ts': prints(slow) })
    expect(result.status).toBe(0)
    expect(result.stdout).toMatch(/slow +30 ms +10 ms +3\.00 +<= 1 +missed/)
  })

  it('[BENCH1] prints nothing but JSON lines with --json, in the order of the files, and only what is asked for', () => {
    const files = { 'a/bench/fast.bench.ts': prints(fast), 'b/bench/slow.bench.ts': prints(slow) }
    const lines = (...args: string[]) =>
      bench(files, '--json', ...args)
        .stdout.trim()
        .split('\n')
        .map(line => JSON.parse(line) as unknown)
    expect(lines()).toEqual([fast, { ...slow, better: 'lower' }])
    expect(lines('slow')).toEqual([{ ...slow, better: 'lower' }])
  })

  it('[BENCH2] a crash is named, and the others still run', () => {
    const result = bench({
      'a/bench/broken.bench.ts': 'process.exit(7)',
      'b/bench/slow.bench.ts': prints(slow),
    })
    expect(result.status).toBe(1)
    expect(result.stderr).toContain('a/bench/broken.bench.ts failed with exit code 7')
    expect(result.stdout).toContain('missed')
  })
})
