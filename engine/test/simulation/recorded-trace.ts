import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import * as A from '@automerge/automerge'
import { createPipeline, editPipeline, type PipelineDoc, spliceReport } from '@pluto-duck/crdt-model'
import { z } from 'zod'

/** Beside the repository, where who has recorded traces of people's typing keeps them. */
const FILE = join(
  import.meta.dirname,
  '..',
  '..',
  '..',
  '..',
  'shared',
  'data',
  'traces',
  'clownschool.json.gz',
)

const trace = z.object({
  endContent: z.string(),
  txns: z.array(
    z.object({
      parents: z.array(z.number()),
      agent: z.number(),
      patches: z.array(z.tuple([z.number(), z.number(), z.string()])),
    }),
  ),
})

export interface RecordedTrace {
  readonly endContent: string
  readonly txns: z.infer<typeof trace>['txns']
}

/** Null where there is none. */
export const readTrace = (): RecordedTrace | null =>
  existsSync(FILE) ? trace.parse(JSON.parse(gunzipSync(readFileSync(FILE)).toString())) : null

/** One keystroke as its author made it, knowing exactly what the record says that they knew. */
export interface TracedChange {
  /** 0 or 1: whose device. Later agents of the record are the second author, who came again. */
  readonly author: 0 | 1
  readonly hash: string
  readonly bytes: Uint8Array
  /** Changes of the other author, which have to be there before it: indexes. */
  readonly needs: readonly number[]
}

export const authorOf = (agent: number): 0 | 1 => (agent === 0 ? 0 : 1)

/** The document in whose report the text is written. */
export const emptyDocument = (): A.Doc<PipelineDoc> =>
  createPipeline({ name: 'trace', steps: [{ id: 'one', name: 'one', sql: 'select 1' }] })

/** Writes the first `count` changes of the record, each on a replica that holds exactly its causal past. */
export function writeTrace(
  base: A.Doc<PipelineDoc>,
  txns: RecordedTrace['txns'],
): { changes: TracedChange[]; text: string } {
  const replicas = new Map<number, { doc: A.Doc<PipelineDoc>; known: Set<number> }>()
  const changes: TracedChange[] = []
  for (const [index, { parents, agent, patches }] of txns.entries()) {
    const replica = replicas.get(agent) ?? { doc: A.clone(base), known: new Set<number>() }
    replicas.set(agent, replica)
    const missing = pastOf(txns, parents, replica.known)
    if (missing.length > 0)
      [replica.doc] = A.applyChanges(
        replica.doc,
        missing.map(at => changes[at]!.bytes),
      )
    const want = parents.length > 0 ? parents.map(at => changes[at]!.hash) : A.getHeads(base)
    if (A.getHeads(replica.doc).toSorted().join() !== want.toSorted().join())
      throw new Error(`the record's author of ${index} forgot something`)
    replica.doc = editPipeline(replica.doc, 'type', d => {
      for (const [at, deleted, text] of patches) spliceReport(d, at, deleted, text)
    })
    replica.known.add(index)
    const author = authorOf(agent)
    changes.push({
      author,
      hash: A.getHeads(replica.doc)[0]!,
      bytes: A.getLastLocalChange(replica.doc)!,
      needs: missing.filter(at => changes[at]!.author !== author),
    })
  }
  const all = A.applyChanges(
    A.clone(base),
    changes.map(change => change.bytes),
  )[0]
  const text = String(all.report)
  A.free(all)
  for (const { doc } of replicas.values()) A.free(doc)
  return { changes, text }
}

function pastOf(txns: RecordedTrace['txns'], parents: readonly number[], known: Set<number>): number[] {
  const missing: number[] = []
  const stack = [...parents]
  for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
    if (known.has(at)) continue
    known.add(at)
    missing.push(at)
    stack.push(...txns[at]!.parents)
  }
  return missing.sort((a, b) => a - b)
}
