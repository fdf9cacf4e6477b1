// `npm run bench`: every package's bench/*.bench.ts, one after another, each in a process of its own.
//   -- --json        one JSON line for each figure, nothing else on standard output
//   -- --full        larger sizes
//   -- NAME…         only files whose path contains one of the names
import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { type Figure, formatTable, parseFigure } from './bench/figures.ts'

const root = resolve(process.env.PLUTO_BENCH_ROOT ?? join(import.meta.dirname, '..'))
const { values, positionals } = parseArgs({
  options: { json: { type: 'boolean', default: false }, full: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const files = globSync('*/bench/*.bench.ts', { cwd: root })
  .filter(file => !file.startsWith('node_modules'))
  .filter(file => positionals.length === 0 || positionals.some(name => file.includes(name)))
  .sort()

const figures: Figure[] = []
const crashed: string[] = []
for (const file of files) {
  const started = performance.now()
  if (!values.json) console.log(`${file} …`)
  const code = await measure(file)
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  if (code === 0) {
    if (!values.json) console.log(`${file} took ${seconds} s`)
  } else {
    crashed.push(file)
    console.error(`${file} failed with exit code ${code} after ${seconds} s`)
  }
}
if (!values.json) console.log(`\n${formatTable(figures)}`)
if (files.length === 0) console.error('no benchmark has such a name')
process.exitCode = crashed.length === 0 && files.length > 0 ? 0 : 1

/** Runs one file; takes its figures from the JSON lines that it prints, and shows everything else it says. */
async function measure(file: string): Promise<number> {
  const child = spawn(
    process.execPath,
    ['--expose-gc', join(root, file), ...(values.full ? ['--full'] : [])],
    {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  )
  const closed = new Promise<number>((done, reject) => {
    child.once('error', reject)
    child.once('close', code => done(code ?? 1))
  })
  for await (const line of createInterface({ input: child.stdout })) {
    const found = parseFigure(line)
    if (found !== undefined) {
      figures.push(found)
      if (values.json) console.log(JSON.stringify(found))
    } else if (line !== '') console.error(line)
  }
  return await closed
}
