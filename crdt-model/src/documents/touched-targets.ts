import type * as Automerge from '@automerge/automerge'
import { READERS } from './mark-values.ts'
import { type ObjectPaths, opKey } from './object-paths.ts'

type Change = Automerge.DecodedChange
type Reader = (view: unknown) => unknown

/** One thing that can be marked, and the changes that touched it. */
export interface Target {
  readonly kind: 'text' | 'setting' | 'deletion'
  readonly field: string
  readonly stepId: string | undefined
  readonly changes: Set<Change>
  /** For a deletion: those whose meeting with `changes` counts. Otherwise the changes rival each other. */
  readonly rivals?: Set<Change>
  readonly reader: Reader
}

interface Touch {
  readonly key: string
  readonly kind: Target['kind']
  readonly field: string
  readonly stepId?: string
  readonly reader: Reader
}

const touch = (
  kind: Target['kind'],
  field: string,
  path: readonly string[],
  reader: Reader,
  stepId?: string,
): Touch => ({
  key: `${kind}:${path.join('/')}`,
  kind,
  field,
  reader,
  ...(stepId === undefined ? {} : { stepId }),
})

/** What a write at a path touches; `undefined` for what cannot conflict in meaning (the order, a step's empty maps). */
export function touchAt(path: readonly string[]): Touch | undefined {
  const [area, id, part] = path
  switch (area) {
    case 'name':
      return touch('setting', 'name', ['name'], READERS.string(['name']))
    case 'description':
    case 'report':
      return touch('text', area, [area], READERS.string([area]))
    case 'settings':
    case 'publish':
      if (id === undefined) return undefined
      return touch(
        'setting',
        area === 'publish' ? `publish/${id}` : id,
        [area, id],
        READERS.setting([area, id]),
      )
    case 'params':
    case 'sources':
      if (id === undefined) return undefined
      return touch('setting', `${area}/${id}`, [area, id], READERS.thing([area, id]))
    case 'steps':
      if (id === undefined) return undefined
      return part === undefined
        ? touch('setting', 'step', [area, id], READERS.step([area, id]), id)
        : touchInStep(id, path.slice(2))
    default:
      return undefined
  }
}

function touchInStep(stepId: string, [part, key]: readonly string[]): Touch | undefined {
  const at = (...rest: string[]) => ['steps', stepId, ...rest]
  switch (part) {
    case 'sql':
    case 'description':
      return touch('text', part, at(part), READERS.string(at(part)), stepId)
    case 'name':
      return touch('setting', 'name', at('name'), READERS.string(at('name')), stepId)
    case 'settings':
      if (key === undefined) return undefined
      return touch('setting', key, at('settings', key), READERS.setting(at('settings', key)), stepId)
    case 'tests':
      if (key === undefined) return undefined
      return touch('setting', `tests/${key}`, at('tests', key), READERS.test(at('tests', key)), stepId)
    default:
      return undefined
  }
}

/** Every target that the changes touched, by key. */
export function targetsOf(changes: readonly Change[], paths: ObjectPaths): Map<string, Target> {
  const targets = new Map<string, Target>()
  const put = (found: Touch, change: Change): void => {
    const target = targets.get(found.key)
    if (target) target.changes.add(change)
    else
      targets.set(found.key, {
        kind: found.kind,
        field: found.field,
        stepId: found.stepId,
        changes: new Set([change]),
        reader: found.reader,
      })
  }
  const edits = new Map<string, Set<Change>>()
  const removals = new Map<string, Set<Change>>()
  for (const change of changes) {
    const removes = new Map<string, boolean>()
    for (const path of writtenPaths(change, paths)) {
      const [area, stepId, part] = path.keys
      if (area === 'steps' && stepId !== undefined && part === 'deleted') {
        removes.set(stepId, path.value === true)
        continue
      }
      // A test's place, as a step's, changes nothing that runs.
      if (area === 'steps' && (part === 'order' || path.keys[4] === 'order')) continue
      const found = touchAt(path.keys)
      if (!found) continue
      put(found, change)
      if (found.stepId !== undefined && found.field !== 'step') into(edits, found.stepId).add(change)
    }
    for (const [stepId, removed] of removes) into(removed ? removals : edits, stepId).add(change)
  }
  for (const [stepId, removing] of removals) {
    const rivals = edits.get(stepId)
    if (!rivals) continue
    const reader = READERS.deletion(['steps', stepId])
    targets.set(`deletion:steps/${stepId}`, {
      kind: 'deletion',
      field: 'deleted',
      stepId,
      changes: removing,
      rivals,
      reader,
    })
  }
  return targets
}

const into = <K, V>(map: Map<K, Set<V>>, key: K): Set<V> => {
  const held = map.get(key) ?? new Set<V>()
  map.set(key, held)
  return held
}

/** The paths that a change writes, a text's once however much was typed. */
function* writtenPaths(
  change: Change,
  paths: ObjectPaths,
): Generator<{ keys: readonly string[]; value: unknown }> {
  const texts = new Set<string>()
  for (const op of change.ops) {
    const parent = paths.get(op.obj)
    if (!parent) continue
    const key = opKey(op)
    if (key !== undefined) yield { keys: [...parent, key], value: (op as { value?: unknown }).value }
    else if (!texts.has(op.obj)) {
      texts.add(op.obj)
      yield { keys: parent, value: undefined }
    }
  }
}
