import { AppError } from '@pluto-duck/crdt-model/errors'
import { didYouMean, type GraphNode, withDownstream, withUpstream } from '../compile/index.ts'

export interface Selectable {
  readonly steps: ReadonlyArray<GraphNode & { readonly sources: readonly string[] }>
  /** Of the pipeline: `tag:x` selects all of its steps or none. */
  readonly tags: readonly string[]
}

/**
 * The steps that a selection names, as in dbt: `name`, `+name` (with what it needs), `name+` (with what needs it), `2+name+1`
 * (so many levels), `tag:x`, `source:x+`, `*` as a wildcard; a space is "or", a comma is "and".
 *
 * Throws `step.not_found` when a part names nothing, so a typo never runs less than was meant.
 */
export function select(selection: string, pipeline: Selectable): Set<string> {
  const selected = new Set<string>()
  const unions = selection.split(/\s+/).filter(Boolean)
  if (unions.length === 0)
    throw new AppError('usage.invalid', 'The selection is empty.', {
      hint: 'Name a step, or leave it out to run all.',
    })
  for (const union of unions) {
    const [first = new Set<string>(), ...others] = union.split(',').map(term => selectTerm(term, pipeline))
    for (const name of first) if (others.every(other => other.has(name))) selected.add(name)
  }
  return selected
}

const TERM = /^(?:(\d*)(\+))?(tag:|source:)?([^+\s]+?)(?:(\+)(\d*))?$/

function selectTerm(term: string, pipeline: Selectable): Set<string> {
  const match = TERM.exec(term)
  if (!match) {
    throw new AppError('usage.invalid', `"${term}" is no selection.`, {
      hint: 'Write name, +name, name+, tag:x or source:x+.',
    })
  }
  const [, upLevels, up, kind, name = '', down, downLevels] = match
  const base = baseOf(kind, name, pipeline)
  if (base.size === 0) {
    const names = pipeline.steps.map(step => step.name)
    throw new AppError('step.not_found', `The selection "${term}" names no step.`, {
      hint: didYouMean(name, names, `Steps: ${names.slice(0, 8).join(', ')}.`),
    })
  }
  const found = new Set(base)
  if (up)
    for (const step of levels(withUpstream, upstreamOnce, base, upLevels ?? '', pipeline)) found.add(step)
  if (down)
    for (const step of levels(withDownstream, downstreamOnce, base, downLevels ?? '', pipeline))
      found.add(step)
  return found
}

function baseOf(kind: string | undefined, name: string, { steps, tags }: Selectable): Set<string> {
  const pattern = new RegExp(`^${name.split('*').map(escapeRegExp).join('.*')}$`)
  if (kind === 'tag:') return new Set(tags.some(tag => pattern.test(tag)) ? steps.map(step => step.name) : [])
  const chosen = steps.filter(step =>
    kind === 'source:' ? step.sources.some(source => pattern.test(source)) : pattern.test(step.name),
  )
  return new Set(chosen.map(step => step.name))
}

const escapeRegExp = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')

type Closure = (nodes: readonly GraphNode[], from: Iterable<string>) => Set<string>

function levels(
  all: Closure,
  once: Closure,
  base: ReadonlySet<string>,
  count: string,
  { steps }: Selectable,
): Set<string> {
  if (count === '') return all(steps, base)
  let found = new Set(base)
  for (let level = 0; level < Number(count); level++) {
    const next = once(steps, found)
    if (next.size === found.size) break
    found = next
  }
  return found
}

const upstreamOnce: Closure = (nodes, from) => {
  const found = new Set(from)
  return new Set([...found, ...nodes.filter(node => found.has(node.name)).flatMap(node => node.needs)])
}
const downstreamOnce: Closure = (nodes, from) => {
  const found = new Set(from)
  return new Set([
    ...found,
    ...nodes.filter(node => node.needs.some(need => found.has(need))).map(node => node.name),
  ])
}
