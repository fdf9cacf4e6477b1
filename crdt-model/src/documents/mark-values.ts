import { parseTest } from './read-pipeline.ts'
import { isMap, readSetting, stringOf } from './registers.ts'

const within = (root: unknown, path: readonly string[]): unknown =>
  path.reduce<unknown>((held, key) => (isMap(held) && Object.hasOwn(held, key) ? held[key] : undefined), root)

/** Reads what a side of a mark had at its heads: pure functions of a view. */
export const READERS = {
  string: (path: readonly string[]) => (root: unknown) => stringOf(within(root, path)) ?? '',
  setting: (path: readonly string[]) => (root: unknown) => {
    const held = readSetting(within(root, path.slice(0, -1)), path.at(-1)!)
    return held.state === 'value' ? held.value : null
  },
  thing: (path: readonly string[]) => (root: unknown) => {
    const thing = within(root, path)
    if (!isMap(thing) || thing.deleted === true) return null
    const settings = Object.keys(isMap(thing.settings) ? thing.settings : {})
      .sort()
      .map(key => [key, READERS.setting(['settings', key])(thing)])
    return { ...Object.fromEntries(settings), description: stringOf(thing.description) ?? '' }
  },
  test: (path: readonly string[]) => (root: unknown) => {
    const test = within(root, path)
    return isMap(test) && test.deleted !== true ? (parseTest(path.at(-1)!, test) ?? null) : null
  },
  step: (path: readonly string[]) => (root: unknown) => {
    const step = within(root, path)
    if (!isMap(step)) return null
    return { name: stringOf(step.name) ?? '', sql: stringOf(step.sql) ?? '' }
  },
  deletion: (path: readonly string[]) => (root: unknown) => {
    const step = within(root, path)
    return {
      deleted: isMap(step) && step.deleted === true,
      sql: isMap(step) ? (stringOf(step.sql) ?? '') : '',
    }
  },
} as const
