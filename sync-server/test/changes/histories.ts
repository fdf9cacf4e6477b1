import * as Automerge from '@automerge/automerge'
import { takeApart, writeChange } from './raw-change.ts'

/** Honest histories by several actors who edit, merge and undo at random, and the forgeries that are made of them. */

/** A small deterministic generator, so that a failing seed can be run again. */
export class Dice {
  private state: number

  constructor(seed: number) {
    this.state = seed >>> 0
  }

  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }

  below(n: number): number {
    return Math.floor(this.next() * n)
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)]!
  }

  shuffle<T>(from: readonly T[]): T[] {
    const copy = [...from]
    for (let i = copy.length - 1; i > 0; i--) {
      const j = this.below(i + 1)
      const held = copy[i]!
      copy[i] = copy[j]!
      copy[j] = held
    }
    return copy
  }
}

export interface Sample {
  title: string
  count: number
  clicks: Automerge.Counter
  steps: Record<string, { sql: string; deleted?: boolean; tags: string[] }>
  order: string[]
  maybe?: number
  name?: Automerge.ImmutableString
}

const time = 1_700_000_000

/** One random edit, as the app's editors make them. */
export function edit(doc: Automerge.Doc<Sample>, dice: Dice): Automerge.Doc<Sample> {
  return Automerge.change(doc, { time }, draft => {
    for (let i = dice.below(3); i >= 0; i--) editOnce(draft, dice)
  })
}

function editOnce(draft: Sample, dice: Dice): void {
  const ids = Object.keys(draft.steps)
  const step = ids.length > 0 ? draft.steps[dice.pick(ids)] : undefined
  switch (dice.below(10)) {
    case 0:
      Automerge.splice(
        draft,
        ['title'],
        dice.below(draft.title.length + 1),
        0,
        dice.pick(['a', 'bé', '😀', 'select ']),
      )
      break
    case 1:
      if (draft.title.length > 2) Automerge.splice(draft, ['title'], dice.below(draft.title.length - 1), 1)
      break
    case 2:
      draft.count = dice.below(100)
      break
    case 3:
      draft.clicks.increment(dice.below(5) - 2)
      break
    case 4:
      draft.steps[`s${dice.below(4)}`] = { sql: 'select 1', tags: ['x'] }
      break
    case 5:
      if (step) step.deleted = dice.below(2) === 0
      break
    case 6:
      if (step && ids[0])
        Automerge.updateText(draft, ['steps', ids[0], 'sql'], `select ${dice.below(1000)} from t`)
      break
    case 7:
      draft.order.splice(dice.below(draft.order.length + 1), dice.below(2), `o${dice.below(9)}`)
      break
    case 8:
      if (draft.maybe === undefined) draft.maybe = 1
      else delete draft.maybe
      break
    default:
      draft.name = new Automerge.ImmutableString(`n${dice.below(9)}`)
  }
}

/** Every change of a random history, in one causal order. */
export function honestHistory(dice: Dice, edits: number): Uint8Array[] {
  const blank = Automerge.init<Sample>({ actor: '01'.repeat(16) })
  const first = Automerge.change(blank, { time }, draft => {
    draft.title = 'title'
    draft.count = 0
    draft.clicks = new Automerge.Counter(0)
    draft.steps = {}
    draft.order = ['o']
  })
  const devices: Automerge.Doc<Sample>[] = [
    first,
    Automerge.clone(first, { actor: '03'.repeat(16) }),
    Automerge.clone(first, { actor: '02'.repeat(16) }),
  ]
  for (let i = 0; i < edits; i++) {
    const at = dice.below(devices.length)
    if (dice.below(3) === 0) {
      const other = devices[(at + 1 + dice.below(2)) % devices.length]!
      devices[at] = Automerge.merge(devices[at]!, other)
    }
    devices[at] =
      dice.below(12) === 0 ? Automerge.emptyChange(devices[at]!, { time }) : edit(devices[at]!, dice)
  }
  let all = Automerge.init<Sample>()
  for (const device of devices) all = Automerge.merge(all, device)
  return Automerge.getAllChanges(all)
}

type LooseOp = Record<string, unknown> & { pred: string[] }
type Loose = Record<string, unknown> & {
  deps: string[]
  ops: LooseOp[]
  seq: number
  startOp: number
  actor: string
}

const opIdsOf = (history: readonly Uint8Array[]): string[] =>
  history.flatMap(bytes => {
    const change = Automerge.decodeChange(bytes)
    return change.ops.map((_, i) => `${change.startOp + i}@${change.actor}`)
  })

/**
 * A random change of a real change: other ids, keys, values, actions, places in the history. Some come out honest.
 * Null when Automerge's own encoder refuses it.
 */
export function forge(dice: Dice, history: readonly Uint8Array[], freshActor: string): Uint8Array | null {
  const loose = Automerge.decodeChange(dice.pick(history)) as unknown as Loose
  const ids = [...opIdsOf(history), '_head', '99999@' + '01'.repeat(16)]
  const others = history.map(bytes => Automerge.decodeChange(bytes) as unknown as Loose)
  // By a new actor, or its own chain is refused before anything else is looked at.
  if (dice.below(8) > 0) {
    const before = `@${loose.actor}`
    const own = new Set(loose.ops.map((_, i) => `${loose.startOp + i}${before}`))
    const moved = (id: unknown): unknown =>
      own.has(id as string) ? `${String(id).split('@')[0]}@${freshActor}` : id
    loose.ops = loose.ops.map(op => ({
      ...op,
      obj: moved(op.obj),
      ...(op.elemId === undefined ? {} : { elemId: moved(op.elemId) }),
      pred: op.pred.map(id => moved(id) as string),
    }))
    loose.actor = freshActor
    loose.seq = 1
  }
  for (let i = dice.below(3); i >= 0; i--) {
    const op = loose.ops.length > 0 ? dice.pick(loose.ops) : undefined
    const donor =
      dice.pick(
        dice
          .pick(others)
          .ops.concat(op ?? [])
          .filter(Boolean),
      ) ?? op
    switch (op && donor ? dice.below(13) : 12) {
      case 0:
        op!.pred = [dice.pick(ids)]
        break
      case 1:
        op!.pred = []
        break
      case 2:
        op!.pred = [...op!.pred, dice.pick(ids)]
        break
      case 3:
        op!.obj = dice.pick([...ids, '_root'])
        break
      case 4:
        if (op!.elemId !== undefined) op!.elemId = dice.pick(ids)
        else op!.key = dice.pick(['title', 'count', 'clicks', 'sql', 'maybe', 'new'])
        break
      case 5:
        if (op!.elemId !== undefined) op!.insert = !op!.insert
        break
      case 6:
        op!.action = dice.pick(['set', 'del', 'inc', 'makeMap', 'makeList', 'makeText'])
        break
      case 7:
        Object.assign(op!, { value: dice.pick(['', 'xyz', 7, true, null]), datatype: undefined })
        break
      case 8:
        loose.ops.push({ ...donor! })
        break
      case 9:
        loose.ops = loose.ops.filter(kept => kept !== op)
        break
      case 10:
        loose.ops = dice.shuffle(loose.ops)
        break
      case 11:
        Object.assign(op!, { obj: donor!.obj, elemId: donor!.elemId, key: donor!.key })
        break
      default:
        dice.pick([
          () => {
            loose.deps = [String(dice.pick(others).hash)]
          },
          () => {
            loose.startOp += dice.below(5) - 2
          },
          () => {
            loose.seq += dice.below(3) - 1
          },
        ])()
    }
  }
  try {
    return Automerge.encodeChange(JSON.parse(JSON.stringify({ ...loose, hash: undefined })))
  } catch {
    return null
  }
}

/** A real change under a new actor with a byte, a run or a column of it changed: what no encoder writes. Null for a compressed one. */
export function forgeBytes(
  dice: Dice,
  history: readonly Uint8Array[],
  freshActor: string,
): Uint8Array | null {
  const source = dice.pick(history)
  if (source[8] !== 1) return null
  const change = takeApart(source)
  change.actor = freshActor
  change.seq = 1
  if (change.columns.length === 0) return writeChange(change)
  const column = dice.pick(change.columns)
  const bytes = [...column[1]]
  const at = dice.below(bytes.length)
  switch (dice.below(5)) {
    case 0:
      bytes[at] = dice.below(256)
      break
    case 1:
      bytes[at] = (bytes[at]! + dice.pick([1, 255])) & 255
      break
    case 2:
      bytes.splice(at, 0, dice.below(256))
      break
    case 3:
      // The same values in another form: a run cut in two.
      if (bytes[0]! > 1 && bytes[0]! < 64) bytes.unshift(1, bytes[1]!, bytes.shift()! - 1)
      break
    default:
      change.columns = change.columns.filter(kept => kept !== column)
  }
  column[1] = Uint8Array.from(bytes)
  return writeChange(change)
}
