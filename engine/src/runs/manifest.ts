import { canonicalJson, type PipelineDefinition, sha256Hex } from '@pluto-duck/crdt-model'
import type { RunManifest, StepOutcome } from '@pluto-duck/crdt-model/protocol'
import type { PlanResult } from '../plan/index.ts'
import type { RunOutcome } from '../run/index.ts'
import type { RunRecord } from './run-record.ts'

const PLUTO = '0.1.0'

/** Everything needed to say later which input caused which output: names and hashes, no value, no path of a person. */
export function manifestOf(
  planned: PlanResult,
  definition: PipelineDefinition,
  outcome: RunOutcome,
  steps: RunRecord['steps'],
  duckdb: string,
): RunManifest {
  const started = new Map(steps.map(step => [step.step_id, step.started_at]))
  return {
    engine: {
      pluto: PLUTO,
      duckdb,
      os: `${process.platform}-${process.arch}`,
      node: process.versions.node,
    },
    params: Object.fromEntries(
      Object.entries(planned.plan.params).map(([name, param]) => [
        name,
        sha256Hex(canonicalJson(param.value)),
      ]),
    ),
    sources: planned.reads.map(read => ({
      name: read.source,
      kind: definition.sources[read.source]?.kind ?? 'unknown',
      files: read.files,
      state: read.hash,
    })),
    steps: outcome.steps.map(
      (step): StepOutcome => ({
        step_id: step.step_id,
        name: step.name,
        state: step.state === 'done' ? 'success' : step.state,
        cause: step.error?.class ?? null,
        fingerprint: step.fingerprint,
        rows: step.rows,
        bytes: step.bytes,
        started_at: started.get(step.step_id) ?? null,
        duration_ms: step.duration_ms,
        attempts: step.attempts,
        tests: step.tests.map(test => ({
          id: test.test_id,
          type: test.type,
          severity: test.severity,
          passed: test.state === 'passed',
          failing_rows: test.failing_rows,
        })),
      }),
    ),
  }
}
