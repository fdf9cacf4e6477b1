import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { PipelineDefinition } from '@pluto-duck/crdt-model'
import { type Cause, newId } from '@pluto-duck/crdt-model/protocol'
import type { Outgoing } from '../artifacts/next-delivery.ts'
import { measure } from '../artifacts/transfer.ts'
import { isoTime } from '../clock.ts'
import { sqlIdentifier } from '../compile/sql-text.ts'
import type { PlanResult } from '../plan/index.ts'
import { openReportReader, renderReport, reportSteps } from '../reports/index.ts'
import {
  asFailure,
  DEFAULT_SETTINGS,
  executePlan,
  Preview,
  type PreviewRelation,
  type RunOutcome,
  type StepOutcome,
} from '../run/index.ts'
import type { RunnerPool } from '../runner/index.ts'
import type { Warehouse } from '../warehouse/index.ts'
import type { ActiveRun } from './active-run.ts'
import { manifestOf } from './manifest.ts'
import type { PrivateMessages } from './private-messages.ts'
import type { RunRecord } from './run-record.ts'

export interface CarryOutParts {
  readonly dataFolder: string
  readonly warehouse: Warehouse
  readonly pool: RunnerPool
  readonly clock: { now(): number }
  readonly messages: PrivateMessages
  readonly duckdb: string
  /** Called with why a report or a snapshot is not there; the run's own log says its class alone. */
  unfinished(error: unknown): void
  /** Called with what may be sent, before the run counts as ended. */
  outgoing(record: RunRecord, files: readonly Outgoing[]): Promise<void>
}

const SNAPSHOT_MS = 10 * 60_000

/**
 * Runs a plan to its end: results, report, snapshots, manifest, terminal state. Cancelled once its results are current, it ends as
 * cancelled all the same: they stand, and nothing leaves. Rejects only when its log or its state cannot be written.
 */
export async function carryOut(
  run: ActiveRun,
  planned: PlanResult,
  definition: PipelineDefinition,
  parts: CarryOutParts,
): Promise<void> {
  const { clock } = parts
  const { signal } = run.abort
  await run.change({ state: 'running', started_at: isoTime(clock.now()) })
  const outcome = await executePlan(planned.plan, {
    warehouse: parts.warehouse,
    pool: parts.pool,
    privateDir: join(parts.dataFolder, 'private'),
    settings: DEFAULT_SETTINGS,
    onEvent: event => run.event(event),
    signal,
    clock,
  })
  const has_report =
    outcome.state === 'success' && (await writeReport(run, planned, definition, outcome, parts))
  const files = run.record.remote ? await shared(run, planned, definition, outcome, has_report, parts) : []
  const { record } = run
  await parts.messages.write(record.run_id, messagesOf(run))
  const stopped = outcome.state === 'success' && signal.aborted
  if (stopped) run.log.say('warn', STOPPED, { cause: 'cancelled' })
  else if (files.length > 0) await parts.outgoing(record, files)
  run.log.settle()
  await run.change({
    state: stopped ? 'cancelled' : outcome.state,
    cause: stopped ? 'cancelled' : outcome.state === 'success' ? null : causeOf(outcome),
    failed_step: outcome.steps.find(step => step.state === 'failed')?.name ?? null,
    finished_at: isoTime(clock.now()),
    has_report,
    manifest: manifestOf(planned, definition, outcome, record.steps, parts.duckdb),
  })
}

const STOPPED =
  'The run was cancelled after its results were made: they stay current, and nothing of it is shared.'

const messagesOf = (run: ActiveRun): Map<string, string> =>
  new Map(run.steps.flatMap(step => (step.message === null ? [] : [[step.step_id, step.message] as const])))

const causeOf = (outcome: RunOutcome): Cause =>
  outcome.state === 'cancelled' ? 'cancelled' : (outcome.error?.class ?? 'internal')

/** A report that cannot be made is told, and fails nothing: the results are there. */
async function writeReport(
  run: ActiveRun,
  planned: PlanResult,
  definition: PipelineDefinition,
  outcome: RunOutcome,
  parts: CarryOutParts,
): Promise<boolean> {
  const { signal } = run.abort
  if (definition.report.trim() === '' || !planned.plan.complete || signal.aborted) return false
  const { record } = run
  try {
    const { plan } = planned
    const { warehouse, pool } = parts
    const { limits } = DEFAULT_SETTINGS
    const reader = await openReportReader({ plan, outcome, warehouse, pool, limits, signal })
    try {
      const written = await renderReport({
        definition,
        params: plan.params,
        run: {
          run_id: record.run_id,
          pipeline_id: record.pipeline_id,
          version: record.version,
          author: record.run_by.name,
          started_at: record.started_at ?? record.created_at,
          finished_at: isoTime(parts.clock.now()),
          steps: reportSteps(definition, outcome),
        },
        reader,
        dataDir: parts.dataFolder,
        clock: parts.clock,
        signal,
      })
      if (written.failures.length > 0)
        run.log.say('warn', `${written.failures.length} blocks of the report could not be shown.`)
      run.log.say('info', 'The report is written.')
      return true
    } finally {
      await reader.close()
    }
  } catch (error) {
    if (signal.aborted) return false
    run.log.say('warn', 'The report could not be written.', { cause: asFailure(error).class })
    parts.unfinished(error)
    return false
  }
}

const REPORT_FILES = [
  { name: 'report.html', kind: 'report', content_type: 'text/html; charset=utf-8' },
  { name: 'report.md', kind: 'report_markdown', content_type: 'text/markdown; charset=utf-8' },
  { name: 'metadata.json', kind: 'metadata', content_type: 'application/json' },
] as const

/** The files that leave after the run, and no others: the report if it may, and snapshots of exactly the columns named. */
async function shared(
  run: ActiveRun,
  planned: PlanResult,
  definition: PipelineDefinition,
  outcome: RunOutcome,
  hasReport: boolean,
  parts: CarryOutParts,
): Promise<Outgoing[]> {
  const { signal } = run.abort
  const folder = join(parts.dataFolder, 'reports', run.record.run_id)
  const files: Outgoing[] = []
  const add = async (file: Pick<Outgoing, 'name' | 'kind' | 'content_type'>, until?: AbortSignal) => {
    const path = join(folder, file.name)
    if (!(await isThere(path))) return
    files.push({ artifact_id: newId(), ...file, path, ...(await measure(path, until)), state: 'waiting' })
  }
  if (hasReport && definition.publish.report) {
    try {
      for (const file of REPORT_FILES) await add(file)
    } catch (error) {
      run.log.say('warn', 'The report could not be shared.', { cause: asFailure(error).class })
      parts.unfinished(error)
    }
  }
  const snapshots = definition.publish.snapshots.filter(snapshot => snapshot.columns.length > 0)
  if (outcome.state !== 'success' || snapshots.length === 0) return files
  await mkdir(folder, { recursive: true })
  for (const snapshot of snapshots) {
    const name = `${snapshot.step}.parquet`
    if (!planned.plan.steps.some(step => step.name === snapshot.step)) continue
    if (signal.aborted) return []
    try {
      const rows = await writeSnapshot(snapshot, join(folder, name), planned, outcome, parts, signal)
      run.log.say('info', `The snapshot of ${snapshot.step} has ${rows} rows.`, { step: snapshot.step })
      await add({ name, kind: 'snapshot', content_type: 'application/vnd.apache.parquet' }, signal)
    } catch (error) {
      await rm(join(folder, name), { force: true })
      if (signal.aborted) return []
      const cause = asFailure(error).class
      run.log.say('warn', `The snapshot of ${snapshot.step} could not be made.`, {
        step: snapshot.step,
        cause,
      })
      parts.unfinished(error)
    }
  }
  return files
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false
    throw error
  }
}

async function writeSnapshot(
  snapshot: PipelineDefinition['publish']['snapshots'][number],
  path: string,
  planned: PlanResult,
  outcome: RunOutcome,
  parts: CarryOutParts,
  signal: AbortSignal,
): Promise<number> {
  const { plan } = planned
  const about = {
    workspace_id: plan.workspace_id,
    sources: plan.sources,
    relations: relationsOf(plan, outcome),
    params: plan.params,
    outputs: [path],
  }
  const session = await Preview.open(previewParts(parts), about, { signal })
  try {
    const columns = snapshot.columns.map(sqlIdentifier).join(', ')
    const sql = `SELECT ${columns} FROM ${sqlIdentifier(snapshot.step)} LIMIT ${snapshot.max_rows}`
    return (await session.write(sql, path, { timeoutMs: SNAPSHOT_MS, signal })).rows
  } finally {
    await session.close()
  }
}

export const previewParts = ({ pool, warehouse }: Pick<CarryOutParts, 'pool' | 'warehouse'>) => ({
  pool,
  warehouse,
  limits: DEFAULT_SETTINGS.limits,
})

/** The results of exactly this run, by name. */
export function relationsOf(
  plan: PlanResult['plan'],
  outcome: { readonly steps: readonly Pick<StepOutcome, 'step_id' | 'state'>[] },
): PreviewRelation[] {
  return plan.steps.flatMap((step): PreviewRelation[] => {
    const { name, sql, fingerprint } = step
    const made = outcome.steps.find(one => one.step_id === step.step_id)
    if (made?.state !== 'done' && made?.state !== 'reused') return []
    if (step.materialize === 'view') return [{ kind: 'view', name, sql }]
    return [{ kind: 'result', schema: null, name, fingerprint }]
  })
}
