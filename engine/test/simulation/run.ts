// `npm run test:sim`: simulations for 20 minutes on all cores, or one seed again. See SPEC.md.
import { fork } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { createDatabase, startPostgres } from '@pluto-duck/test-fixtures/services'
import { addToLedger, codeVersion, readLedger } from './ledger.ts'
import { planOf } from './plan.ts'
import type { Result } from './simulate.ts'

const HELP = `Simulations of devices and servers under faults (engine/test/simulation/SPEC.md).

  npm run test:sim                         20 minutes, from where the last run of this commit ended
  npm run test:sim -- --from 1 --minutes 5
  npm run test:sim -- --seed 42            one seed, with its trace
  npm run test:sim -- --seed 42 --times 20 the same one again and again, until it fails

  --from SEED     the first seed
  --minutes N     how long (default 20)
  --count N       at most so many seeds
  --purges        only seeds that purge: one of four
  --workers N     processes (default: one for each core)
  --json          one line of JSON for each seed that failed, and one at the end`

const { values } = parseArgs({
  options: {
    from: { type: 'string' },
    minutes: { type: 'string', default: '20' },
    count: { type: 'string' },
    workers: { type: 'string' },
    purges: { type: 'boolean', default: false },
    seed: { type: 'string' },
    times: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) {
  console.log(HELP)
  process.exit(0)
}

const wholeNumber = (name: string, text: string): number => {
  const number = Number(text)
  if (Number.isSafeInteger(number) && number >= 0) return number
  console.error(`--${name} takes a whole number, not ${JSON.stringify(text)}.`)
  process.exit(2)
}
const one = values.seed === undefined ? null : wholeNumber('seed', values.seed)
const version = codeVersion()
const from = one ?? (values.from ? wholeNumber('from', values.from) : (readLedger()[version]?.next ?? 1))
const count =
  one !== null ? wholeNumber('times', values.times) : Number(values.count ?? Number.POSITIVE_INFINITY)
const end = performance.now() + (one === null ? Number(values.minutes) : 60) * 60_000
/** Simulations that a process runs at once: one that is tried again has it for itself. */
const LANES = one === null ? 2 : 1
const workers = one === null ? wholeNumber('workers', values.workers ?? String(availableParallelism())) : 1

const postgres = await startPostgres({ durable: false })
const started = performance.now()
let given = 0
let passedOver = 0
let passed = 0
let changes = 0
let purges = 0
const failed: number[] = []

await Promise.all(Array.from({ length: Math.max(1, workers) }, work))
await postgres.stop()

const minutes = (performance.now() - started) / 60_000
if (one === null) {
  const all = addToLedger(version, { passed, failed, next: from + given + passedOver, minutes })
  if (values.json)
    console.log(
      JSON.stringify({ version, from, seeds: given, passed, failed, minutes, changes, purges, all }),
    )
  else {
    console.log(
      `${passed} of ${given} seeds passed in ${minutes.toFixed(1)} min (${changes} changes, ${purges} purges), from ${from}`,
    )
    console.log(
      `${version}: ${all.passed} seeds passed in all, ${all.failed.length} failed; next ${all.next}`,
    )
    const total = Object.values(readLedger()).reduce((sum, entry) => sum + entry.passed, 0)
    console.log(`all versions on this machine: ${total} seeds passed`)
  }
}
if (failed.length > 0) {
  console.log(`failed: ${failed.join(', ')}; again with npm run test:sim -- --seed ${failed[0]} --times 20`)
  process.exitCode = 1
}

/** One process with its own servers and databases; seeds are given to it one by one. A process that ends early failed its seeds. */
async function work(): Promise<void> {
  while (given < count && performance.now() < end) {
    const databases = await Promise.all(Array.from({ length: LANES }, () => createDatabase(postgres.url)))
    const child = fork(
      new URL('./worker.ts', import.meta.url),
      databases.map(database => database.url),
      { stdio: ['ignore', 'inherit', 'pipe', 'ipc'], env: { ...process.env, PLUTO_SIM_LOG: 'error' } },
    )
    let said = ''
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-8_000)
    })
    const seeds = new Set<number>()
    const next = (): void => {
      if (given >= count || performance.now() > end) {
        if (seeds.size === 0) child.send({ end: true })
        return
      }
      while (one === null && values.purges && !planOf(from + given + passedOver).purges) passedOver++
      const seed = one ?? from + given + passedOver
      seeds.add(seed)
      given++
      child.send({ seed })
    }
    child.on('message', (message: 'ready' | Result) => {
      if (message !== 'ready') {
        seeds.delete(message.seed)
        tell(message, said)
      }
      said = ''
      next()
    })
    const how = await new Promise<string>(resolve =>
      child.once('close', (code, signal) => resolve(signal ?? `code ${code}`)),
    )
    for (const seed of seeds)
      tell({ seed, failure: `the process ended by ${how}: ${said}`, trace: '', changes: 0, purges: 0 })
    await Promise.all(databases.map(database => database.drop()))
  }
}

function tell(result: Result, said = ''): void {
  changes += result.changes
  purges += result.purges
  if (result.failure === null) {
    passed++
    if (one !== null)
      console.log(`${result.seed} passed, ${result.changes} changes\n${count === 1 ? result.trace : ''}`)
    else if (!values.json && passed % 50 === 0) console.log(`${passed} passed, ${failed.length} failed`)
    return
  }
  failed.push(result.seed)
  if (values.json) console.log(JSON.stringify({ seed: result.seed, failure: result.failure }))
  else console.log(`${internal(said)}seed ${result.seed} FAILED\n${result.failure}\n${result.trace}\n`)
  if (one !== null) given = count
}

/** What servers logged of errors that are not their callers' business. */
function internal(log: string): string {
  const lines = log.split('\n').filter(line => line.includes('"code":"internal"'))
  return lines.map(line => `${line}\n`).join('')
}
