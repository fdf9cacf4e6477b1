import * as Automerge from '@automerge/automerge'
import type { PipelineDefinition } from './definition.ts'
import { makeEqualTo } from './make-equal.ts'
import { createPipeline } from './pipeline-document.ts'
import { pipelineFromDoc } from './read-pipeline.ts'

/**
 * What a definition becomes when somebody's edits of it, from `base` to `mine`, are made on `theirs` instead: texts are merged
 * letter by letter, and what only `theirs` changed stays as it is there. None of the three histories is needed.
 */
export function rebaseDefinition(definitions: {
  readonly base: PipelineDefinition
  readonly mine: PipelineDefinition
  readonly theirs: PipelineDefinition
}): PipelineDefinition {
  const base = createPipeline(definitions.base)
  const theirs = makeEqualTo(Automerge.clone(base), definitions.theirs, 'theirs')
  const mine = makeEqualTo(Automerge.clone(base), definitions.mine, 'mine')
  const merged = Automerge.merge(theirs, mine)
  const result = pipelineFromDoc(merged)
  for (const doc of [base, mine, merged]) Automerge.free(doc)
  return result
}
