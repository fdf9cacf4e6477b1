import type { RunView } from '@pluto-duck/engine/contract'
import { HASH, type Handlers, type Memory, pause, time } from './memory.ts'
import { idOf } from './scenes.ts'

/** Runs that take a moment for each step and succeed. */
export function runHandlers({ definition, tell }: Memory): Handlers {
  const runs: RunView[] = []

  async function run(runId: string, pipelineId: string): Promise<void> {
    const update = (change: (run: RunView) => RunView): void => {
      const at = runs.findIndex(({ run_id }) => run_id === runId)
      runs[at] = change(runs[at]!)
      tell('run.changed', runs[at]!)
    }
    update(held => ({ ...held, state: 'running', started_at: new Date().toISOString() }))
    for (const [at, { step_id }] of runs[0]!.steps.slice(0, 20).entries()) {
      update(held => ({
        ...held,
        steps: held.steps.map(step =>
          step.step_id === step_id
            ? { ...step, state: 'running', percent: 40, started_at: new Date().toISOString() }
            : step,
        ),
      }))
      tell('run.log', {
        run_id: runId,
        lines: [
          {
            ts: new Date().toISOString(),
            level: 'info',
            run_id: runId,
            trace_id: 'x',
            project_id: idOf(9),
            asset_id: step_id,
            step: step_id,
            attempt: 1,
            cause: null,
            message: 'step started',
          },
        ],
      })
      await pause(150)
      update(held => ({
        ...held,
        steps: held.steps.map(step =>
          step.step_id === step_id
            ? {
                ...step,
                state: at === 1 ? 'reused' : 'success',
                percent: 100,
                rows: 1234 * at,
                duration_ms: 150,
                reason: at === 1 ? 'nothing changed' : 'its SQL was edited',
                tests:
                  at === 0
                    ? [
                        {
                          id: 't1',
                          label: 'order_id is never NULL',
                          severity: 'error',
                          passed: true,
                          failing_rows: 0,
                        },
                      ]
                    : [],
              }
            : step,
        ),
      }))
    }
    update(held => ({
      ...held,
      state: 'success',
      finished_at: new Date().toISOString(),
      has_report: true,
      upload: { ...held.upload, state: 'done' },
    }))
    void pipelineId
  }

  return {
    'run.list': () => ({ runs }),
    'run.log': () => ({ lines: [], next_line: 0 }),
    'run.artifacts': () => ({
      artifacts: runs[0]?.has_report
        ? [
            {
              artifact_id: idOf(60),
              run_id: runs[0].run_id,
              kind: 'report',
              name: 'report.html',
              content_type: 'text/html',
              bytes: 48_210,
              sha256: HASH,
              created_at: time(0),
            },
          ]
        : [],
    }),
    'run.start': ({ run_id, pipeline_id }) => {
      runs.unshift({
        run_id,
        pipeline_id,
        pipeline: definition(pipeline_id).name,
        version: null,
        trigger: 'manual',
        state: 'pending',
        cause: null,
        failed_step: null,
        run_by: 'Ada Lovelace',
        local: true,
        created_at: new Date().toISOString(),
        started_at: null,
        finished_at: null,
        has_report: false,
        steps: definition(pipeline_id).steps.map(step => ({
          step_id: step.id,
          name: step.name,
          state: 'waiting',
          percent: null,
          rows: null,
          started_at: null,
          duration_ms: null,
          cause: null,
          message: null,
          reason: null,
          tests: [],
        })),
        upload: { state: 'none', bytes: 0, total: 0, error: null },
      })
      void run(run_id, pipeline_id)
      return runs[0]!
    },
    'report.read': () =>
      runs[0]?.has_report
        ? {
            state: 'report',
            run_id: runs[0].run_id,
            version: 7,
            html: '<!doctype html><title>Weekly revenue</title><body style="font:16px sans-serif;max-width:720px;margin:2rem auto"><h1>Weekly revenue</h1><p>Revenue rose.</p><svg width="400" height="120"><rect width="400" height="120" fill="#ffc53d"/></svg>',
            created_at: time(0),
          }
        : { state: 'none' },
  }
}
