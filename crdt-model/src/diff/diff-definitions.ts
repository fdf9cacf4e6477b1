import { canonicalJson } from '../canonical/canonical.ts'
import type { DataTest, PipelineDefinition, StepDefinition } from '../documents/definition.ts'
import { diffText, type TextDiff } from './diff-text.ts'

/** A value before and after; `undefined` where there was none. */
export interface FieldChange {
  readonly field: string
  readonly before: unknown
  readonly after: unknown
}

export interface StepDiff {
  readonly step_id: string
  /** After, or before when it was removed. */
  readonly name: string
  readonly change: 'added' | 'removed' | 'changed'
  readonly renamed?: { readonly before: string; readonly after: string }
  /** Its place among the steps that both have is another. */
  readonly moved: boolean
  /** Absent when the SQL is the same. */
  readonly sql?: TextDiff
  readonly description?: TextDiff
  readonly settings: readonly FieldChange[]
  /** `field` is the test's id. */
  readonly tests: readonly FieldChange[]
}

export interface NamedDiff {
  readonly name: string
  readonly change: 'added' | 'removed' | 'changed'
  readonly settings: readonly FieldChange[]
}

export interface DefinitionDiff {
  readonly equal: boolean
  /** `name` and `tags` of the pipeline. */
  readonly settings: readonly FieldChange[]
  readonly description?: TextDiff
  readonly steps: readonly StepDiff[]
  readonly params: readonly NamedDiff[]
  readonly sources: readonly NamedDiff[]
  readonly report?: TextDiff
  readonly publish: readonly FieldChange[]
}

/** What changed from `before` to `after`, by step id; nothing that is the same is named. Steps in the order of `after`, removed ones last. */
export function diffDefinitions(before: PipelineDefinition, after: PipelineDefinition): DefinitionDiff {
  const parts = {
    settings: fieldChanges(before, after, ['name', 'tags']),
    ...textChange('description', before.description, after.description),
    steps: diffSteps(before.steps, after.steps),
    params: diffNamed(before.params, after.params),
    sources: diffNamed(before.sources, after.sources),
    ...textChange('report', before.report, after.report),
    publish: fieldChanges(before.publish, after.publish, ['report', 'snapshots']),
  }
  const equal = Object.values(parts).every(part => Array.isArray(part) && part.length === 0)
  return { equal, ...parts }
}

const same = (a: unknown, b: unknown): boolean =>
  a === b || (a !== undefined && b !== undefined && canonicalJson(a) === canonicalJson(b))

function fieldChanges(before: object, after: object, fields: readonly string[]): FieldChange[] {
  const left = before as Record<string, unknown>
  const right = after as Record<string, unknown>
  return fields.flatMap(field =>
    same(left[field], right[field]) ? [] : [{ field, before: left[field], after: right[field] }],
  )
}

const textChange = <K extends string>(key: K, before: string, after: string): { [P in K]?: TextDiff } =>
  before === after ? {} : ({ [key]: diffText(before, after) } as { [P in K]?: TextDiff })

const STEP_FIELDS = ['materialize', 'unique_key', 'time_column', 'lookback', 'timeout_s', 'retry'] as const

function diffSteps(before: readonly StepDefinition[], after: readonly StepDefinition[]): StepDiff[] {
  const old = new Map(before.map(step => [step.id, step]))
  const now = new Map(after.map(step => [step.id, step]))
  const moved = movedIds(
    before.filter(step => now.has(step.id)).map(step => step.id),
    after.filter(step => old.has(step.id)).map(step => step.id),
  )
  const changed = after.flatMap(step => {
    const was = old.get(step.id)
    const diff = diffStep(was, step, moved.has(step.id))
    return was && isSame(diff) ? [] : [diff]
  })
  const removed = before.filter(step => !now.has(step.id)).map(step => diffStep(step, undefined, false))
  return [...changed, ...removed]
}

const isSame = (diff: StepDiff): boolean =>
  !diff.renamed &&
  !diff.moved &&
  !diff.sql &&
  !diff.description &&
  diff.settings.length + diff.tests.length === 0

function diffStep(
  before: StepDefinition | undefined,
  after: StepDefinition | undefined,
  moved: boolean,
): StepDiff {
  const { id, name } = (after ?? before)!
  return {
    step_id: id,
    name,
    change: before && after ? 'changed' : after ? 'added' : 'removed',
    ...(before && after && before.name !== after.name
      ? { renamed: { before: before.name, after: after.name } }
      : {}),
    moved,
    ...textChange('sql', before?.sql ?? '', after?.sql ?? ''),
    ...textChange('description', before?.description ?? '', after?.description ?? ''),
    settings: fieldChanges(before ?? {}, after ?? {}, STEP_FIELDS),
    tests: diffTests(before?.tests ?? [], after?.tests ?? []),
  }
}

function diffTests(before: readonly DataTest[], after: readonly DataTest[]): FieldChange[] {
  const ids = [...new Set([...after, ...before].map(test => test.id))]
  const left = Object.fromEntries(before.map(test => [test.id, test]))
  const right = Object.fromEntries(after.map(test => [test.id, test]))
  const changes = fieldChanges(left, right, ids)
  const order = (tests: readonly DataTest[], other: Record<string, DataTest>) =>
    tests.map(test => test.id).filter(id => other[id])
  const was = order(before, right)
  const is = order(after, left)
  return same(was, is) ? changes : [...changes, { field: 'order', before: was, after: is }]
}

/** Those that have to move to get from one order to the other, as few as there can be. */
function movedIds(before: readonly string[], after: readonly string[]): Set<string> {
  const place = new Map(before.map((id, at) => [id, at]))
  const lengths: number[] = []
  const from: number[] = []
  after.forEach((id, at) => {
    lengths[at] = 1
    from[at] = -1
    for (let earlier = 0; earlier < at; earlier += 1)
      if (place.get(after[earlier]!)! < place.get(id)! && lengths[earlier]! + 1 > lengths[at]!) {
        lengths[at] = lengths[earlier]! + 1
        from[at] = earlier
      }
  })
  const kept = new Set<string>()
  for (let at = lengths.indexOf(Math.max(...lengths)); at >= 0; at = from[at]!) kept.add(after[at]!)
  return new Set(after.filter(id => !kept.has(id)))
}

function diffNamed<T extends object>(
  before: Readonly<Record<string, T>>,
  after: Readonly<Record<string, T>>,
): NamedDiff[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort()
  return names.flatMap(name => {
    const was = Object.hasOwn(before, name) ? before[name] : undefined
    const is = Object.hasOwn(after, name) ? after[name] : undefined
    const settings = fieldChanges(was ?? {}, is ?? {}, Object.keys((is ?? was)!).sort())
    if (was && is && settings.length === 0) return []
    return [{ name, change: was && is ? 'changed' : is ? 'added' : 'removed', settings } as const]
  })
}
