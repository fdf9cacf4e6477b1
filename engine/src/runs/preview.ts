import { join } from 'node:path'
import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { assertNoErrors, type Problem, withUpstream } from '../compile/index.ts'
import type { ContractProblem, OutputOf, RowsPage } from '../contract/index.ts'
import { assertGranted } from '../grants/grants.ts'
import type { Plan } from '../plan/index.ts'
import { DEFAULT_SETTINGS, executePlan, Preview, type RunOutcome } from '../run/index.ts'
import { type Failure, type Queried, RunnerError, type RunnerPool } from '../runner/index.ts'
import { sqlType, type Warehouse } from '../warehouse/index.ts'
import { previewParts, relationsOf } from './carry-out.ts'
import type { Preparation, Prepared } from './preparation.ts'

type PreviewReply = OutputOf<'pipeline.preview'>

interface Parts {
  readonly preparation: Preparation
  readonly warehouse: Warehouse
  readonly pool: RunnerPool
  readonly dataFolder: string
  readonly clock: { now(): number }
}

const QUERY_MS = 120_000

/**
 * Rows of a step as it is written now. What it reads is taken from the warehouse where its fingerprint is there and made where it
 * is not; nothing that is current moves. What is wrong with the SQL, or goes wrong while it runs, is a value.
 */
export async function previewStep(
  prepared: Prepared,
  stepId: string,
  limit: number,
  parts: Parts,
  signal: AbortSignal,
): Promise<PreviewReply> {
  assertGranted(prepared.missing.filter(wanted => wanted.kind === 'read'))
  const { compiled, target } = prepared
  const step = stepOf(target.definition, stepId)
  const nodes = compiled.steps.map(one => ({ name: one.name, needs: one.depends_on }))
  const needed = withUpstream(nodes, [step.name])
  const problems = problemsFor(compiled.problems, needed, target.definition, compiled.steps)
  if (problems.some(problem => problem.severity === 'error')) return { state: 'problems', problems }
  const planned = await parts.preparation.plan(
    { ...prepared, missing: [] },
    { run_id: newId(), select: step.name, full: false, problems: [] },
  )
  const { plan } = planned
  const own = plan.steps.find(one => one.name === step.name)!
  const upstream = {
    ...plan,
    complete: false,
    steps: plan.steps.filter(one => needed.has(one.name) && one !== own),
  }
  const started = parts.clock.now()
  // A process less, when everything that it reads is there.
  const isThere = upstream.steps.every(one => one.materialize === 'view' || one.reuse)
  const outcome = isThere
    ? asItIs(upstream)
    : await executePlan(upstream, {
        warehouse: parts.warehouse,
        pool: parts.pool,
        privateDir: join(parts.dataFolder, 'private'),
        settings: { ...DEFAULT_SETTINGS, keep_failing_rows: 0 },
        onEvent: () => undefined,
        signal,
        clock: parts.clock,
        makeCurrent: false,
      })
  const failed = outcome.steps.find(one => one.error)
  if (failed?.error)
    return { state: 'problems', problems: [problemOf(failed.error, failed.step_id, failed.name)] }
  try {
    const session = await Preview.open(previewParts(parts), {
      workspace_id: plan.workspace_id,
      sources: plan.sources,
      relations: relationsOf(upstream, outcome),
      params: plan.params,
    })
    try {
      const found = await session.query(own.sql, { offset: 0, limit }, { signal, timeoutMs: QUERY_MS })
      const total = found.more ? null : found.rows.length
      return { state: 'rows', page: pageOf(found, 0, total, parts.clock.now() - started) }
    } finally {
      await session.close()
    }
  } catch (error) {
    if (!(error instanceof RunnerError) || error.failure.class === 'cancelled') throw error
    return { state: 'problems', problems: [problemOf(error.failure, stepId, step.name)] }
  }
}

export function stepOf(definition: PipelineDefinition, stepId: string): PipelineDefinition['steps'][number] {
  const step = definition.steps.find(one => one.id === stepId)
  if (!step) assertNoErrors([missingStep(stepId)])
  return step!
}

const missingStep = (stepId: string): Problem => ({
  code: 'reference.unknown',
  severity: 'error',
  file: 'pipeline.yaml',
  line: 1,
  column: 1,
  message: 'There is no such step in this pipeline.',
  hint: 'Open the pipeline again: somebody may have deleted it.',
  step_id: stepId,
})

const asItIs = (plan: Plan): Pick<RunOutcome, 'steps'> => ({
  steps: plan.steps.map(({ step_id, name, fingerprint }) => ({
    step_id,
    name,
    fingerprint,
    state: 'reused',
    attempts: 0,
    duration_ms: 0,
    columns: [],
    rows: null,
    bytes: null,
    tests: [],
  })),
})

/** Problems of the steps that are needed, and of what belongs to no step but could keep them from running. */
function problemsFor(
  problems: readonly Problem[],
  needed: ReadonlySet<string>,
  definition: PipelineDefinition,
  steps: Prepared['compiled']['steps'],
): Problem[] {
  const ids = new Set(definition.steps.filter(step => needed.has(step.name)).map(step => step.id))
  const sources = new Set(steps.filter(step => needed.has(step.name)).flatMap(step => step.sources))
  return problems.filter(problem => {
    if (problem.step_id !== null) return ids.has(problem.step_id)
    if (problem.code.startsWith('source.'))
      return [...sources].some(name => problem.message.includes(`source.${name} `))
    return (
      problem.code === 'param.invalid' || problem.code === 'step.duplicate' || problem.code === 'step.cycle'
    )
  })
}

/** The engine's own words: they are shown on this machine and sent nowhere. */
const problemOf = (failure: Failure, stepId: string, name: string): ContractProblem => ({
  code: `run.${failure.class}`,
  message: failure.private ?? failure.message,
  hint: failure.hint ?? 'Mend the step, or what it reads.',
  severity: 'error',
  file: `${name}.sql`,
  line: failure.position?.line ?? null,
  column: failure.position?.column ?? null,
  step_id: stepId,
})

export function pageOf(found: Queried, offset: number, total: number | null, duration_ms: number): RowsPage {
  return {
    columns: found.columns.map(column => ({ name: column.name, type: sqlType(column.type) })),
    rows: found.rows.map(row => row.map(cellOf)),
    offset,
    total,
    duration_ms,
  }
}

function cellOf(value: unknown): RowsPage['rows'][number][number] {
  if (value === null || value === undefined) return null
  if (typeof value === 'string' || typeof value === 'boolean') return value
  if (typeof value === 'number') return Number.isFinite(value) ? value : String(value)
  return JSON.stringify(value)
}
