import type { Plan, PlanStep } from '../plan/plan-types.ts'
import type { Failure } from '../runner/index.ts'
import type { Pointer } from '../warehouse/index.ts'
import { asFailure, withoutPrivate } from './failure.ts'
import { PlanRunner } from './plan-runner.ts'
import type { BareEvent } from './run-events.ts'
import type { RunOutcome, RunParts, StepOutcome } from './run-types.ts'
import { StepRun } from './step-run.ts'

/**
 * Carries out a plan. Results are built aside, tested, and made current as one at the end: a reader sees all old or all new.
 *
 * Never throws for what goes wrong in a step: that is in the outcome. A step whose upstream failed is skipped, branches that do
 * not depend on it go on. Finished steps are results by fingerprint, so the next run takes them as they are. Rejects, with the
 * runner ended, when `onEvent` throws or the catalog cannot be written.
 */
export async function executePlan(plan: Plan, parts: RunParts): Promise<RunOutcome> {
  const { warehouse, clock } = parts
  const started = clock.now()
  const emit = (event: BareEvent) =>
    parts.onEvent({ ...event, ts: new Date(clock.now()).toISOString(), run_id: plan.run_id })
  const release = warehouse.lease(plan.workspace_id, [
    ...plan.steps.map(step => step.fingerprint),
    ...plan.inputs.map(input => input.fingerprint),
  ])
  let steps: readonly StepRun[] = []
  let runner: PlanRunner | null = null
  try {
    emit({ type: 'run', state: 'running' })
    steps = await Promise.all(plan.steps.map(step => StepRun.prepare(plan, step, parts, emit)))
    runner = new PlanRunner(parts.pool, parts.settings, plan, allowedPaths(plan, parts, steps))
    const early = await defineInputs(plan, parts, runner)
    const outcomes = early ? steps.map(step => step.give(early)) : await inOrder(plan, parts, runner, steps)
    const failed = outcomes.find(outcome => outcome.state === 'failed')
    const cancelled = parts.signal?.aborted || outcomes.some(outcome => outcome.state === 'cancelled')
    const state = cancelled ? 'cancelled' : failed || early ? 'failed' : 'success'
    const swaps = state === 'success' && parts.makeCurrent !== false
    if (swaps) await makeCurrent(plan, parts, steps)
    const duration_ms = clock.now() - started
    const error = early ?? failed?.error
    emit({ type: 'run', state, duration_ms, ...(error ? { error: withoutPrivate(error) } : {}) })
    return {
      state,
      steps: outcomes,
      duration_ms,
      swapped: swaps,
      ...(error ? { error } : {}),
    }
  } finally {
    await runner?.close()
    await Promise.all(steps.map(step => step.cleanUp()))
    release()
  }
}

/** Runs each step as soon as what it depends on is done, at most `parallel` at a time, earlier steps of the plan first. */
async function inOrder(
  plan: Plan,
  parts: RunParts,
  runner: PlanRunner,
  steps: readonly StepRun[],
): Promise<StepOutcome[]> {
  const outcomes = new Map<string, StepOutcome>()
  const started = new Set<StepRun>()
  const finished = Promise.withResolvers<void>()
  let running = 0
  const advance = () => {
    for (const step of steps) {
      if (started.has(step)) continue
      const needs = step.step.depends_on.map(name => outcomes.get(name))
      const bad = needs.find(need => need && need.state !== 'done' && need.state !== 'reused')
      if (bad || parts.signal?.aborted) {
        started.add(step)
        outcomes.set(step.step.name, step.skip(parts.signal?.aborted ? null : (bad?.name ?? null)))
        // A skipped step can settle one that was looked at before it.
        return advance()
      }
      if (needs.some(need => need === undefined) || running >= parts.settings.parallel) continue
      started.add(step)
      running += 1
      step
        .run(runner)
        .then(outcome => {
          running -= 1
          outcomes.set(step.step.name, outcome)
          advance()
        })
        .catch(finished.reject)
    }
    if (outcomes.size === steps.length) finished.resolve()
    else if (running === 0 && started.size === outcomes.size)
      finished.reject(new Error(`The plan ${plan.run_id} has steps that depend on none of its own.`))
  }
  advance()
  await finished.promise
  return steps.map(step => outcomes.get(step.step.name)!)
}

/** Other pipelines' results. Returns why the run cannot begin, or null. */
async function defineInputs(plan: Plan, parts: RunParts, runner: PlanRunner): Promise<Failure | null> {
  try {
    for (const { pipeline, step, fingerprint } of plan.inputs) {
      const record = await parts.warehouse.result(plan.workspace_id, fingerprint)
      if (!record)
        return {
          class: 'source',
          message: `There is no result of ${pipeline}.${step} on this machine.`,
          hint: 'Run that pipeline first.',
        }
      await runner.define(`${pipeline}.${step}`, child =>
        child.defineResult({
          schema: pipeline,
          name: step,
          path: parts.warehouse.resultPath(plan.workspace_id, fingerprint),
          columns: record.columns,
        }),
      )
    }
    return null
  } catch (error) {
    return asFailure(error)
  }
}

async function makeCurrent(plan: Plan, parts: RunParts, steps: readonly StepRun[]): Promise<void> {
  await parts.warehouse.swap(
    {
      format: 'pluto-catalog/1',
      workspace_id: plan.workspace_id,
      pipeline_id: plan.pipeline_id,
      pipeline_name: plan.pipeline_name,
      run_id: plan.run_id,
      swapped_at: new Date(parts.clock.now()).toISOString(),
      sources: plan.sources,
      inputs: plan.inputs,
      steps: steps.map(step => ({ name: step.step.name, pointer: pointerOf(plan, step) })),
    },
    plan.complete,
  )
}

function pointerOf(plan: Plan, { step, viewSql, columns }: StepRun): Pointer {
  const common = {
    step_id: step.step_id,
    fingerprint: step.fingerprint,
    run_id: plan.run_id,
    parts: step.parts,
  }
  return viewSql === null
    ? { kind: 'table', ...common }
    : { kind: 'view', ...common, sql: viewSql, columns: [...columns] }
}

/** Sources, results and outputs of this plan: every file that its runner may open. */
function allowedPaths(plan: Plan, { warehouse }: RunParts, steps: readonly StepRun[]): string[] {
  return [
    ...plan.sources.flatMap(source => source.paths),
    ...plan.inputs.map(input => warehouse.resultPath(plan.workspace_id, input.fingerprint)),
    ...plan.steps.map((step: PlanStep) => warehouse.resultPath(plan.workspace_id, step.fingerprint)),
    ...steps.flatMap(step => step.outputs),
  ]
}
