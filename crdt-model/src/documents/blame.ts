import * as Automerge from '@automerge/automerge'
import { isMap, stringOf } from './registers.ts'
import type { PipelineDoc } from './schema.ts'

export interface BlamedLine {
  /** Without its line break. */
  readonly text: string
  /** In UTF-16 code units, with its line break if it has one. */
  readonly length: number
  /** The latest change that wrote a character of the line that is still there; null for a text that is none. */
  readonly change: string | null
}

/** Which change wrote each operation of a document, and which version had a change first. */
export class ChangeFinder {
  readonly #chains = new Map<string, { readonly startOp: number; readonly hash: string }[]>()
  readonly #deps = new Map<string, readonly string[]>()
  readonly #versions = new Map<string, number>()

  /** @param versions with the heads that they were published at; in any order. */
  constructor(
    doc: Automerge.Doc<unknown>,
    versions: readonly { readonly number: number; readonly heads: readonly string[] }[] = [],
  ) {
    for (const { actor, startOp, hash, deps } of Automerge.getChangesMetaSince(doc, [])) {
      const chain = this.#chains.get(actor) ?? []
      this.#chains.set(actor, chain)
      chain.push({ startOp, hash })
      this.#deps.set(hash, deps)
    }
    for (const chain of this.#chains.values()) chain.sort((a, b) => a.startOp - b.startOp)
    // Each change is visited once: what an earlier version had is not walked again.
    for (const { number, heads } of versions.toSorted((a, b) => a.number - b.number)) {
      const todo = [...heads]
      for (let hash = todo.pop(); hash !== undefined; hash = todo.pop()) {
        if (this.#versions.has(hash) || !this.#deps.has(hash)) continue
        this.#versions.set(hash, number)
        todo.push(...(this.#deps.get(hash) ?? []))
      }
    }
  }

  /** The change with this operation, written as Automerge does: `counter@actor`. */
  changeOf(op: string): string | null {
    const at = op.indexOf('@')
    const counter = Number(op.slice(0, at))
    const chain = this.#chains.get(op.slice(at + 1)) ?? []
    let [low, high] = [0, chain.length - 1]
    while (low < high) {
      const middle = Math.ceil((low + high) / 2)
      if ((chain[middle] as { startOp: number }).startOp <= counter) low = middle
      else high = middle - 1
    }
    return chain[low]?.hash ?? null
  }

  /** The first version that has the change; null when none has. */
  versionOf(change: string): number | null {
    return this.#versions.get(change) ?? null
  }
}

/** Who wrote each line of a step's SQL (by step id) or of the report, as changes. */
export function blameLines(
  doc: Automerge.Doc<PipelineDoc>,
  target: string,
  finder: ChangeFinder,
): BlamedLine[] {
  const path: Automerge.Prop[] = target === 'report' ? ['report'] : ['steps', target, 'sql']
  const holder: unknown = target === 'report' ? doc : doc.steps[target]
  const text = isMap(holder) ? stringOf(holder[path.at(-1) as string]) : undefined
  if (text === undefined) return []
  const lines = text.split('\n')
  if (lines.at(-1) === '' && lines.length > 1) lines.pop()
  let from = 0
  return lines.map(line => {
    // An empty line is its line break.
    const length = line.length || (from < text.length ? 1 : 0)
    let latest: string | null = null
    let greatest = -1
    for (let at = from; at < from + length; at++) {
      const op = String(Automerge.getCursor(doc, path, at)).replace(/^[-+]/, '')
      const counter = Number.parseInt(op, 10)
      if (counter <= greatest) continue
      greatest = counter
      latest = op
    }
    const end = Math.min(from + line.length + 1, text.length)
    const whole = end - from
    from = end
    return {
      text: line.replace(/\r$/, ''),
      length: whole,
      change: latest === null ? null : finder.changeOf(latest),
    }
  })
}
