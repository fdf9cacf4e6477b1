import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Plan, plan } from '../../src/plan/plan-types.ts'
import { DEFAULT_SETTINGS, executePlan, type RunEvent, type RunParts } from '../../src/run/index.ts'
import { RunnerPool } from '../../src/runner/index.ts'
import { Warehouse } from '../../src/warehouse/index.ts'

/** A data folder with one CSV of orders, a pool and a warehouse; `close` removes it all. */
export function dataFolder() {
  const folder = mkdtempSync(join(tmpdir(), 'run-'))
  mkdirSync(join(folder, 'files'))
  const orders = join(folder, 'files', 'orders.csv')
  writeFileSync(orders, 'id,region,amount\n1,north,10\n2,south,20\n3,north,30\n4,,40\n')
  const pool = new RunnerPool({ tempRoot: join(folder, 'tmp') })
  const warehouse = new Warehouse(folder)
  const events: RunEvent[] = []
  const parts: RunParts = {
    warehouse,
    pool,
    privateDir: join(folder, 'private'),
    settings: { ...DEFAULT_SETTINGS, limits: { ...DEFAULT_SETTINGS.limits, memory_bytes: 2 ** 30 } },
    onEvent: event => events.push(event),
    clock: Date,
  }
  return {
    folder,
    orders,
    pool,
    warehouse,
    events,
    parts,
    run: (given: Plan, more: Partial<RunParts> = {}) => executePlan(given, { ...parts, ...more }),
    close: async () => {
      await pool.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

interface Step {
  readonly sql: string
  readonly needs?: readonly string[]
  readonly [key: string]: unknown
}

/** A plan from a few steps; a step's fingerprint is made of its name and `tag`. */
export function planOf(
  folder: ReturnType<typeof dataFolder>,
  tag: string,
  steps: Record<string, Step>,
  more: Partial<Plan> = {},
): Plan {
  return plan.parse({
    run_id: `run-${tag}`,
    workspace_id: 'w1',
    pipeline_id: 'p1',
    pipeline_name: 'weekly',
    sources: [{ name: 'orders', kind: 'csv', paths: [folder.orders] }],
    steps: Object.entries(steps).map(([name, { needs, ...step }]) => ({
      step_id: `id-${name}`,
      name,
      materialize: 'table',
      fingerprint: `${name}-${tag}-0000`,
      depends_on: needs ?? [],
      reuse: false,
      ...step,
    })),
    ...more,
  })
}
