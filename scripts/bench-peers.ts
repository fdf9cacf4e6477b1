// `npm run bench:peers`: the same workloads on other sync engines and on ours, side by side. Slow, and needs the network: the peers
// are installed outside the lockfile, into the temporary folder, in the versions below.
//   -- --full        the whole of both workloads, medians of 5; else a tenth, medians of 3
//   -- NAME…         only these peers
import { spawn } from 'node:child_process'
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { parseFigure } from './bench/figures.ts'

const VERSIONS = {
  '@automerge/automerge': '3.5.0',
  '@automerge/automerge-repo': '2.5.6',
  '@automerge/automerge-repo-network-websocket': '2.5.6',
  '@automerge/automerge-repo-storage-nodefs': '2.5.6',
  ws: '8.23.0',
  'y-leveldb': '0.2.0',
  'y-websocket': '2.1.0',
  yjs: '13.6.33',
}
const PEERS = ['automerge-repo', 'y-websocket']
const measured = z.object({
  peer: z.string(),
  workload: z.string(),
  seconds: z.number(),
  bytes: z.number(),
  server_cpu: z.number().nullable(),
})
type Measured = z.infer<typeof measured>

const root = resolve(import.meta.dirname, '..')
const { values, positionals } = parseArgs({
  options: { full: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const unknown = positionals.filter(name => !PEERS.includes(name))
if (unknown.length > 0) throw new Error(`no such peer: ${unknown.join(', ')}; there are ${PEERS.join(', ')}`)
const sizes = values.full ? ['1000', '259778', '5'] : ['1000', '26000', '3']

const folder = join(tmpdir(), 'pluto-duck-peers')
mkdirSync(folder, { recursive: true })
writeFileSync(
  join(folder, 'package.json'),
  JSON.stringify({ private: true, type: 'module', dependencies: VERSIONS }, null, 2),
)
console.log(`installing the peers into ${folder} …`)
await run('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error'], folder, console.log)
cpSync(join(root, 'sync-server/bench/peers'), folder, { recursive: true })

const results: Measured[] = []
for (const peer of positionals.length > 0 ? positionals : PEERS) {
  console.log(`${peer} …`)
  await run(process.execPath, [join(folder, 'measure.mjs'), peer, ...sizes], folder, line => {
    results.push(measured.parse(JSON.parse(line)))
  })
}
console.log('ours …')
const ours = new Map<string, number>()
const bench = [join(root, 'scripts/bench.ts'), '--json', 'w1.bench', 'w2.bench']
await run(process.execPath, values.full ? [...bench, '--full'] : bench, root, line => {
  const figure = parseFigure(line)
  if (figure) ours.set(figure.name, figure.value)
})
const own = (workload: string, seconds: number, bytes: number, cpu: string): Measured => ({
  peer: 'pluto-duck',
  workload,
  seconds,
  bytes,
  server_cpu: ours.get(cpu) ?? null,
})
const of = (name: string): number => ours.get(name) ?? Number.NaN
results.push(
  own('w1', of('w1_1000_seconds'), of('w1_1000_bytes') * 1e6, 'w1_1000_server_cpu'),
  own('w2', of('w2_editable') / 1000, of('w2_bytes') * 1e3, ''),
)

console.log(`\n${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, load ${loadavg()[0]!.toFixed(1)}`)
console.log(`w1: 1,000 small documents to a new device; w2: a text of ${sizes[1]} keystrokes, editable\n`)
for (const workload of ['w1', 'w2']) {
  const mine = results.findLast(one => one.workload === workload)!
  for (const one of results.filter(result => result.workload === workload))
    console.log(
      [
        workload,
        one.peer.padEnd(16),
        `${one.seconds.toFixed(2)} s`.padStart(10),
        `${(one.bytes / 1e3).toFixed(0)} KB`.padStart(10),
        one.server_cpu === null ? ''.padStart(16) : `server ${one.server_cpu.toFixed(2)} s`.padStart(16),
        `${(one.seconds / mine.seconds).toFixed(1)} x our time`.padStart(18),
        `${(one.bytes / mine.bytes).toFixed(1)} x our bytes`.padStart(18),
      ].join('  '),
    )
}

/** Runs a program to its end, line by line; throws unless it ends with 0. */
async function run(
  program: string,
  args: string[],
  cwd: string,
  heard: (line: string) => void,
): Promise<void> {
  const child = spawn(program, args, {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: {
      ...process.env,
      PLUTO_WORKLOADS: pathToFileURL(join(root, 'sync-server/bench/harness/workloads.ts')).href,
    },
  })
  const ended = new Promise<number>((done, fail) => {
    child.once('error', fail)
    child.once('close', code => done(code ?? 1))
  })
  for await (const line of createInterface({ input: child.stdout })) heard(line)
  const code = await ended
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${code}`)
}
