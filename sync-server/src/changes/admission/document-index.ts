/**
 * What admission remembers of one document: which operations exist, on what, and in whose causal past.
 *
 * It holds no values, so a 260,000-edit text takes a few megabytes, and nothing of Automerge. Everything is appended in the
 * order in which changes were admitted; `truncate` takes the newest back when a trial or a commit failed.
 */

export const KIND = {
  map: 1,
  list: 2,
  text: 3,
  value: 4,
  counter: 5,
  del: 6,
  inc: 7,
} as const

export const ROOT = -1
/** Added to a kind when the operation inserted an element. */
const INSERT = 0x80

/** One operation as the index stores it. `object` and a list's `place` are positions of operations in the index. */
export interface IndexedOp {
  readonly kind: number
  readonly insert: boolean
  readonly object: number
  /** In a map the number of its key, in a list or text the element's own operation. */
  readonly place: number
}

export interface IndexedChange {
  readonly hash: string
  readonly actor: number
  readonly seq: number
  readonly startOp: number
  /** The greatest operation number of its causal past and itself. */
  readonly maxOp: number
  readonly firstOp: number
  /** Shared with the changes that follow it directly by the same actor; `clockAt` overlays the change's own seq. */
  readonly past: Uint32Array
}

export interface NewChange {
  readonly hash: string
  readonly actor: string
  readonly seq: number
  readonly startOp: number
  readonly deps: readonly string[]
  readonly ops: readonly IndexedOp[]
}

export class DocumentIndex {
  private readonly changes: IndexedChange[] = []
  private readonly byHash = new Map<string, number>()
  private readonly actorNumbers = new Map<string, number>()
  /** For each actor its changes in order of seq. */
  private readonly chains: number[][] = []
  private readonly keyNumbers = new Map<string, number>()
  private readonly depths = new Map<number, number>()
  private readonly heads = new Set<string>()
  private readonly lostHeads: string[][] = []
  private kinds = new Uint8Array(64)
  private objects = new Int32Array(64)
  private places = new Int32Array(64)
  private ops = 0

  get changeCount(): number {
    return this.changes.length
  }

  get opCount(): number {
    return this.ops
  }

  /** Hashes of the changes that no other depends on, sorted. */
  get headHashes(): string[] {
    return [...this.heads].sort()
  }

  /** The change with which the document began; null for an empty index. */
  get firstHash(): string | null {
    return this.changes[0]?.hash ?? null
  }

  has(hash: string): boolean {
    return this.byHash.has(hash)
  }

  find(hash: string): IndexedChange | undefined {
    const at = this.byHash.get(hash)
    return at === undefined ? undefined : this.changes[at]
  }

  actorNumber(actor: string): number | undefined {
    return this.actorNumbers.get(actor)
  }

  /** How many changes of this actor are known. */
  seqOf(actor: string): number {
    const number = this.actorNumbers.get(actor)
    return number === undefined ? 0 : this.chains[number]!.length
  }

  /** How many changes of `actor` are in the causal past of `change`, itself included. */
  clockAt(change: IndexedChange, actor: number): number {
    return actor === change.actor ? change.seq : (change.past[actor] ?? 0)
  }

  /** The joined clocks of these changes, by actor number. */
  join(changes: readonly IndexedChange[]): Uint32Array {
    const [only] = changes
    if (changes.length === 1 && only) {
      if (only.past[only.actor] === only.seq) return only.past
      const clock = grown(only.past, only.actor + 1)
      clock[only.actor] = only.seq
      return clock
    }
    const clock = new Uint32Array(this.chains.length)
    for (const change of changes) {
      for (let i = 0; i < change.past.length; i++) if (change.past[i]! > clock[i]!) clock[i] = change.past[i]!
      if (change.seq > clock[change.actor]!) clock[change.actor] = change.seq
    }
    return clock
  }

  /** The operation with this id, or -1. `seqLimit` is how many of the actor's changes count as past. */
  findOp(actor: number, counter: number, seqLimit: number): number {
    const chain = this.chains[actor]
    if (!chain) return -1
    let low = 0
    let high = Math.min(seqLimit, chain.length) - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const at = chain[middle]!
      const change = this.changes[at]!
      if (counter < change.startOp) high = middle - 1
      else {
        const offset = counter - change.startOp
        if (offset < this.opsOf(at)) return change.firstOp + offset
        low = middle + 1
      }
    }
    return -1
  }

  op(at: number): IndexedOp {
    const kind = this.kinds[at]!
    return {
      kind: kind & ~INSERT,
      insert: (kind & INSERT) !== 0,
      object: this.objects[at]!,
      place: this.places[at]!,
    }
  }

  /** How many objects are around the content of this one; 0 for the root. */
  depth(object: number): number {
    return object === ROOT ? 0 : (this.depths.get(object) ?? 0)
  }

  /** The number by which a map key is known, and a new one if it is new. */
  keyNumber(key: string): number {
    let number = this.keyNumbers.get(key)
    if (number === undefined) {
      number = this.keyNumbers.size
      this.keyNumbers.set(key, number)
    }
    return number
  }

  /** Appends a change that passed `checkStructure` on this index. */
  add(change: NewChange): void {
    const deps = change.deps.map(hash => this.find(hash)!)
    let actor = this.actorNumbers.get(change.actor)
    if (actor === undefined) {
      actor = this.chains.length
      this.actorNumbers.set(change.actor, actor)
      this.chains.push([])
    }
    const [only] = deps
    const past = deps.length === 1 && only?.actor === actor ? only.past : this.join(deps)
    const at = this.changes.length
    this.changes.push({
      hash: change.hash,
      actor,
      seq: change.seq,
      startOp: change.startOp,
      maxOp: change.startOp + change.ops.length - 1,
      firstOp: this.ops,
      past,
    })
    this.byHash.set(change.hash, at)
    this.chains[actor]!.push(at)
    this.lostHeads.push(change.deps.filter(hash => this.heads.delete(hash)))
    this.heads.add(change.hash)
    this.reserve(change.ops.length)
    for (const op of change.ops) {
      this.kinds[this.ops] = op.kind | (op.insert ? INSERT : 0)
      this.objects[this.ops] = op.object
      this.places[this.ops] = op.place
      if (op.kind <= KIND.text) this.depths.set(this.ops, this.depth(op.object) + 1)
      this.ops++
    }
  }

  /** Forgets all but the oldest `changeCount` changes. */
  truncate(changeCount: number): void {
    while (this.changes.length > changeCount) {
      const change = this.changes.pop()!
      this.byHash.delete(change.hash)
      this.chains[change.actor]!.pop()
      this.heads.delete(change.hash)
      for (const hash of this.lostHeads.pop()!) this.heads.add(hash)
      for (let i = change.firstOp; i < this.ops; i++) this.depths.delete(i)
      this.ops = change.firstOp
    }
  }

  private opsOf(at: number): number {
    const change = this.changes[at]!
    return change.maxOp - change.startOp + 1
  }

  private reserve(count: number): void {
    const needed = this.ops + count
    if (needed <= this.kinds.length) return
    const size = Math.max(needed, this.kinds.length * 2)
    const kinds = new Uint8Array(size)
    const objects = new Int32Array(size)
    const places = new Int32Array(size)
    kinds.set(this.kinds)
    objects.set(this.objects)
    places.set(this.places)
    this.kinds = kinds
    this.objects = objects
    this.places = places
  }
}

function grown(clock: Uint32Array, length: number): Uint32Array {
  const copy = new Uint32Array(Math.max(length, clock.length))
  copy.set(clock)
  return copy
}
