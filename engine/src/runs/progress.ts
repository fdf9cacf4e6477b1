import type { StepProgress } from '../contract/index.ts'
import type { RunEvent } from '../run/index.ts'

/** The labels of a step's tests, by test id. */
export type TestLabels = ReadonlyMap<string, string>

/** The steps of a run after one more event. Only what the event is about changes. */
export function afterEvent(
  steps: readonly StepProgress[],
  event: RunEvent,
  labels: TestLabels,
): StepProgress[] {
  if (event.type === 'run') return [...steps]
  return steps.map(step => (step.step_id === event.step_id ? changed(step, event, labels) : step))
}

function changed(
  step: StepProgress,
  event: Exclude<RunEvent, { type: 'run' }>,
  labels: TestLabels,
): StepProgress {
  switch (event.type) {
    case 'progress':
      return { ...step, percent: Math.min(100, Math.max(0, event.percent)), rows: event.rows || step.rows }
    case 'test': {
      const test = {
        id: event.test_id,
        label: labels.get(event.test_id) ?? event.test,
        severity: event.severity,
        passed: event.state === 'passed',
        failing_rows: event.failing_rows ?? 0,
      }
      return {
        ...step,
        state: step.state === 'running' ? 'testing' : step.state,
        message: event.private ?? step.message,
        tests: [...step.tests.filter(known => known.id !== test.id), test],
      }
    }
    case 'step': {
      const state = event.state === 'done' ? 'success' : event.state
      const starts = event.state === 'running'
      return {
        ...step,
        state,
        percent: state === 'success' || state === 'reused' ? 100 : starts ? null : step.percent,
        rows: event.rows ?? (state === 'failed' || starts ? null : step.rows),
        started_at: starts ? (step.started_at ?? event.ts) : step.started_at,
        duration_ms: event.duration_ms ?? step.duration_ms,
        cause: event.error?.class ?? (starts ? null : step.cause),
        message: event.private ?? event.error?.message ?? (starts ? null : step.message),
        reason: event.reason ?? step.reason,
        tests: starts ? [] : step.tests,
      }
    }
  }
}
