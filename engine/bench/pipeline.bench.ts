// A10: ten steps over 6 M rows as a run of the engine, against the same SQL as CREATE TABLE AS in a bare DuckDB connection.
// Rounds are interleaved; each figure is a median. The memory is the peak of the process that executes the SQL.
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { plan } from '../src/plan/plan-types.ts'
import { DEFAULT_SETTINGS, executePlan } from '../src/run/index.ts'
import { type Runner, RunnerPool } from '../src/runner/index.ts'
import { Warehouse } from '../src/warehouse/index.ts'
import { MEMORY_BYTES, peakOf, STEPS, THREADS } from './pipeline/steps.ts'

const FLOOR = join(import.meta.dirname, 'pipeline', 'floor.ts')
const full = process.argv.includes('--full')
const ROWS = full ? 24_000_000 : 6_000_000
const ROUNDS = 3
const PARALLEL = Number(process.env.BENCH_PARALLEL ?? DEFAULT_SETTINGS.parallel)

const folder = mkdtempSync(join(tmpdir(), 'bench-pipeline-'))
const source = join(folder, 'orders.parquet')
const run = promisify(execFile)
const node = (...args: string[]) => run(process.execPath, [FLOOR, ...args])

interface Round {
  readonly ms: number
  readonly bytes: number
}

async function bare(round: number): Promise<Round> {
  const database = join(folder, `floor-${round}.duckdb`)
  const { stdout } = await node(database, source)
  rmSync(database, { force: true })
  return JSON.parse(stdout) as Round
}

async function ours(round: number): Promise<Round> {
  const data = join(folder, `data-${round}`)
  const pool = new WatchedPool({ tempRoot: join(data, 'tmp') })
  pool.warm()
  await pool.spareReady()
  const given = plan.parse({
    run_id: `r${round}`,
    workspace_id: 'w',
    pipeline_id: 'p',
    pipeline_name: 'bench',
    sources: [{ name: 'orders', kind: 'parquet', paths: [source] }],
    steps: STEPS.map(({ name, needs, sql }) => ({
      step_id: name,
      name,
      sql,
      materialize: 'table',
      fingerprint: `${name}-00000000`,
      depends_on: needs,
      reuse: false,
    })),
  })
  let bytes = 0
  const started = performance.now()
  const outcome = await executePlan(given, {
    warehouse: new Warehouse(data),
    pool,
    privateDir: join(data, 'private'),
    settings: {
      ...DEFAULT_SETTINGS,
      parallel: PARALLEL,
      limits: { memory_bytes: MEMORY_BYTES, threads: THREADS, temp_bytes: 20 * 2 ** 30 },
    },
    clock: Date,
    onEvent: event => {
      if (event.type !== 'run' || event.state === 'running') return
      bytes = peakOf(readFileSync(`/proc/${pool.last?.pid}/status`, 'utf8')) ?? 0
    },
  })
  const ms = performance.now() - started
  if (outcome.state !== 'success') throw new Error(JSON.stringify(outcome.error))
  console.error(
    outcome.steps.map(s => `${s.name} ${s.duration_ms} ${((s.bytes ?? 0) / 1e6).toFixed(0)}MB`).join('; '),
  )
  await pool.close()
  rmSync(data, { recursive: true, force: true })
  return { ms, bytes }
}

/** Knows the runner that it gave last, whose memory is measured. */
class WatchedPool extends RunnerPool {
  last: Runner | null = null
  override take(): Runner {
    this.last = super.take()
    return this.last
  }
  /** A spare starts in its own time; a bench waits for it, as a person's second run would not have to. */
  async spareReady(): Promise<void> {
    await new Promise(resolve => setTimeout(resolve, 1500))
  }
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0

const figure = (name: string, unit: string, value: number, floor: number, goal: number) => {
  const ratio = value / floor
  const round = (n: number) => Math.round(n * 1000) / 1000
  console.log(
    JSON.stringify({
      name,
      value: round(value),
      unit,
      floor: round(floor),
      ratio: round(ratio),
      goal,
      met: ratio <= goal,
    }),
  )
}

try {
  await node('--make', source, String(ROWS))
  const floors: Round[] = []
  const values: Round[] = []
  for (let round = 0; round < ROUNDS; round++) {
    floors.push(await bare(round))
    values.push(await ours(round))
  }
  const of = (rounds: readonly Round[], key: keyof Round, by: number) =>
    median(rounds.map(round => round[key])) / by
  const size = `${ROWS / 1e6} M rows, ${STEPS.length} steps`
  figure(`pipeline run time (${size})`, 's', of(values, 'ms', 1000), of(floors, 'ms', 1000), 1)
  figure(`pipeline peak memory (${size})`, 'MB', of(values, 'bytes', 1e6), of(floors, 'bytes', 1e6), 1.25)
} finally {
  rmSync(folder, { recursive: true, force: true })
}
