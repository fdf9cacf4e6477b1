/** A step and the steps that it reads, by name. */
export interface GraphNode {
  readonly name: string
  readonly needs: readonly string[]
}

export interface Order {
  /** Every node outside a cycle and not behind one; each after what it needs, else in the order given. */
  readonly order: readonly string[]
  /** Each cycle once, as a path that ends where it began: `a -> b -> a`. */
  readonly cycles: ReadonlyArray<readonly string[]>
}

/** Needs outside the graph are ignored: whoever found them has reported them. */
export function topologicalOrder(nodes: readonly GraphNode[]): Order {
  const byName = new Map(nodes.map(node => [node.name, node]))
  const state = new Map<string, 'open' | 'done' | 'blocked'>()
  const order: string[] = []
  const cycles: string[][] = []

  const visit = (name: string, path: readonly string[]): boolean => {
    const known = state.get(name)
    if (known === 'done') return true
    if (known === 'blocked') return false
    if (known === 'open') {
      cycles.push([...path.slice(path.indexOf(name)), name])
      return false
    }
    state.set(name, 'open')
    const needs = byName.get(name)!.needs.filter(need => byName.has(need))
    const free = needs.map(need => visit(need, [...path, name])).every(Boolean)
    state.set(name, free ? 'done' : 'blocked')
    if (free) order.push(name)
    return free
  }
  for (const node of nodes) visit(node.name, [])
  return { order, cycles }
}

/** The given nodes and everything that needs them, however far. */
export function withDownstream(nodes: readonly GraphNode[], from: Iterable<string>): Set<string> {
  const found = new Set(from)
  for (let grew = true; grew; ) {
    const before = found.size
    for (const node of nodes) if (node.needs.some(need => found.has(need))) found.add(node.name)
    grew = found.size > before
  }
  return found
}

/** The given nodes and everything that they need, however far. */
export function withUpstream(nodes: readonly GraphNode[], from: Iterable<string>): Set<string> {
  const byName = new Map(nodes.map(node => [node.name, node]))
  const found = new Set<string>()
  const open = [...from]
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    if (found.has(name)) continue
    found.add(name)
    open.push(...(byName.get(name)?.needs ?? []).filter(need => byName.has(need)))
  }
  return found
}
