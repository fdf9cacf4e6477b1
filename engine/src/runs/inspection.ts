import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId } from '@pluto-duck/crdt-model/protocol'
import type { ColumnLineage } from '../compile/index.ts'
import type { ContractProblem, OutputOf, ParsedInputOf } from '../contract/index.ts'
import { grantView } from '../grants/grants.ts'
import type { RunnerPool } from '../runner/index.ts'
import type { StepFacts } from '../versions/compare.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { Preparation, Prepared, Target } from './preparation.ts'
import { previewStep } from './preview.ts'

interface Parts {
  readonly preparation: Preparation
  readonly lineage: ColumnLineage
  readonly warehouse: Warehouse
  readonly pool: RunnerPool
  readonly dataFolder: string
  readonly clock: { now(): number }
  resolve(pipelineId: string, version: number | null): Promise<Target>
  remote(workspaceId: string): boolean
}

/** What can be said of a pipeline, and shown of its rows, without a run: nothing is recorded and nothing current moves. */
export class Inspection {
  readonly #parts: Parts
  readonly #previews = new Set<AbortController>()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  async compile(pipelineId: string): Promise<OutputOf<'pipeline.compile'>> {
    const prepared = await this.prepare(pipelineId, null)
    const { compiled } = prepared
    return {
      problems: [...compiled.problems, ...notAllowed(prepared)],
      steps: compiled.steps.map(step => ({
        step_id: step.step_id,
        name: step.name,
        depends_on: [...step.depends_on],
        sources: [...step.sources],
        columns: step.columns ? [...step.columns] : null,
      })),
      sources: compiled.sources.map(({ name, columns }) => ({
        name,
        columns: columns ? [...columns] : null,
      })),
    }
  }

  async lineage(input: ParsedInputOf<'pipeline.lineage'>): Promise<OutputOf<'pipeline.lineage'>> {
    const { compiled, target } = await this.prepare(input.pipeline_id, null)
    const { edges } = await this.#parts.lineage.trace(
      target.definition,
      compiled,
      input.step_id,
      input.column,
    )
    return { edges: [...edges] }
  }

  async plan(input: ParsedInputOf<'pipeline.plan'>): Promise<OutputOf<'pipeline.plan'>> {
    const prepared = await this.prepare(input.pipeline_id, input.version, input.params)
    const { compiled, missing, target } = prepared
    const problems = [...compiled.problems]
    const grants_needed = missing.map(grantView)
    const publishes = this.#parts.remote(target.workspaceId)
    if (problems.some(problem => problem.severity === 'error') || missing.length > 0) {
      return {
        problems,
        steps: unplanned(prepared),
        reads: wouldRead(prepared),
        publishes: [],
        grants_needed,
      }
    }
    const planned = await this.#parts.preparation.plan(prepared, {
      run_id: newId(),
      select: input.select,
      full: input.full,
    })
    return {
      problems,
      steps: planned.steps.map(step => ({
        step_id: step.step_id,
        name: step.name,
        action: step.action,
        reason: step.reason.words,
        materialize: step.materialize,
      })),
      reads: planned.reads.map(({ source, path, files, bytes }) => ({ source, path, files, bytes })),
      publishes: publishes
        ? planned.publishes.map(({ what, columns, max_rows }) => ({ what, columns: [...columns], max_rows }))
        : [],
      grants_needed,
    }
  }

  async preview(input: ParsedInputOf<'pipeline.preview'>): Promise<OutputOf<'pipeline.preview'>> {
    const prepared = await this.prepare(input.pipeline_id, null, input.params)
    const abort = new AbortController()
    this.#previews.add(abort)
    try {
      return await previewStep(prepared, input.step_id, input.limit, this.#parts, abort.signal)
    } finally {
      this.#previews.delete(abort)
    }
  }

  /**
   * Why a version cannot run on this machine as things are, or null when it can. Names sources and codes, never a path of this
   * machine: it is told to the server. Throws what keeps it from being looked at.
   */
  async obstacle(pipelineId: string, version: number): Promise<string | null> {
    const { missing, compiled, target } = await this.prepare(pipelineId, version)
    if (missing.length > 0) {
      const wanted = missing.map(({ kind, source, target }) =>
        kind === 'read' ? `reading source.${source}` : `sending ${target}`,
      )
      const run = `pluto run ${target.pipelineName} --version ${version} --yes`
      return `Not allowed on this machine yet: ${[...new Set(wanted)].join('; ')}. Allow it there: run it in the app, or \`${run}\`.`
    }
    const errors = compiled.problems.filter(problem => problem.severity === 'error')
    if (errors.length === 0) return null
    return `It has problems on this machine: ${[...new Set(errors.map(problem => problem.code))].join(', ')}.`
  }

  /** What is known of each step of a definition, by step id: shape from compile, rows where exactly this was made here. */
  async stepFacts(pipelineId: string, definition: PipelineDefinition): Promise<Map<string, StepFacts>> {
    const target = { ...(await this.#parts.resolve(pipelineId, null)), definition }
    const prepared = await this.#parts.preparation.prepare(pipelineId, target)
    const rows = await this.#rowsOf(prepared)
    return new Map(
      prepared.compiled.steps.map(step => [
        step.step_id,
        {
          columns: step.columns,
          rows: rows.get(step.step_id) ?? null,
          normalized_sql: step.normalized_sql,
          depends_on: step.depends_on,
        },
      ]),
    )
  }

  /** The pipeline as it is written now (`null`) or as a version, compiled. */
  async prepare(
    pipelineId: string,
    version: number | null,
    params: ParsedInputOf<'run.start'>['params'] = {},
  ): Promise<Prepared> {
    const target = await this.#parts.resolve(pipelineId, version)
    return this.#parts.preparation.prepare(pipelineId, target, params)
  }

  /** Cancels the previews that go on. */
  stop(): void {
    for (const preview of this.#previews) preview.abort()
  }

  /** By step id, where the result that this definition would make is on this machine. */
  async #rowsOf(prepared: Prepared): Promise<Map<string, number>> {
    const { preparation, warehouse } = this.#parts
    const rows = new Map<string, number>()
    const ready =
      prepared.missing.length === 0 && prepared.compiled.problems.every(one => one.severity !== 'error')
    if (!ready || prepared.compiled.steps.length === 0) return rows
    try {
      const { steps } = await preparation.plan(prepared, { run_id: newId(), select: null, full: false })
      for (const step of steps) {
        const record = await warehouse.result(prepared.target.workspaceId, step.fingerprint.result)
        if (record) rows.set(step.step_id, record.rows)
      }
    } catch (error) {
      // A param without a value, say: then nothing of it was made.
      if (!(error instanceof AppError)) throw error
    }
    return rows
  }
}

const notAllowed = ({ missing }: Prepared): ContractProblem[] =>
  missing
    .filter(wanted => wanted.source !== null)
    .map(wanted => ({
      code: 'source.not_allowed',
      message: `source.${wanted.source} waits for you to allow reading ${wanted.target}.`,
      hint: 'Review what the pipeline wants to touch and allow it.',
      severity: 'warning',
      file: 'pipeline.yaml',
      line: null,
      column: null,
      step_id: null,
    }))

/** The steps of a plan that cannot be made yet. */
const unplanned = ({ compiled, target, missing }: Prepared): OutputOf<'pipeline.plan'>['steps'] =>
  compiled.steps.map(step => ({
    step_id: step.step_id,
    name: step.name,
    action: 'run',
    reason:
      missing.length > 0 ? 'It waits for what you have to allow.' : 'It waits for the problems to be mended.',
    materialize: target.definition.steps.find(one => one.id === step.step_id)?.materialize ?? 'table',
  }))

const wouldRead = ({ sources }: Prepared): OutputOf<'pipeline.plan'>['reads'] =>
  Object.values(sources).flatMap(source =>
    source.state === 'ready'
      ? [
          {
            source: source.name,
            path: source.definition.path,
            files: source.files.length,
            bytes: source.files.reduce((sum, file) => sum + file.size, 0),
          },
        ]
      : [],
  )
