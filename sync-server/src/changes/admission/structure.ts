import { ACTION, type DecodedChange, type DecodedOp, integerOf, textOf, VALUE } from './decode.ts'
import {
  type DocumentIndex,
  type IndexedChange,
  type IndexedOp,
  KIND,
  type NewChange,
  ROOT,
} from './document-index.ts'
import { type ChangeLimits, DEFAULT_LIMITS, type Refusal, RefusedChange, refuse } from './limits.ts'

/**
 * Whether a change is well formed against its causal past: rules ADM2 to ADM13 of SPEC.md.
 *
 * The verdict depends on the change and its causal past alone. An operation that a concurrent change made is as unknown
 * here as one that nobody made, even when the index holds it, because another replica may not have it.
 */
export type Structure =
  | { readonly ok: true; readonly change: NewChange }
  | { readonly ok: false; readonly refusal: Refusal }

/** Leaves the index as it was, but for numbers of new map keys; the caller adds `change` when it goes on. */
export function checkStructure(
  index: DocumentIndex,
  change: DecodedChange,
  limits: ChangeLimits = DEFAULT_LIMITS,
): Structure {
  try {
    const past = checkPlace(index, change)
    const ops = new OpChecker(index, change, past, limits).check()
    const { hash, seq, startOp, deps } = change
    return { ok: true, change: { hash, actor: change.actors[0]!, seq, startOp, deps, ops } }
  } catch (error) {
    if (error instanceof RefusedChange) return { ok: false, refusal: error.refusal }
    throw error
  }
}

/** Dependencies, actor's chain and operation numbers. Returns the clock of the change's causal past. */
function checkPlace(index: DocumentIndex, change: DecodedChange): Uint32Array {
  const { deps, actors, seq } = change
  const actor = actors[0]!
  for (let i = 1; i < deps.length; i++)
    if (deps[i]! <= deps[i - 1]!) refuse('invalid', 'its dependencies are not in order')
  for (let i = 2; i < actors.length; i++)
    if (actors[i]! <= actors[i - 1]!) refuse('invalid', 'its actors are not in order')
  if (actors.indexOf(actor, 1) >= 0) refuse('invalid', 'it lists its own actor twice')

  const parents: IndexedChange[] = []
  for (const hash of deps) {
    const parent = index.find(hash)
    if (!parent) return refuse('missing_deps', 'it depends on a change that is not in the log')
    parents.push(parent)
  }
  const number = index.actorNumber(actor)
  // Automerge names an actor's own last change even when another dependency includes it.
  for (const one of parents)
    if (one.actor !== number || one.seq !== seq - 1)
      for (const other of parents)
        if (one !== other && index.clockAt(other, one.actor) >= one.seq)
          refuse('invalid', 'it names a dependency that another one includes')

  const past = index.join(parents)
  if (seq < 1) refuse('invalid', 'the first change of an actor has number 1')
  if (seq <= index.seqOf(actor)) refuse('actor', 'its actor has made another change of this number')
  const known = number === undefined ? 0 : (past[number] ?? 0)
  if (known !== seq - 1) refuse('invalid', 'its past does not hold all earlier changes of its actor')

  const maxOp = parents.reduce((max, parent) => Math.max(max, parent.maxOp), 0)
  if (change.startOp !== maxOp + 1) refuse('invalid', 'its operations do not start right after its past')
  return past
}

const MAKES: Readonly<Record<number, number>> = {
  [ACTION.makeMap]: KIND.map,
  [ACTION.makeList]: KIND.list,
  [ACTION.makeText]: KIND.text,
}

/** Timestamps that a Date can hold, in milliseconds. */
const MAX_TIMESTAMP = 8.64e15
/** So that no sum of increments that fits into the log leaves 2^53. */
const MAX_COUNTER = 2 ** 32

class OpChecker {
  private readonly index: DocumentIndex
  private readonly change: DecodedChange
  private readonly limits: ChangeLimits
  /** For each actor that the change lists: its number in the index (-1: unknown), and how many of its changes are past. */
  private readonly actorNumbers: number[]
  private readonly seqLimits: number[]
  private readonly ops: IndexedOp[] = []
  private readonly depths = new Map<number, number>()
  private readonly firstOp: number
  private readonly used: boolean[]

  constructor(index: DocumentIndex, change: DecodedChange, past: Uint32Array, limits: ChangeLimits) {
    this.index = index
    this.change = change
    this.limits = limits
    this.firstOp = index.opCount
    this.actorNumbers = change.actors.map(actor => index.actorNumber(actor) ?? -1)
    this.used = change.actors.map((_, place) => place === 0)
    this.seqLimits = this.actorNumbers.map(number => (number < 0 ? 0 : (past[number] ?? 0)))
    for (let i = 1; i < this.seqLimits.length; i++)
      if (this.seqLimits[i] === 0) refuse('invalid', 'an actor that is not in its past')
  }

  check(): IndexedOp[] {
    for (const op of this.change.ops) this.ops.push(this.checkOp(op))
    // Automerge writes only the actors that it needs: another list would come back as other bytes with another hash.
    if (this.used.includes(false)) refuse('invalid', 'an actor that none of its operations names')
    return this.ops
  }

  private checkOp(op: DecodedOp): IndexedOp {
    const object = this.objectOf(op)
    const objectKind = object === ROOT ? KIND.map : this.op(object).kind
    if (objectKind > KIND.text) refuse('invalid', 'an operation on something that is not an object')
    const kind = kindOf(op)
    if (objectKind === KIND.map) return this.checkInMap(op, kind, object)
    return this.checkInSequence(op, kind, object, objectKind)
  }

  private checkInMap(op: DecodedOp, kind: number, object: number): IndexedOp {
    if (op.key === null) return refuse('invalid', 'an element of a map')
    if (op.key === '') refuse('invalid', 'an empty key')
    if (op.elemActor !== -1 || op.elemCounter !== -1) refuse('invalid', 'a key and an element at once')
    if (op.insert) refuse('invalid', 'an insertion into a map')
    const indexed = { kind, insert: false, object, place: this.index.keyNumber(op.key) }
    this.checkPreds(op, indexed)
    this.checkDepth(indexed)
    return indexed
  }

  private checkInSequence(op: DecodedOp, kind: number, object: number, objectKind: number): IndexedOp {
    if (op.key !== null) refuse('invalid', 'a key on a list or text')
    const isHead = op.elemActor === -1
    if (isHead && op.elemCounter !== 0) refuse('invalid', 'an unknown element')
    const element = isHead ? ROOT : this.find(op.elemActor, op.elemCounter)
    if (!isHead) {
      if (element < 0) refuse('invalid', 'an unknown element')
      const target = this.op(element)
      if (target.object !== object || !target.insert) refuse('invalid', 'an element of another object')
    }
    if (isHead && !op.insert) refuse('invalid', 'a change of the head of a list')
    if (objectKind === KIND.text) this.checkInText(op, kind)
    if (op.insert && (kind === KIND.del || kind === KIND.inc))
      refuse('invalid', 'an insertion that inserts nothing')
    const place = op.insert ? this.firstOp + this.ops.length : element
    const indexed = { kind, insert: op.insert, object, place }
    if (op.insert) {
      if (op.predCounters.length > 0) refuse('invalid', 'an insertion with a predecessor')
    } else {
      if (op.predCounters.length === 0) refuse('invalid', 'a change of an element without a predecessor')
      this.checkPreds(op, indexed)
    }
    this.checkDepth(indexed)
    return indexed
  }

  /** A text holds characters only, and they are inserted and deleted, never assigned. */
  private checkInText(op: DecodedOp, kind: number): void {
    if (op.insert) {
      if (op.action !== ACTION.set || op.valueType !== VALUE.text || op.valueBytes.length === 0)
        refuse('invalid', 'something else than text in a text')
    } else if (kind !== KIND.del) {
      refuse('invalid', 'an assignment in a text')
    }
  }

  private checkPreds(op: DecodedOp, indexed: IndexedOp): void {
    const count = op.predCounters.length
    if (count === 0 && (indexed.kind === KIND.del || indexed.kind === KIND.inc))
      refuse('invalid', 'a deletion or increment of nothing')
    let counters = 0
    for (let i = 0; i < count; i++) {
      if (i > 0 && !this.ascends(op, i)) refuse('invalid', 'predecessors out of order')
      const pred = this.find(op.predActors[i]!, op.predCounters[i]!)
      if (pred < 0) refuse('invalid', 'a predecessor that is not in its past')
      const target = this.op(pred)
      if (target.object !== indexed.object) refuse('invalid', 'a predecessor in another object')
      if (target.place !== indexed.place) refuse('invalid', 'a predecessor of another key or element')
      if (target.kind > KIND.counter) refuse('invalid', 'a predecessor that is not a value')
      if (target.kind === KIND.counter) counters++
    }
    if (indexed.kind === KIND.inc && counters === 0)
      refuse('invalid', 'an increment of something else than a counter')
  }

  /** Automerge keeps predecessors in the order of their ids: by number, then by actor. */
  private ascends(op: DecodedOp, i: number): boolean {
    const before = op.predCounters[i - 1]!
    const here = op.predCounters[i]!
    if (here !== before) return here > before
    return this.actorName(op.predActors[i]!) > this.actorName(op.predActors[i - 1]!)
  }

  private actorName(place: number): string {
    return this.change.actors[place] ?? ''
  }

  private checkDepth(op: IndexedOp): void {
    if (op.kind > KIND.text) return
    const outer = op.object >= this.firstOp ? this.depths.get(op.object)! : this.index.depth(op.object)
    if (outer + 1 > this.limits.depth) refuse('quota', `objects are at most ${this.limits.depth} deep`)
    this.depths.set(this.firstOp + this.ops.length, outer + 1)
  }

  private objectOf(op: DecodedOp): number {
    if (op.objActor === -1) {
      if (op.objCounter !== -1) refuse('invalid', 'an unknown object')
      return ROOT
    }
    const object = this.find(op.objActor, op.objCounter)
    if (object < 0) refuse('invalid', 'an unknown object')
    return object
  }

  /** An operation in the causal past or earlier in this change, by its place in the index; -1 if there is none. */
  private find(actor: number, counter: number): number {
    if (actor < 0 || counter < 1) return -1
    this.used[actor] = true
    if (actor === 0 && counter >= this.change.startOp) {
      const own = counter - this.change.startOp
      return own < this.ops.length ? this.firstOp + own : -1
    }
    return this.index.findOp(this.actorNumbers[actor]!, counter, this.seqLimits[actor]!)
  }

  private op(at: number): IndexedOp {
    return at >= this.firstOp ? this.ops[at - this.firstOp]! : this.index.op(at)
  }
}

/** The kind of operation, after its action and value were found to fit each other. */
function kindOf(op: DecodedOp): number {
  if (op.action === ACTION.set) {
    checkValue(op)
    return op.valueType === VALUE.counter ? KIND.counter : KIND.value
  }
  if (op.action === ACTION.inc) {
    if (op.valueType !== VALUE.int && op.valueType !== VALUE.uint)
      refuse('invalid', 'an increment by no number')
    if (Math.abs(integerOf(op)) > MAX_COUNTER) refuse('invalid', 'an increment out of range')
    return KIND.inc
  }
  if (op.valueType !== VALUE.null || op.valueBytes.length > 0) refuse('invalid', 'a value where none belongs')
  if (op.action === ACTION.del) return KIND.del
  return MAKES[op.action] ?? refuse('invalid', 'an unknown action')
}

function checkValue(op: DecodedOp): void {
  switch (op.valueType) {
    case VALUE.null:
    case VALUE.false:
    case VALUE.true:
      if (op.valueBytes.length > 0) refuse('invalid', 'a value with bytes that it has no use for')
      return
    case VALUE.uint:
      // Readers would get a BigInt, which no JSON holds; Automerge writes whole numbers as signed ones.
      refuse('invalid', 'an unsigned number')
      return
    case VALUE.int:
      integerOf(op)
      return
    case VALUE.counter:
      if (Math.abs(integerOf(op)) > MAX_COUNTER) refuse('invalid', 'a counter out of range')
      return
    case VALUE.timestamp:
      if (Math.abs(integerOf(op)) > MAX_TIMESTAMP) refuse('invalid', 'a time out of range')
      return
    case VALUE.float64:
      if (op.valueBytes.length !== 8) refuse('invalid', 'a number of another length')
      return
    case VALUE.text:
      textOf(op)
      return
    case VALUE.bytes:
      return
    default:
      refuse('invalid', 'a value of an unknown type')
  }
}
