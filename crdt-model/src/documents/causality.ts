import * as Automerge from '@automerge/automerge'

type Change = Automerge.DecodedChange

/** The server's record of a stored change. */
export interface ChangeRecord {
  readonly seq: number
  /** ISO 8601, UTC. */
  readonly received_at: string
  /** The device said that it was connected and caught up when it wrote the change. */
  readonly live: boolean
  readonly author_id: string
}

/** Changes written live and stored within this time of each other count as typed beside each other. */
export const LIVE_WINDOW_MS = 5_000

/**
 * The changes to compare: those that came since `since` (`fresh`), and the older ones that a late one of them had not seen.
 * Decodes only these. A head of `since` that the document lacks is passed over.
 */
export function changesInQuestion(
  doc: Automerge.Doc<unknown>,
  since: readonly string[],
): { changes: Change[]; fresh: Set<string> } {
  const known = since.filter(head => Automerge.hasHeads(doc, [head]))
  const changes = Automerge.getChangesSince(doc, known).map(bytes => Automerge.decodeChange(bytes))
  const fresh = new Set(changes.map(change => change.hash))
  const held = new Set(fresh)
  const seen = new Set([[...known].sort().join()])
  for (const change of changes.slice()) {
    const older = change.deps.filter(dep => !fresh.has(dep)).sort()
    // A change on top of fresh work has seen at least what that work had seen.
    if (older.length < change.deps.length || seen.has(older.join())) continue
    seen.add(older.join())
    for (const meta of Automerge.getChangesMetaSince(doc, older)) {
      if (held.has(meta.hash)) continue
      held.add(meta.hash)
      const bytes = Automerge.getBackend(doc).getChangeByHash(meta.hash)
      if (bytes) changes.push(Automerge.decodeChange(bytes))
    }
  }
  return { changes, fresh }
}

/**
 * Whether everything since `since` was made one change after another, each with the one before in its past: then nobody met
 * anybody. Reads no operation, so it costs little on a long history.
 */
export function isLinear(doc: Automerge.Doc<unknown>, since: readonly string[]): boolean {
  const known = since.filter(head => Automerge.hasHeads(doc, [head])).sort()
  const metas = Automerge.getChangesMetaSince(doc, known)
  return metas.every((meta, at) =>
    at === 0
      ? meta.deps.length === known.length && meta.deps.toSorted().every((dep, i) => dep === known[i])
      : meta.deps.length === 1 && meta.deps[0] === metas[at - 1]!.hash,
  )
}

interface Node {
  readonly change: Change
  readonly actor: number
  readonly fresh: boolean
  readonly live: boolean
  /** Milliseconds; NaN for what is not stored yet: no time is more than the window away from it. */
  readonly received: number
  readonly author: string | null
  /** By actor, the greatest seq of this window in the change's past, itself included. */
  readonly clock: Uint32Array
}

/** The causal order of a set of changes that holds every change between any two of it. */
export class CausalWindow {
  readonly #nodes = new Map<string, Node>()

  constructor(
    changes: readonly Change[],
    fresh: ReadonlySet<string>,
    records: ReadonlyMap<string, ChangeRecord>,
    writtenLive: ReadonlySet<string>,
  ) {
    const byHash = new Map(changes.map(change => [change.hash, change]))
    const actors = new Map<string, number>()
    for (const { actor } of changes) if (!actors.has(actor)) actors.set(actor, actors.size)
    for (const change of inOrder(changes)) {
      const clock = new Uint32Array(actors.size)
      for (const dep of change.deps) {
        const past = byHash.has(dep) ? this.#nodes.get(dep) : undefined
        if (past)
          for (let at = 0; at < clock.length; at += 1) clock[at] = Math.max(clock[at]!, past.clock[at]!)
      }
      const actor = actors.get(change.actor)!
      clock[actor] = change.seq
      const record = records.get(change.hash)
      this.#nodes.set(change.hash, {
        change,
        actor,
        fresh: fresh.has(change.hash),
        live: record ? record.live : writtenLive.has(change.hash),
        received: record ? Date.parse(record.received_at) : Number.NaN,
        author: record?.author_id ?? null,
        clock,
      })
    }
  }

  /**
   * The changes that met: of `left`, and of `right` when it is given, those concurrent to one of the other (or the same)
   * set, unless both were live within the window of each other or both are old.
   */
  concurrent(left: ReadonlySet<Change>, right?: ReadonlySet<Change>): Set<Change> {
    const met = new Set<Change>()
    const lefts = this.#chains(left)
    const rights = right ? this.#chains(right) : lefts
    for (const a of lefts)
      for (const b of rights)
        if (a[0]!.actor !== b[0]!.actor) {
          meet(a, b, met)
          if (right) meet(b, a, met)
        }
    return met
  }

  /** Those that no other has in its past, sorted by hash. */
  maximal(changes: ReadonlySet<Change>): Change[] {
    const latest = this.#chains(changes).map(chain => chain.at(-1)!)
    return latest
      .filter(node => !latest.some(other => other !== node && isPast(node, other)))
      .map(node => node.change)
      .sort((a, b) => (a.hash < b.hash ? -1 : 1))
  }

  /** Who made a side: the authors of the changes that met, in its past and in no other side's. */
  authorsOfSide(side: Change, sides: readonly Change[], met: ReadonlySet<Change>): string[] {
    const own = this.#node(side)
    const others = sides.filter(other => other !== side).map(other => this.#node(other))
    const authors = new Set<string>()
    for (const change of met) {
      const node = this.#node(change)
      if (node.author === null || !(node === own || isPast(node, own))) continue
      if (!others.some(other => isPast(node, other))) authors.add(node.author)
    }
    return [...authors].sort()
  }

  #node(change: Change): Node {
    return this.#nodes.get(change.hash)!
  }

  /** The changes by actor, each list in the order of seq: each is a chain, every one in the past of the next. */
  #chains(changes: ReadonlySet<Change>): Node[][] {
    const chains = new Map<number, Node[]>()
    for (const change of changes) {
      const node = this.#node(change)
      const chain = chains.get(node.actor)
      if (chain) chain.push(node)
      else chains.set(node.actor, [node])
    }
    for (const chain of chains.values()) chain.sort((a, b) => a.change.seq - b.change.seq)
    return [...chains.values()]
  }
}

const isPast = (past: Node, of: Node): boolean => of.clock[past.actor]! >= past.change.seq

/**
 * Adds what meets between two actors' chains, seen from `a`. What is concurrent to one change is an interval of the other
 * chain, and both of its ends only move forward: linear in the changes, except for pairs of live ones.
 */
function meet(a: readonly Node[], b: readonly Node[], met: Set<Change>): void {
  const offlineBefore = prefixCount(b, node => !node.live)
  const freshFrom = b.findIndex(node => node.fresh)
  let low = 0
  let high = 0
  const marked = { fresh: 0, old: 0 }
  for (const node of a) {
    while (low < b.length && isPast(b[low]!, node)) low += 1
    while (high < b.length && !isPast(node, b[high]!)) high += 1
    // An old change meets only fresh ones: two old ones were looked at when the version was published.
    const from = node.fresh ? low : Math.max(low, freshFrom < 0 ? b.length : freshFrom)
    if (from >= high) continue
    if (!node.live) {
      met.add(node.change)
      const kind = node.fresh ? 'fresh' : 'old'
      for (let at = Math.max(from, marked[kind]); at < high; at += 1) met.add(b[at]!.change)
      marked[kind] = Math.max(marked[kind], high)
      continue
    }
    if (offlineBefore[high]! > offlineBefore[from]!) met.add(node.change)
    for (let at = from; at < high; at += 1) {
      const other = b[at]!
      if (other.live && Math.abs(other.received - node.received) > LIVE_WINDOW_MS) {
        met.add(node.change)
        met.add(other.change)
      }
    }
  }
}

function prefixCount(nodes: readonly Node[], counts: (node: Node) => boolean): number[] {
  const sums = [0]
  for (const node of nodes) sums.push(sums.at(-1)! + (counts(node) ? 1 : 0))
  return sums
}

/** Every change after its dependencies among the given. */
function inOrder(changes: readonly Change[]): Change[] {
  const byHash = new Map(changes.map(change => [change.hash, change]))
  const waiting = new Map<string, number>()
  const dependents = new Map<string, Change[]>()
  const ready: Change[] = []
  for (const change of changes) {
    const inside = change.deps.filter(dep => byHash.has(dep))
    waiting.set(change.hash, inside.length)
    if (inside.length === 0) ready.push(change)
    for (const dep of inside) dependents.set(dep, [...(dependents.get(dep) ?? []), change])
  }
  for (let at = 0; at < ready.length; at += 1)
    for (const next of dependents.get(ready[at]!.hash) ?? []) {
      const left = waiting.get(next.hash)! - 1
      waiting.set(next.hash, left)
      if (left === 0) ready.push(next)
    }
  return ready
}
