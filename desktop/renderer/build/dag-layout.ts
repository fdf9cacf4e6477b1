import { Graph, layout } from '@dagrejs/dagre'

export interface DagStep {
  readonly id: string
  readonly name: string
  /** Names of steps. */
  readonly dependsOn: readonly string[]
}
export interface DagNode {
  readonly id: string
  readonly x: number
  readonly y: number
}
export interface DagEdge {
  readonly from: string
  readonly to: string
  readonly path: string
}
export interface DagLayout {
  readonly nodes: readonly DagNode[]
  readonly edges: readonly DagEdge[]
  readonly width: number
  readonly height: number
}

export const NODE_WIDTH = 168
export const NODE_HEIGHT = 44
const MARGIN = 16

/** Places steps in layers, top to bottom or left to right; `x` and `y` are a node's upper left corner. */
export function layoutDag(steps: readonly DagStep[], direction: 'TB' | 'LR'): DagLayout {
  const graph = new Graph()
  graph.setGraph({ rankdir: direction, nodesep: 16, ranksep: 36, marginx: MARGIN, marginy: MARGIN })
  graph.setDefaultEdgeLabel(() => ({}))
  const idOf = new Map(steps.map(step => [step.name, step.id]))
  for (const step of steps) graph.setNode(step.id, { width: NODE_WIDTH, height: NODE_HEIGHT })
  for (const step of steps)
    for (const name of step.dependsOn) {
      const from = idOf.get(name)
      if (from && from !== step.id) graph.setEdge(from, step.id)
    }
  layout(graph)
  const nodes = steps.map(({ id }) => {
    const { x, y } = graph.node(id) as { x: number; y: number }
    return { id, x: x - NODE_WIDTH / 2, y: y - NODE_HEIGHT / 2 }
  })
  const edges = graph.edges().map(({ v, w }) => {
    const { points } = graph.edge(v, w) as { points: { x: number; y: number }[] }
    return { from: v, to: w, path: curve(points, direction) }
  })
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number }
  return { nodes, edges, width: Math.max(width, NODE_WIDTH), height: Math.max(height, NODE_HEIGHT) }
}

function curve(points: readonly { x: number; y: number }[], direction: 'TB' | 'LR'): string {
  const [first, ...rest] = points
  if (!first) return ''
  let path = `M${first.x},${first.y}`
  let last = first
  for (const point of rest) {
    const mid = direction === 'TB' ? (last.y + point.y) / 2 : (last.x + point.x) / 2
    path +=
      direction === 'TB'
        ? `C${last.x},${mid} ${point.x},${mid} ${point.x},${point.y}`
        : `C${mid},${last.y} ${mid},${point.y} ${point.x},${point.y}`
    last = point
  }
  return path
}
