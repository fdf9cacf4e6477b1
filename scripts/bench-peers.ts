// `npm run bench:peers`: the same workloads on other sync engines and on ours, side by side. Slow, and needs the network: the peers
// are installed outside the lockfile, into the temporary folder, in the versions of sync-server/bench/peers/versions.json.
//   -- --full        the sizes of the issue, medians of 5; else smaller, medians of 3 (of 1 where a round takes long)
//   -- --table       measures nothing: prints what was measured before
//   -- NAME…         only these engines (`pluto-duck` is ours) and these workloads (w1 to w6)
// What is measured is kept beside the peers, so that a table can be measured in parts.
import { spawn } from 'node:child_process'
import { appendFileSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, tmpdir, totalmem } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { parseFigure } from './bench/figures.ts'
import { type Case, casesOf, OURS, ourFigures, type PeerResult, tableOf, WORKLOADS } from './bench/peers.ts'

const root = resolve(import.meta.dirname, '..')
const drivers = join(root, 'sync-server/bench/peers')
const folder = join(tmpdir(), 'pluto-duck-peers')
const kept = join(folder, 'measured.jsonl')
const versions = z
  .record(z.string(), z.record(z.string(), z.string()))
  .parse(JSON.parse(readFileSync(join(drivers, 'versions.json'), 'utf8')))
const figures = z.record(z.string(), z.number().nullable())
const result = z.strictObject({
  engine: z.string(),
  of: z.string(),
  at: z.string(),
  load: z.number(),
  figures: figures.nullable(),
  failed: z.string().nullable(),
})

const { values, positionals } = parseArgs({
  options: { full: { type: 'boolean', default: false }, table: { type: 'boolean', default: false } },
  allowPositionals: true,
})
/** All rounds of one peer in one workload; a peer that takes longer is said to. */
const LIMIT_MS = values.full ? 900_000 : 280_000
/** How long one that is told to end may take for it. */
const GRACE_MS = 5_000
const engines = [OURS, ...Object.keys(versions)]
const unknown = positionals.filter(name => !engines.includes(name) && !WORKLOADS.includes(name))
if (unknown.length > 0)
  throw new Error(`no such name: ${unknown.join(', ')}; there are ${[...engines, ...WORKLOADS].join(', ')}`)
const chosen = (all: readonly string[]): readonly string[] => {
  const named = all.filter(name => positionals.includes(name))
  return named.length > 0 ? named : all
}
const cases = casesOf(values.full).filter(one => chosen(WORKLOADS).includes(one.workload))
mkdirSync(folder, { recursive: true })

if (!values.table) {
  for (const engine of chosen(engines)) {
    if (engine === OURS) await measureOurs()
    else await measurePeer(engine)
  }
}

const newest = new Map<string, PeerResult>()
for (const one of readKept()) newest.set(`${one.engine} ${one.of}`, one)
console.log(
  `\n${cpus().length} cores (${cpus()[0]?.model ?? 'unknown'}), ${(totalmem() / 2 ** 30).toFixed(1)} GB, Node ${process.version}`,
)
for (const [peer, packages] of Object.entries(versions))
  console.log(
    `${peer}: ${Object.entries(packages)
      .map(([name, version]) => `${name} ${version}`)
      .join(', ')}`,
  )
for (const one of cases) {
  const results = engines.flatMap(engine => newest.get(`${engine} ${one.name}`) ?? [])
  if (results.length === 0) continue
  const loads = results.map(each => each.load)
  const [first, last] = [
    results.map(each => each.at).sort()[0]!,
    results
      .map(each => each.at)
      .sort()
      .at(-1)!,
  ]
  console.log(
    `\n${tableOf(one, results)}\n  medians of ${one.sizes.rounds}; ${first.slice(0, 16)} to ${last.slice(0, 16)}, load ${Math.min(...loads).toFixed(1)} to ${Math.max(...loads).toFixed(1)}`,
  )
}

async function measureOurs(): Promise<void> {
  for (const workload of new Set(cases.map(one => one.workload))) {
    console.log(`${OURS}, ${workload} …`)
    const found = new Map<string, number>()
    const args = [join(root, 'scripts/bench.ts'), '--json', `${workload}.bench`]
    const ended = await run(process.execPath, values.full ? [...args, '--full'] : args, root, line => {
      const figure = parseFigure(line)
      if (figure) found.set(figure.name, figure.value)
    })
    for (const one of cases.filter(each => each.workload === workload)) {
      const taken = ourFigures(one, found)
      keep(OURS, one, taken, taken ? null : (ended ?? 'it printed no figure'))
    }
  }
}

async function measurePeer(engine: string): Promise<void> {
  const own = join(folder, engine)
  const failed = await install(engine, own)
  for (const one of cases) {
    if (failed !== null) {
      keep(engine, one, null, failed)
      continue
    }
    console.log(`${engine}, ${one.name} …`)
    let taken: PeerResult['figures'] = null
    const args = [join(own, 'measure.mjs'), engine, one.workload, JSON.stringify(one.sizes)]
    const take = (line: string): void => {
      if (line.startsWith('{"figures"')) taken = figures.parse(JSON.parse(line).figures)
    }
    const ended = await run(process.execPath, args, own, take, LIMIT_MS)
    keep(engine, one, taken, taken ? null : (ended ?? 'it printed no figure'))
  }
}

/** Null, or why it could not be installed. */
async function install(engine: string, own: string): Promise<string | null> {
  console.log(`installing ${engine} …`)
  mkdirSync(own, { recursive: true })
  const wanted = JSON.stringify({ private: true, type: 'module', dependencies: versions[engine] }, null, 2)
  writeFileSync(join(own, 'package.json'), wanted)
  cpSync(drivers, own, { recursive: true })
  let code: string | null = null
  const args = ['install', '--no-audit', '--no-fund', '--loglevel=error']
  const ended = await run('npm', args, own, line => {
    code ??= /^npm error code (\w+)/.exec(line)?.[1] ?? null
  })
  return ended === null ? null : `not installed (${code ?? ended})`
}

function keep(engine: string, of: Case, taken: PeerResult['figures'], failed: string | null): void {
  const load = loadavg()[0]!
  const one: PeerResult = { engine, of: of.name, at: new Date().toISOString(), load, figures: taken, failed }
  if (failed !== null) console.log(`${engine}, ${of.name}: ${failed}`)
  appendFileSync(kept, `${JSON.stringify(one)}\n`)
}

function readKept(): PeerResult[] {
  if (!existsSync(kept)) return []
  const lines = readFileSync(kept, 'utf8').split('\n').filter(Boolean)
  return lines.map(line => result.parse(JSON.parse(line)))
}

/** Runs a program to its end; `heard` gets the lines of both its outputs. Null when it ended with 0, else why not, without paths. */
function run(
  program: string,
  args: readonly string[],
  cwd: string,
  heard: (line: string) => void,
  limitMs?: number,
): Promise<string | null> {
  const env = {
    ...process.env,
    PLUTO_WORKLOADS: pathToFileURL(join(root, 'sync-server/bench/harness/workloads.ts')).href,
  }
  const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let said = ''
  let late = false
  let timer = limitMs === undefined ? undefined : setTimeout(stop, limitMs)
  function stop(): void {
    late = true
    child.kill()
    // One that is in the middle of a long computation does not hear it; what it started ends with it.
    timer = setTimeout(() => child.kill('SIGKILL'), GRACE_MS)
  }
  for (const stream of [child.stdout, child.stderr]) {
    let rest = ''
    stream.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n')
      rest = lines.pop()!
      for (const line of lines) {
        heard(line)
        if (/error/i.test(line)) said = line
      }
    })
  }
  return new Promise(done => {
    child.once('error', error => done(error.message))
    child.once('close', code => {
      clearTimeout(timer)
      const reason = said.replaceAll(/(?:file:\/\/)?(?:\/[\w.@+-]+){2,}/g, '…').trim()
      done(late ? `more than ${limitMs! / 1000} s` : code === 0 ? null : reason || `ended with ${code}`)
    })
  })
}
