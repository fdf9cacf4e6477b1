import * as Automerge from '@automerge/automerge'
import { canonicalJson, sha256Hex } from '../canonical/canonical.ts'
import { CausalWindow, type ChangeRecord, changesInQuestion, isLinear } from './causality.ts'
import { ObjectPaths } from './object-paths.ts'
import type { PipelineDoc } from './schema.ts'
import { targetsOf } from './touched-targets.ts'

export type { ChangeRecord } from './causality.ts'

/** One thing that two people changed without seeing each other's change. Somebody looks before it is published. */
export interface Mark {
  /** sha256 (hex) of the target and the sides' hashes: a further concurrent edit makes another mark. */
  readonly id: string
  /** `deletion`: one side removed what the other changed. */
  readonly kind: 'text' | 'setting' | 'deletion'
  readonly step_id?: string
  /**
   * `sql`, `description`, `report`, `name`, `tags`, a step setting's key, `step` (made twice), `deleted`, `tests/<id>`,
   * `params/<name>`, `sources/<name>`, `publish/<key>`.
   */
  readonly field: string
  /** The latest concurrent changes, none of which has another in its past; sorted by hash, at least two. */
  readonly sides: readonly MarkSide[]
  /**
   * What each side had, in the order of `sides`: a text, a setting's value (`null`: the default), a param, source or test
   * as it was (`null`: removed), for a step's deletion `{deleted, sql}`.
   */
  readonly values: readonly unknown[]
}

export interface MarkSide {
  readonly hashes: readonly string[]
  /** Who made this side's concurrent changes, sorted; changes that the server has not yet are of nobody. */
  readonly author_ids: readonly string[]
}

export interface MarksInput {
  readonly doc: Automerge.Doc<PipelineDoc>
  /** The heads of the last version; `[]` when there is none. */
  readonly since: readonly string[]
  /** The server's records by change hash. A change without one is not stored yet: not live. */
  readonly records: ReadonlyMap<string, ChangeRecord>
  /** Changes that this device wrote live and whose record it was not told yet. Default: none. */
  readonly writtenLive?: ReadonlySet<string>
}

/**
 * The marks of a document since a version: pure, and the same on every device that has the same changes and records.
 *
 * Marked is what two changes touched when neither has the other in its past, at least one came since the version, and one
 * of them was not written live or was stored more than 5 s after the other. Settings that both sides gave the same value
 * are not marked; nor are texts, unless merging two equal edits made a third text.
 */
export function conflictMarks({ doc, since, records, writtenLive = new Set() }: MarksInput): Mark[] {
  if (isLinear(doc, since)) return []
  const { changes, fresh } = changesInQuestion(doc, since)
  if (fresh.size === 0) return []
  const paths = ObjectPaths.of(doc)
  for (const change of changes) paths.addChange(change)
  const touched = targetsOf(changes, paths)
  const order = new CausalWindow(changes, fresh, records, writtenLive)
  const views = new Views(doc)
  const marks: Mark[] = []
  for (const [target, { changes: touching, field, stepId, kind, reader, rivals }] of touched) {
    const met = order.concurrent(touching, rivals)
    if (met.size === 0) continue
    const frontier = order.maximal(met)
    const values = frontier.map(change => reader(views.at(change.hash)))
    // Both gave it the same value: nothing to look at, unless merging two equal texts made a third.
    const merged = kind === 'text' ? [reader(views.at(...frontier.map(change => change.hash)))] : []
    if (new Set([...values, ...merged].map(value => canonicalJson(value))).size === 1) continue
    const removed = kind === 'setting' && /^(params|sources|tests)\//.test(field) && values.includes(null)
    marks.push({
      id: sha256Hex(canonicalJson([target, frontier.map(change => change.hash)])),
      kind: removed ? 'deletion' : kind,
      ...(stepId === undefined ? {} : { step_id: stepId }),
      field,
      sides: frontier.map(change => ({
        hashes: [change.hash],
        author_ids: order.authorsOfSide(change, frontier, met),
      })),
      values,
    })
  }
  return marks.sort((a, b) => (a.id < b.id ? -1 : 1))
}

/** The document as it was at some heads; each is materialised once. */
class Views {
  readonly #doc: Automerge.Doc<PipelineDoc>
  readonly #held = new Map<string, Record<string, unknown>>()

  constructor(doc: Automerge.Doc<PipelineDoc>) {
    this.#doc = doc
  }

  at(...heads: string[]): Record<string, unknown> {
    const key = heads.join()
    let view = this.#held.get(key)
    if (!view) {
      view = Automerge.view(this.#doc, heads) as unknown as Record<string, unknown>
      this.#held.set(key, view)
    }
    return view
  }
}
