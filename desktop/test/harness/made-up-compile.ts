import { columns } from './made-up-rows.ts'
import type { Handlers, Memory } from './memory.ts'

/** What a pipeline compiles to: steps read what their SQL names, and `fromm` is a syntax error. */
export function compileHandlers({ definition }: Memory): Handlers {
  const dependencies = (id: string) => {
    const { steps } = definition(id)
    return steps.map(step => ({
      step,
      reads: steps
        .filter(other => other !== step && new RegExp(`\\b${other.name}\\b`).test(step.sql))
        .map(({ name }) => name),
    }))
  }

  return {
    'pipeline.compile': ({ pipeline_id }) => ({
      problems: definition(pipeline_id).steps.flatMap(step =>
        /\bfromm\b/.test(step.sql)
          ? [
              {
                code: 'sql.syntax',
                message: 'Syntax error at or near “fromm”.',
                hint: 'Did you mean FROM?',
                severity: 'error' as const,
                file: `${step.name}.sql`,
                line: 2,
                column: 1,
                step_id: step.id,
              },
            ]
          : [],
      ),
      steps: dependencies(pipeline_id).map(({ step, reads }) => ({
        step_id: step.id,
        name: step.name,
        depends_on: reads,
        sources: [...step.sql.matchAll(/source\.(\w+)/g)].map(match => match[1]!),
        columns,
      })),
      sources: Object.keys(definition(pipeline_id).sources).map(name => ({ name, columns })),
    }),
    'pipeline.lineage': () => ({
      edges: [{ from: 'orders_clean', from_column: 'amount', to: 'revenue', to_column: 'revenue' }],
    }),
    'pipeline.plan': () => ({
      problems: [],
      steps: [],
      reads: [
        { source: 'orders', path: '/home/ada/pluto/files/shop/orders/*.csv', files: 12, bytes: 82_000_000 },
      ],
      publishes: [{ what: 'report', columns: [], max_rows: null }],
      grants_needed: [
        { kind: 'read', target: '/home/ada/pluto/files/shop/orders/*.csv', why: 'source.orders' },
        { kind: 'publish', target: 'report', why: 'publish.report' },
      ],
    }),
  }
}
