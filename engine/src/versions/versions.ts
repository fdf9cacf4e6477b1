import * as Automerge from '@automerge/automerge'
import {
  contentHash,
  makeEqualTo,
  type PipelineDefinition,
  type PipelineDoc,
  pipelineFromDoc,
  problemsOf,
} from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId, type VersionSummary } from '@pluto-duck/crdt-model/protocol'
import type { Comparison, ContractMark, ContractProblem, OutputOf, ParsedInputOf } from '../contract/index.ts'
import type { Documents } from '../documents/index.ts'
import type { PublishRequest, PublishState } from '../publish/machine.ts'
import { type ComparedSide, compareSides, type StepFacts } from './compare.ts'
import type { VersionCache } from './version-cache.ts'

export type PublishOutcome = OutputOf<'version.publish'>
export type RestoreOutcome = OutputOf<'version.restore'>
type Side = ParsedInputOf<'version.compare'>['before']

/** What the other features of the host do for versions. */
export interface VersionNeeds {
  /** The marks of a pipeline since its current version, with what was looked at on this device. */
  marks(pipelineId: string): Promise<ContractMark[]>
  /** Problems that compile finds; those of sources on this machine are left out. */
  compileProblems(pipelineId: string, definition: PipelineDefinition): Promise<ContractProblem[]>
  stepFacts(pipelineId: string, definition: PipelineDefinition): Promise<ReadonlyMap<string, StepFacts>>
  /** Sends and fetches what waits, so that the server has what is published. Returns as well when it can't be reached. */
  sync(workspaceId: string): Promise<void>
  /** Carries a request to its end, or to `queued` when the server can't be reached now. */
  publish(request: PublishRequest): Promise<PublishState>
  toProblem(problem: ReturnType<typeof problemsOf>[number]): ContractProblem
}

/** Publishing, restoring and comparing. The order of things is DESIGN 5: look at marks, publish on the version one saw. */
export class Versions {
  readonly #documents: Documents
  readonly #cache: VersionCache
  readonly #needs: VersionNeeds

  constructor(documents: Documents, cache: VersionCache, needs: VersionNeeds) {
    this.#documents = documents
    this.#cache = cache
    this.#needs = needs
  }

  async publish(pipelineId: string, message: string): Promise<PublishOutcome> {
    const info = this.#documents.info(pipelineId)
    await this.#documents.assertKnown(pipelineId)
    // What the person saw, before a sync brings something newer: the server says if it moved.
    const parent = await this.#cache.current(pipelineId)
    await this.#needs.sync(info.workspaceId)
    const { definition, heads } = await this.#working(pipelineId)
    const problems = [
      ...problemsOf(definition).map(problem => this.#needs.toProblem(problem)),
      ...(await this.#needs.compileProblems(pipelineId, definition)),
    ].filter(problem => problem.severity === 'error')
    if (problems.length > 0) return { state: 'invalid', problems }
    const marks = await this.#needs.marks(pipelineId)
    if (marks.some(mark => !mark.reviewed)) return { state: 'marks', marks }
    return this.#send({
      version_id: newId(),
      workspace_id: info.workspaceId,
      pipeline_id: pipelineId,
      heads: [...heads],
      parent: parent?.number ?? null,
      resolved: marks.map(mark => mark.id),
      message,
      content_hash: contentHash(definition),
    })
  }

  /**
   * Makes the document equal to the version, then publishes it: the new version has the old one's content hash. What is not published
   * is replaced only when it is `mayReplace` changes at most; else a pipeline that has such changes stays as it is.
   */
  async restore(
    pipelineId: string,
    number: number,
    message: string,
    mayReplace: number,
  ): Promise<RestoreOutcome> {
    const info = this.#documents.info(pipelineId)
    await this.#documents.assertKnown(pipelineId)
    const version = await this.#cache.read(pipelineId, number)
    const parent = await this.#cache.current(pipelineId)
    await this.#needs.sync(info.workspaceId)
    const marks = await this.#needs.marks(pipelineId)
    const current = await this.#cache.current(pipelineId)
    let changes = 0
    // Counted and replaced in one: what is typed or comes meanwhile is counted, or stays.
    const { heads } = await this.#documents.edit<PipelineDoc>(pipelineId, doc => {
      changes = unpublished(doc, current, version)
      return changes > mayReplace ? doc : makeEqualTo(doc, version.definition, `restore version ${number}`)
    })
    if (changes > mayReplace) return { state: 'unpublished', changes }
    // A restore says what the whole pipeline is to be: it decides every place that was marked until now.
    const resolved = new Set([...marks, ...(await this.#needs.marks(pipelineId))].map(mark => mark.id))
    return this.#send({
      version_id: newId(),
      workspace_id: info.workspaceId,
      pipeline_id: pipelineId,
      heads: [...heads],
      parent: parent?.number ?? null,
      resolved: [...resolved],
      message: message || `Restore version ${number}`,
      content_hash: version.content_hash,
    })
  }

  async compare(pipelineId: string, before: Side, after: Side): Promise<Comparison> {
    // One after the other, in one sandbox: what they share is parsed and bound once.
    const left = await this.#side(pipelineId, before)
    const right = await this.#side(pipelineId, after)
    return compareSides(pipelineId, left, right)
  }

  /** A side's definition: of a version, of the working state, or of a refused edit. */
  async definitionOf(pipelineId: string, side: Side): Promise<PipelineDefinition> {
    if (side.kind === 'version') return (await this.#cache.read(pipelineId, side.number)).definition
    if (side.kind === 'working') return (await this.#working(pipelineId)).definition
    const draft = await this.#documents.draft(side.draft_id)
    if (draft.kind !== 'pipeline')
      throw new AppError('draft.not_found', 'This local draft is of comments, not of a pipeline.', {
        hint: `Read it: \`pluto local-draft diff ${side.draft_id}\`.`,
      })
    return readBytes(draft.bytes)
  }

  async #side(pipelineId: string, side: Side): Promise<ComparedSide> {
    const definition = await this.definitionOf(pipelineId, side)
    return { definition, facts: await this.#needs.stepFacts(pipelineId, definition) }
  }

  #working(pipelineId: string): Promise<{ definition: PipelineDefinition; heads: readonly string[] }> {
    return this.#documents.read(pipelineId, doc => ({
      definition: pipelineFromDoc(doc),
      heads: Automerge.getHeads(doc),
    }))
  }

  async #send(request: PublishRequest): Promise<PublishOutcome> {
    const state = await this.#needs.publish(request)
    switch (state.state) {
      case 'published':
        await this.#cache.remember(state.version)
        return { state: 'published', version: state.version, created: state.created }
      case 'needs_you':
        return this.#waitsForYou(request.pipeline_id, state.need)
      default:
        return { state: 'queued' }
    }
  }

  async #waitsForYou(
    pipelineId: string,
    need: Extract<PublishState, { state: 'needs_you' }>['need'],
  ): Promise<PublishOutcome> {
    switch (need.kind) {
      case 'marks':
        return { state: 'marks', marks: await this.#needs.marks(pipelineId) }
      case 'moved': {
        const current = need.current ?? (await this.#newest(pipelineId))
        await this.#cache.remember(current)
        const comparison = await this.compare(
          pipelineId,
          { kind: 'version', number: current.number },
          { kind: 'working' },
        )
        return { state: 'moved', current, comparison }
      }
      case 'invalid':
      case 'refused':
        return { state: 'refused', error: need.error }
    }
  }

  async #newest(pipelineId: string): Promise<VersionSummary> {
    const [newest] = await this.#cache.list(pipelineId)
    if (!newest)
      throw new AppError('version.not_found', 'The server says that the version moved, but has none.')
    return newest
  }
}

/** Changes since the current version, which no version has; none when they come to what that or the wanted version is. */
function unpublished(
  doc: Automerge.Doc<PipelineDoc>,
  current: VersionSummary | null,
  wanted: Pick<VersionSummary, 'content_hash'>,
): number {
  const published = new Set([wanted.content_hash, current?.content_hash])
  if (published.has(contentHash(pipelineFromDoc(doc)))) return 0
  const known = (current?.heads ?? []).filter(head => Automerge.hasHeads(doc, [head]))
  return Automerge.getChangesMetaSince(doc, known).length
}

/** The definition in a document's bytes. */
export const readBytes = (bytes: Uint8Array): PipelineDefinition => {
  const doc = Automerge.load<PipelineDoc>(bytes)
  try {
    return pipelineFromDoc(doc)
  } finally {
    Automerge.free(doc)
  }
}
