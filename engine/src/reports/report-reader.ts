import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { type Plan, testLabel } from '../plan/index.ts'
import type { RunOutcome } from '../run/index.ts'
import type { Limits, RunnerPool } from '../runner/index.ts'
import { sqlType, type Warehouse } from '../warehouse/index.ts'
import type { ReportReader, ReportStep } from './report-types.ts'

export interface ReaderInput {
  readonly plan: Plan
  readonly outcome: RunOutcome
  readonly warehouse: Warehouse
  readonly pool: RunnerPool
  readonly limits: Limits
  /** For one query. Default 60 s. */
  readonly timeoutMs?: number
  /** Aborting ends what is being read, as `run.cancelled`. Default: none. */
  readonly signal?: AbortSignal
}

/** Reads the results of one run, in a sandbox that may open exactly these. Call `close` when done. */
export async function openReportReader(
  input: ReaderInput,
): Promise<ReportReader & { close(): Promise<void> }> {
  const { plan, outcome, warehouse, pool, limits, timeoutMs = 60_000, signal } = input
  const runner = pool.take()
  const params = plan.params
  try {
    const results = plan.steps.filter(step => step.materialize === 'table')
    const allowed_paths = [
      ...results.map(step => warehouse.resultPath(plan.workspace_id, step.fingerprint)),
      ...plan.sources.flatMap(source => source.paths),
    ]
    await runner.configure({ limits, connections: 1, allowed_paths }, { signal })
    for (const source of plan.sources) await runner.defineSource(source, { signal })
    for (const step of plan.steps) {
      const made = outcome.steps.find(({ step_id }) => step_id === step.step_id)
      if (made?.state !== 'done' && made?.state !== 'reused') continue
      if (step.materialize === 'view')
        await runner.defineView({ name: step.name, sql: step.sql, params }, { signal })
      else {
        const path = warehouse.resultPath(plan.workspace_id, step.fingerprint)
        const ask = { schema: null, name: step.name, path, columns: [...made.columns] }
        await runner.defineResult(ask, { signal })
      }
    }
  } catch (error) {
    await runner.kill()
    throw error
  }
  return {
    async query(sql, limit) {
      const page = await runner.query({ sql, params, offset: 0, limit }, { timeoutMs, signal })
      const columns = page.columns.map(column => ({ name: column.name, type: sqlType(column.type) }))
      return { columns, rows: page.rows, more: page.more }
    },
    close: () => runner.kill(),
  }
}

/** What a run did, as its report tells it. */
export function reportSteps(definition: PipelineDefinition, outcome: RunOutcome): ReportStep[] {
  return outcome.steps.map(step => {
    const tests = definition.steps.find(({ id }) => id === step.step_id)?.tests ?? []
    return {
      name: step.name,
      state: step.state === 'done' ? 'built' : step.state,
      rows: step.rows,
      duration_ms: step.state === 'reused' ? null : step.duration_ms,
      tests: step.tests.map(test => {
        const definitionOf = tests.find(({ id }) => id === test.test_id)
        return {
          label: definitionOf ? testLabel(definitionOf) : test.type,
          severity: test.severity,
          passed: test.state === 'passed',
          failing_rows: test.failing_rows,
        }
      }),
    }
  })
}
