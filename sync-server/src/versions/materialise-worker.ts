import { parentPort } from 'node:worker_threads'
import * as Automerge from '@automerge/automerge'
import {
  canonicalJson,
  conflictMarks,
  contentHash,
  kindOf,
  type PipelineDoc,
  pipelineFromDoc,
  pipelineToFiles,
  problemsOf,
  SCHEMA_VERSION,
} from '@pluto-duck/crdt-model'
import { toAppError } from '@pluto-duck/crdt-model/errors'
import { atHeads } from './at-heads.ts'
import type { Materialised, MaterialiseReply, MaterialiseRequest } from './materialise.ts'

/**
 * The other side of `Materialiser`: a document at given heads, read as a pipeline. It holds nothing between requests and is
 * killed when it takes too long.
 */
const materialise = (request: MaterialiseRequest): Materialised => {
  const whole = load(request)
  if (!Automerge.hasHeads(whole, [...request.heads])) return { status: 'unknown_heads' }
  const doc = atHeads(whole, request.heads)
  if (kindOf(doc) !== 'pipeline') return { status: 'not_a_pipeline' }
  // What this server does not know of it, it would leave out of the version.
  if (Number(doc.schema_version) > SCHEMA_VERSION) return { status: 'too_new' }
  const definition = pipelineFromDoc(doc)
  const problems = problemsOf(doc).filter(problem => problem.severity === 'error')
  if (problems.length > 0) return { status: 'invalid', problems }
  const knowsParent = Automerge.hasHeads(doc, [...request.parentHeads])
  return {
    status: 'ok',
    definition: canonicalJson(definition),
    contentHash: contentHash(definition),
    files: pipelineToFiles(definition),
    heads: Automerge.getHeads(doc).toSorted(),
    knowsParent,
    since: knowsParent
      ? Automerge.getChangesMetaSince(doc, [...request.parentHeads]).map(change => change.hash)
      : [],
    marks: conflictMarks({ doc, since: request.parentHeads, records: request.records }),
  }
}

const load = ({ snapshot, changes }: MaterialiseRequest): Automerge.Doc<PipelineDoc> => {
  const base = snapshot ? Automerge.load<PipelineDoc>(snapshot) : Automerge.init<PipelineDoc>()
  return changes.length === 0 ? base : Automerge.applyChanges(base, [...changes])[0]
}

parentPort?.on('message', (request: MaterialiseRequest) => {
  let reply: MaterialiseReply
  try {
    reply = { id: request.id, result: materialise(request) }
  } catch (error) {
    const { message, cause } = toAppError(error)
    const why = cause instanceof Error ? cause.message : message
    reply = { id: request.id, result: { status: 'failed', reason: why } }
  }
  parentPort?.postMessage(reply)
})
