import * as Automerge from '@automerge/automerge'
import {
  commentsDocumentId,
  createComments,
  createPipeline,
  makeEqualTo,
  type PipelineDefinition,
  type PipelineDoc,
  type Problem,
  pipelineFromDoc,
  pipelineFromFiles,
  pipelineToFiles,
} from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { newId, type Subject } from '@pluto-duck/crdt-model/protocol'
import type { ContractProblem, PipelineEntry } from '../contract/index.ts'
import type { DocumentInfo, Documents } from '../documents/index.ts'
import type { VersionCache } from '../versions/version-cache.ts'
import type { Overview, Overviews } from './overviews.ts'

/** What the list needs from the other features of the host. */
export interface PipelineFacts {
  /** Marks that somebody here has looked at. */
  reviewedMarks(): Promise<ReadonlySet<string>>
  /** The last run of each pipeline. */
  lastRuns(): Promise<ReadonlyMap<string, PipelineEntry['last_run']>>
}

/** What a pipeline is right now on this device. */
export interface WorkingState {
  readonly definition: PipelineDefinition
  readonly heads: readonly string[]
}

/** The pipelines of the open workspace, as documents: list, make, import, export, comments. */
export class Pipelines {
  readonly #documents: Documents
  readonly #versions: VersionCache
  readonly #overviews: Overviews
  readonly #facts: PipelineFacts

  constructor(documents: Documents, versions: VersionCache, overviews: Overviews, facts: PipelineFacts) {
    this.#documents = documents
    this.#versions = versions
    this.#overviews = overviews
    this.#facts = facts
  }

  /** Every pipeline by name. Loads none whose overview is there. */
  async list(workspaceId: string): Promise<PipelineEntry[]> {
    const infos = this.#documents
      .list(workspaceId)
      .filter(info => info.kind === 'pipeline' && info.base === null)
    const overviews = await this.#overviews.all(infos)
    const entries = await this.#entries(infos, overviews)
    return entries.sort((a, b) => a.name.localeCompare(b.name) || a.pipeline_id.localeCompare(b.pipeline_id))
  }

  async entry(pipelineId: string): Promise<PipelineEntry> {
    const info = this.info(pipelineId)
    const overview = await this.#overviews.of(info)
    return (await this.#entries([info], new Map([[pipelineId, overview]])))[0]!
  }

  info(pipelineId: string): DocumentInfo {
    const info = this.#documents.has(pipelineId) ? this.#documents.info(pipelineId) : null
    if (info?.kind !== 'pipeline') {
      throw new AppError('pipeline.not_found', 'There is no such pipeline on this machine.', {
        details: { pipeline_id: pipelineId },
      })
    }
    return info
  }

  /** Throws `document.too_new` for a pipeline of which this program may not know everything. */
  async working(pipelineId: string): Promise<WorkingState> {
    this.info(pipelineId)
    await this.#documents.assertKnown(pipelineId)
    return await this.#documents.read(pipelineId, doc => ({
      definition: pipelineFromDoc(doc),
      heads: Automerge.getHeads(doc),
    }))
  }

  async create(workspaceId: string, pipelineId: string, name: string): Promise<PipelineEntry> {
    const names = await this.list(workspaceId)
    if (names.some(entry => entry.name === name && entry.pipeline_id !== pipelineId)) {
      throw new AppError('request.invalid', `There is a pipeline ${JSON.stringify(name)} already.`, {
        hint: 'Choose another name.',
      })
    }
    if (!this.#documents.has(pipelineId)) {
      const doc = createPipeline({ name })
      await this.#documents.create({ documentId: pipelineId, workspaceId, kind: 'pipeline', doc })
      Automerge.free(doc)
    }
    return this.entry(pipelineId)
  }

  /** Brings the pipeline of the files' name (or `pipelineId`) up to the files, or makes it. Nothing changes when there is a problem. */
  async import(
    workspaceId: string,
    files: Record<string, string>,
    pipelineId?: string,
  ): Promise<
    | { state: 'imported'; pipeline: PipelineEntry; created: boolean }
    | { state: 'problems'; problems: ContractProblem[] }
  > {
    const first = pipelineFromFiles(files)
    if (!first.ok) return { state: 'problems', problems: first.problems.map(toContractProblem) }
    const known = pipelineId ?? (await this.#byName(workspaceId, first.definition.name))
    if (!known) {
      const id = newId()
      const doc = createPipeline(first.definition)
      await this.#documents.create({ documentId: id, workspaceId, kind: 'pipeline', doc })
      Automerge.free(doc)
      return { state: 'imported', pipeline: await this.entry(id), created: true }
    }
    const { definition: base } = await this.working(known)
    const read = pipelineFromFiles(files, { base })
    if (!read.ok) return { state: 'problems', problems: read.problems.map(toContractProblem) }
    await this.#documents.edit<PipelineDoc>(known, doc => makeEqualTo(doc, read.definition, 'import'))
    return { state: 'imported', pipeline: await this.entry(known), created: false }
  }

  /** A pipeline at a definition: the working state, or a version's. */
  files(definition: PipelineDefinition): Record<string, string> {
    return pipelineToFiles(definition)
  }

  /** The comments document of a subject: the same id and first change on every device, so two that begin offline make one. */
  async comments(workspaceId: string, subject: Subject): Promise<string> {
    const about = { subject_kind: subject.kind, subject_id: subject.id }
    const documentId = commentsDocumentId(about)
    if (!this.#documents.has(documentId)) {
      const doc = createComments(about)
      await this.#documents.create({ documentId, workspaceId, kind: 'comments', subject, doc })
      Automerge.free(doc)
    }
    return documentId
  }

  async #byName(workspaceId: string, name: string): Promise<string | null> {
    const entries = await this.list(workspaceId)
    return entries.find(entry => entry.name === name)?.pipeline_id ?? null
  }

  async #entries(
    infos: readonly DocumentInfo[],
    overviews: ReadonlyMap<string, Overview | null>,
  ): Promise<PipelineEntry[]> {
    const [reviewed, lastRuns] = await Promise.all([this.#facts.reviewedMarks(), this.#facts.lastRuns()])
    return await Promise.all(
      infos.map(async info => {
        const overview = overviews.get(info.documentId) ?? null
        const current = await this.#versions.current(info.documentId)
        return {
          pipeline_id: info.documentId,
          name: overview?.name ?? info.title,
          description: overview?.description ?? '',
          tags: overview?.tags ?? [],
          steps: overview?.steps ?? null,
          current_version: current?.number ?? null,
          unpublished: overview?.unpublished ?? null,
          marks: overview?.marks.filter(mark => !reviewed.has(mark.id)).length ?? 0,
          last_run: lastRuns.get(info.documentId) ?? null,
          updated_at: info.updatedAt,
          unreadable: overview?.unreadable ?? null,
        }
      }),
    )
  }
}

export const toContractProblem = (problem: Problem): ContractProblem => ({
  code: problem.code,
  message: problem.message,
  hint: problem.hint,
  severity: problem.severity,
  file: problem.file ?? null,
  line: problem.line ?? null,
  column: problem.column ?? null,
  step_id: problem.step_id ?? null,
})
