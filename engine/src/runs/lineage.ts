import type { Compiled } from '../compile/index.ts'
import type { OutputOf } from '../contract/index.ts'

type Edge = OutputOf<'pipeline.lineage'>['edges'][number]

/** Follows a column up the DAG by its name, through every step and source that a step reads and that has it too. */
export function lineageOf(compiled: Compiled, stepId: string, column: string): Edge[] {
  const steps = new Map(compiled.steps.map(step => [step.name, step]))
  const sources = new Map(compiled.sources.map(source => [source.name, source]))
  const has = (columns: readonly { readonly name: string }[] | null | undefined): string | undefined =>
    columns?.find(one => one.name.toLowerCase() === column.toLowerCase())?.name
  const edges: Edge[] = []
  const seen = new Set<string>()
  const follow = (name: string) => {
    const step = steps.get(name)
    const own = has(step?.columns)
    if (!step || own === undefined || seen.has(name)) return
    seen.add(name)
    for (const from of step.sources) {
      const found = has(sources.get(from)?.columns)
      if (found) edges.push({ from: `source.${from}`, from_column: found, to: name, to_column: own })
    }
    for (const from of step.depends_on) {
      const found = has(steps.get(from)?.columns)
      if (found) edges.push({ from, from_column: found, to: name, to_column: own })
      follow(from)
    }
  }
  const start = compiled.steps.find(step => step.step_id === stepId)
  if (start) follow(start.name)
  return edges
}
