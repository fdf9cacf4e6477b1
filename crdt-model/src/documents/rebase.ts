import * as Automerge from '@automerge/automerge'
import type { PipelineDefinition } from './definition.ts'
import { forkAt } from './fork.ts'
import { makeEqualTo } from './make-equal.ts'
import { createPipeline } from './pipeline-document.ts'
import { pipelineFromDoc } from './read-pipeline.ts'
import type { PipelineDoc } from './schema.ts'

type Doc = Automerge.Doc<PipelineDoc>

/** What somebody wrote: a document before and after it. */
export interface PipelineEdits {
  readonly base: Doc
  readonly mine: Doc
}

/**
 * What a pipeline is when somebody's edits are made on `theirs` instead of their base. Texts merge by the changes themselves, so of what
 * the base had and `theirs` has not, no letter comes back with a word that was edited. Where both changed one setting either may stay.
 * The documents stay the caller's. When `mine` does not hold the history of its base the edits are found by comparing, word by word.
 */
export function rebaseDefinition(edits: PipelineEdits, theirs: PipelineDefinition): PipelineDefinition {
  const shared = Automerge.hasHeads(edits.mine, Automerge.getHeads(edits.base))
  const { base, mine } = shared ? edits : compared(edits)
  const merged = Automerge.merge(makeEqualTo(Automerge.clone(base), theirs, 'theirs'), mine)
  const result = pipelineFromDoc(merged)
  for (const doc of shared ? [merged] : [merged, mine, base]) Automerge.free(doc)
  return result
}

/** The same edits as changes of a new document. */
function compared({ base, mine }: PipelineEdits): PipelineEdits {
  const from = createPipeline(pipelineFromDoc(base))
  return { base: from, mine: makeEqualTo(Automerge.clone(from), pipelineFromDoc(mine), 'mine') }
}

/**
 * What a pipeline is without what some of its changes wrote: letters that they inserted are gone wherever they stand now, and what they
 * took out is back, but for what another of them had written. What others wrote since stays; where somebody changed the same setting since, either may stay.
 *
 * Method: each change is reverted where it was made, and the revert is merged like anybody's edit. Changes follow each other, so what a
 * revert puts back is already without the changes before it.
 */
export class Without {
  readonly #doc: Doc
  /** In causal order. */
  readonly #reverts: { readonly hash: string; readonly doc: Doc }[] = []

  /**
   * @param doc stays the caller's, and unchanged while this is used.
   * @param hashes of changes of the document that build on something.
   */
  constructor(doc: Doc, hashes: readonly string[]) {
    this.#doc = doc
    const changes = Automerge.getChangesMetaSince(doc, []).filter(change => hashes.includes(change.hash))
    for (const { hash, deps } of changes) {
      const before = this.#at(deps)
      // Upon the reverts before it, so that what these put back is not put back twice.
      const reverted = makeEqualTo(this.#at([hash]), pipelineFromDoc(before), 'revert')
      Automerge.free(before)
      this.#reverts.push({ hash, doc: reverted })
    }
  }

  /** Throws `document.corrupt` when the document does not have the heads. */
  at(heads: readonly string[]): PipelineDefinition {
    const doc = this.#at(heads)
    const definition = pipelineFromDoc(doc)
    Automerge.free(doc)
    return definition
  }

  #at(heads: readonly string[]): Doc {
    let doc = forkAt(this.#doc, heads)
    for (const revert of this.#reverts)
      if (Automerge.hasHeads(doc, [revert.hash])) doc = Automerge.merge(doc, revert.doc)
    return doc
  }

  free(): void {
    for (const { doc } of this.#reverts) Automerge.free(doc)
  }
}
