import type { Run } from '@pluto-duck/crdt-model/protocol'
import type { Delivery } from '../artifacts/next-delivery.ts'
import type { RunView, StepProgress } from '../contract/index.ts'
import type { RunRecord } from './run-record.ts'

const NO_UPLOAD: RunView['upload'] = { state: 'none', bytes: 0, total: 0, error: null }

/** A run of this machine as the views see it. */
export function runViewOf(
  record: RunRecord,
  steps: readonly StepProgress[],
  delivery: Delivery | null,
): RunView {
  return {
    run_id: record.run_id,
    pipeline_id: record.pipeline_id,
    pipeline: record.pipeline,
    version: record.version,
    trigger: record.trigger,
    state: record.state,
    cause: record.cause,
    failed_step: record.failed_step,
    run_by: record.run_by.name,
    local: true,
    created_at: record.created_at,
    started_at: record.started_at,
    finished_at: record.finished_at,
    steps: [...steps],
    has_report: record.has_report,
    upload: delivery ? uploadOf(delivery) : NO_UPLOAD,
  }
}

/** The engine's own messages laid over the steps that were kept without them. */
export const withMessages = (
  steps: RunRecord['steps'],
  messages: ReadonlyMap<string, string>,
): StepProgress[] => steps.map(step => ({ ...step, message: messages.get(step.step_id) ?? null }))

function uploadOf({ artifacts, state, error }: Delivery): RunView['upload'] {
  const sum = (of: Delivery['artifacts']) => of.reduce((bytes, one) => bytes + one.bytes, 0)
  const failed = state === 'refused' || artifacts.some(one => one.state === 'refused')
  const uploading = artifacts.some(one => one.state === 'done') || error === null
  return {
    state: failed ? 'failed' : state === 'done' ? 'done' : uploading ? 'uploading' : 'waiting',
    bytes: sum(artifacts.filter(one => one.state === 'done')),
    total: sum(artifacts),
    error,
  }
}

/** A run that the server knows of and this machine did not make. */
export function remoteRunView(run: Run, pipeline: string, hasReport: boolean): RunView {
  return {
    run_id: run.run_id,
    pipeline_id: run.pipeline_id,
    pipeline,
    version: run.version,
    trigger: run.trigger,
    state: run.state,
    cause: run.cause,
    failed_step: run.failed_step,
    run_by: run.run_by.name,
    local: false,
    created_at: run.created_at,
    started_at: run.started_at,
    finished_at: run.finished_at,
    steps: (run.manifest?.steps ?? []).map(step => ({
      step_id: step.step_id,
      name: step.name,
      state: step.state,
      percent: null,
      rows: step.rows,
      started_at: step.started_at,
      duration_ms: step.duration_ms,
      cause: step.cause,
      message: null,
      reason: null,
      tests: step.tests.map(({ id, type, severity, passed, failing_rows }) => ({
        id,
        label: type,
        severity,
        passed,
        failing_rows,
      })),
    })),
    has_report: hasReport,
    upload: NO_UPLOAD,
  }
}
