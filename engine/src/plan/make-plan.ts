import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { assertNoErrors, type Compiled, type CompiledStep, withUpstream } from '../compile/index.ts'
import { type ResolvedSource, type SourceResolution, toPlanSource } from '../sources/resolve-sources.ts'
import type { SourceState } from '../sources/source-state.ts'
import { type Fingerprint, fingerprintOf, type Reason, whyChanged } from './fingerprint.ts'
import type { FingerprintParts, Plan } from './plan-types.ts'
import { select } from './selection.ts'
import { failingRowsSql } from './test-sql.ts'

/** What the plan has to know of the warehouse. Failed runs leave nothing here. */
export interface PlanCatalog {
  /** The result that is current for a step, by the step's stable id. */
  current(stepId: string): { readonly fingerprint: string; readonly parts: FingerprintParts | null } | null
  /** True when a result of this name is there, whole, and its tests passed. */
  has(fingerprint: string): Promise<boolean>
}

export interface PlanInput {
  readonly run_id: string
  readonly workspace_id: string
  readonly pipeline_id: string
  readonly definition: PipelineDefinition
  readonly compiled: Compiled
  readonly sources: Readonly<Record<string, SourceResolution>>
  readonly source_states: Readonly<Record<string, SourceState>>
  readonly catalog: PlanCatalog
  /** As {@link select} reads it. Default: every step. */
  readonly selection?: string | null
  /** Rebuilds every selected step. Default false. */
  readonly full_refresh?: boolean
}

export interface PlannedStep {
  readonly step_id: string
  readonly name: string
  readonly action: 'run' | 'reuse' | 'skip'
  readonly reason: Reason
  readonly materialize: string
  readonly fingerprint: Fingerprint
}

export interface PlanResult {
  /** For the runner: the steps that run or are reused. */
  readonly plan: Plan
  /** For people: every step of the pipeline, in order. */
  readonly steps: readonly PlannedStep[]
  readonly reads: ReadonlyArray<{ source: string; path: string; files: number; bytes: number; hash: string }>
  /** What would leave this machine; bytes are not known before the run, columns and limits are. */
  readonly publishes: ReadonlyArray<{ what: string; columns: readonly string[]; max_rows: number | null }>
}

/**
 * What a run would do. Decides only: nothing is read, written or run.
 *
 * A step that is selected brings what it needs: if that is not up to date it runs too, so no step is ever built on a stale
 * one. Throws `compile.failed` for a definition with errors, `request.invalid` for a param without a value.
 */
export async function makePlan(input: PlanInput): Promise<PlanResult> {
  const { definition, compiled } = input
  assertNoErrors(compiled.problems)
  const ordered = compiled.steps.map(step => ({
    compiled: step,
    definition: definition.steps.find(({ id }) => id === step.step_id)!,
  }))
  const nodes = compiled.steps.map(step => ({ name: step.name, needs: needsOf(step), sources: step.sources }))
  const chosen = input.selection
    ? select(input.selection, { steps: nodes, tags: definition.tags })
    : new Set(nodes.map(node => node.name))
  const included = withUpstream(nodes, chosen)
  assertParams(
    ordered.filter(step => included.has(step.compiled.name)).flatMap(step => step.compiled.params),
    compiled,
  )

  const sources = readySources(input, included)
  const fingerprints: Record<string, Fingerprint> = {}
  const steps: PlannedStep[] = []
  for (const step of ordered) {
    const { name } = step.compiled
    if (!included.has(name)) {
      steps.push(skipped(step.definition))
      continue
    }
    const fingerprint = fingerprintOf({
      ...step,
      params: compiled.params,
      sources,
      upstream: fingerprints,
      run_id: input.run_id,
    })
    fingerprints[name] = fingerprint
    const forced = input.full_refresh === true && chosen.has(name)
    const { action, reason } = await decide(step.compiled, fingerprint, input.catalog, forced)
    const { id: step_id, materialize } = step.definition
    steps.push({ step_id, name, action, reason, materialize, fingerprint })
  }

  const used = new Set(compiled.steps.filter(step => included.has(step.name)).flatMap(step => step.sources))
  const plan: Plan = {
    run_id: input.run_id,
    workspace_id: input.workspace_id,
    pipeline_id: input.pipeline_id,
    pipeline_name: definition.name,
    params: { ...compiled.params },
    sources: [...used].sort().map(name => toPlanSource(sources[name]!.resolved)),
    inputs: [],
    steps: ordered
      .filter(step => included.has(step.compiled.name))
      .map(({ compiled: { name }, definition: step, compiled: facts }) => ({
        step_id: step.id,
        name,
        sql: step.sql,
        materialize: step.materialize === 'view' ? 'view' : 'table',
        fingerprint: fingerprints[name]!.result,
        parts: fingerprints[name]!.parts,
        depends_on: needsOf(facts),
        reuse: steps.some(planned => planned.name === name && planned.action === 'reuse'),
        tests: step.tests.map(test => ({
          test_id: test.id,
          type: test.type,
          severity: test.severity,
          sql: failingRowsSql(name, test),
        })),
        timeout_s: step.timeout_s,
        retry: step.retry,
      })),
    complete: included.size === nodes.length,
  }
  return { plan, steps, reads: readsOf(sources, used), publishes: publishesOf(definition) }
}

const needsOf = (step: CompiledStep): string[] =>
  [...new Set([...step.depends_on, ...step.test_depends_on])].sort()

async function decide(
  step: CompiledStep,
  fingerprint: Fingerprint,
  catalog: PlanCatalog,
  forced: boolean,
): Promise<{ action: 'run' | 'reuse'; reason: Reason }> {
  const current = catalog.current(step.step_id)
  if (forced) return { action: 'run', reason: { code: 'forced', words: 'A full refresh was asked for.' } }
  if (await catalog.has(fingerprint.result)) {
    const same = current?.fingerprint === fingerprint.result
    return {
      action: 'reuse',
      reason: same
        ? { code: 'unchanged', words: 'Nothing that it depends on changed.' }
        : { code: 'made_before', words: 'An earlier run made exactly this result.' },
    }
  }
  if (!current)
    return { action: 'run', reason: { code: 'never_ran', words: 'It had no result on this machine.' } }
  if (current.fingerprint === fingerprint.result || current.parts === null) {
    return {
      action: 'run',
      reason: { code: 'never_ran', words: 'Its result was no longer on this machine.' },
    }
  }
  return { action: 'run', reason: whyChanged(current.parts, fingerprint.parts, step.volatile) }
}

const NO_FINGERPRINT: Fingerprint = {
  result: '',
  data: '',
  parts: { sql: '', upstream: {}, params: {}, sources: {}, settings: '', tests: '', run: null },
}

function skipped(step: PipelineDefinition['steps'][number]): PlannedStep {
  return {
    step_id: step.id,
    name: step.name,
    action: 'skip',
    reason: { code: 'not_selected', words: 'It was not selected.' },
    materialize: step.materialize,
    fingerprint: NO_FINGERPRINT,
  }
}

function assertParams(used: readonly string[], compiled: Compiled): void {
  const missing = [...new Set(used)].filter(name => compiled.params[name]?.value === null).sort()
  if (missing.length === 0) return
  throw new AppError(
    'request.invalid',
    `These params have no value: ${missing.map(name => `$${name}`).join(', ')}.`,
    {
      hint: 'Give them with the run, or a default in pipeline.yaml.',
      details: { params: missing },
    },
  )
}

type ReadySources = Record<string, { resolved: ResolvedSource; state: SourceState }>

function readySources(
  { compiled, sources, source_states }: PlanInput,
  included: ReadonlySet<string>,
): ReadySources {
  const ready: ReadySources = {}
  for (const name of new Set(
    compiled.steps.filter(step => included.has(step.name)).flatMap(step => step.sources),
  )) {
    const resolved = sources[name]
    const state = source_states[name]
    if (resolved?.state !== 'ready' || !state) {
      const failed = resolved?.state === 'failed' ? resolved : null
      throw new AppError(
        'source.not_found',
        failed?.message ?? `source.${name} was not looked at.`,
        failed ? { hint: failed.hint } : {},
      )
    }
    ready[name] = { resolved, state }
  }
  return ready
}

function readsOf(sources: ReadySources, used: ReadonlySet<string>): PlanResult['reads'] {
  return [...used].sort().map(name => {
    const { resolved, state } = sources[name]!
    return {
      source: name,
      path: resolved.definition.path,
      files: state.files,
      bytes: state.bytes,
      hash: state.hash,
    }
  })
}

function publishesOf({ publish }: PipelineDefinition): PlanResult['publishes'] {
  const report = publish.report ? [{ what: 'report', columns: [], max_rows: null }] : []
  const snapshots = publish.snapshots.map(({ step, columns, max_rows }) => ({
    what: `snapshot of ${step}`,
    columns,
    max_rows,
  }))
  return [...report, { what: 'redacted log', columns: [], max_rows: null }, ...snapshots]
}
