import type { z } from 'zod'
import { type PipelineDefinition, pipelineDefinition, type stepDefinition } from '../documents/definition.ts'

let count = 0

/** A definition with defaults everywhere; give what the test is about. Step ids and SQL are made up when left out. */
export function aPipeline(
  given: Partial<Omit<z.input<typeof pipelineDefinition>, 'steps'>> & {
    steps?: (Partial<z.input<typeof stepDefinition>> & { name: string })[]
  } = {},
): PipelineDefinition {
  const { steps, ...rest } = given
  return pipelineDefinition.parse({
    schema_version: 1,
    name: 'weekly-revenue',
    ...rest,
    steps: (
      steps ?? [{ name: 'orders' }, { name: 'revenue', sql: 'select sum(amount) as total from orders' }]
    ).map(step => ({ id: `step-${step.name}`, sql: 'select 1 as amount', ...step })),
  })
}

/** A new actor id, different at every call of the process and the same in every run. */
export function anActor(): string {
  count += 1
  return count.toString(16).padStart(32, '0')
}
