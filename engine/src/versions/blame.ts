import * as Automerge from '@automerge/automerge'
import { blameLines, ChangeFinder, forkAt, type PipelineDoc, pipelineFromDoc } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import type { OutputOf } from '../contract/index.ts'
import type { Documents } from '../documents/index.ts'
import type { VersionCache } from './version-cache.ts'

export interface BlameNeeds {
  readonly documents: Documents
  readonly versions: VersionCache
  /** The server's records of changes, by hash. */
  recordsOf(
    documentId: string,
    hashes: readonly string[],
  ): Promise<ReadonlyMap<string, { readonly author: { user_id: string; name: string }; readonly at: string }>>
}

/** Who wrote each line of a pipeline's texts. The authors are the server's record's, never the document's. */
export const blame = async (
  { documents, versions, recordsOf }: BlameNeeds,
  pipelineId: string,
  target: string | null,
  version: number | null,
): Promise<OutputOf<'version.blame'>> => {
  const { base } = documents.info(pipelineId)
  const known = await versions.list(base ?? pipelineId)
  const at = version === null ? null : known.find(one => one.number === version)
  if (at === undefined) throw new AppError('version.not_found', `There is no version ${version}.`)
  const messages = new Map(known.map(one => [one.number, one.message]))
  const found = await documents.read<
    { target: string; lines: { text: string; change: string | null; version: number | null }[] }[]
  >(pipelineId, doc => {
    const finder = new ChangeFinder(doc, known)
    const shown = at ? forkAt(doc, at.heads) : doc
    try {
      return textsOf(shown, target).map(text => ({
        target: text.name,
        lines: blameLines(shown, text.id, finder).map(line => ({
          ...line,
          version: line.change === null ? null : finder.versionOf(line.change),
        })),
      }))
    } finally {
      if (shown !== doc) Automerge.free(shown)
    }
  })
  const hashes = new Set(found.flatMap(text => text.lines.flatMap(line => line.change ?? [])))
  const records = new Map(await recordsOf(pipelineId, [...hashes]))
  // What a draft builds on is in its pipeline's records.
  if (base !== null)
    for (const [hash, record] of await recordsOf(base, [...hashes])) records.set(hash, record)
  return {
    texts: found.map(text => ({
      target: text.target,
      lines: text.lines.map(line => {
        const record = line.change === null ? undefined : records.get(line.change)
        return {
          ...line,
          author: record?.author ?? null,
          at: record?.at ?? null,
          message: line.version === null ? null : (messages.get(line.version) ?? null),
        }
      }),
    })),
  }
}

const textsOf = (doc: Automerge.Doc<PipelineDoc>, target: string | null): { name: string; id: string }[] => {
  const { steps } = pipelineFromDoc(doc)
  const all = [...steps.map(({ name, id }) => ({ name, id })), { name: 'report', id: 'report' }]
  if (target === null) return all
  const found = all.filter(text => text.name === target)
  if (found.length > 0) return found
  throw new AppError('step.not_found', `There is no step ${JSON.stringify(target)}.`, {
    hint: `There are: ${all.map(text => text.name).join(', ')}.`,
  })
}
