import * as Automerge from '@automerge/automerge'
import { makeEqualTo, type PipelineDoc, pipelineFromDoc } from '@pluto-duck/crdt-model'
import { AppError, toAppError } from '@pluto-duck/crdt-model/errors'
import { type Draft, draftRoutes, newId, versionSummary } from '@pluto-duck/crdt-model/protocol'
import type { Comparison, ContractMark, DraftEntry, OutputOf } from '../contract/index.ts'
import type { Documents } from '../documents/index.ts'
import { compareSides, type StepFacts } from '../versions/compare.ts'
import type { ServerCalls } from '../versions/server-calls.ts'
import { isOutOfReach, type VersionCache } from '../versions/version-cache.ts'

export interface DraftNeeds {
  readonly documents: Documents
  readonly server: ServerCalls
  readonly versions: VersionCache
  workspaceId(): string
  /** Sends and fetches what waits. Returns as well when the server can't be reached. */
  sync(): Promise<void>
  stepFacts(
    pipelineId: string,
    definition: ReturnType<typeof pipelineFromDoc>,
  ): Promise<ReadonlyMap<string, StepFacts>>
  /** The server's marks as a person reads them. */
  toMarks(pipelineId: string, marks: unknown): Promise<ContractMark[]>
}

type From = 'current' | 'working'

/**
 * Drafts of pipelines: forks that are edited like a pipeline, reviewed and merged. Opening and editing one works offline; what
 * people say about it is the server's, and is asked for there.
 */
export class Drafts {
  readonly #n: DraftNeeds

  constructor(needs: DraftNeeds) {
    this.#n = needs
  }

  async list(pipelineId: string | undefined): Promise<DraftEntry[]> {
    const here = this.#n.documents
      .list(this.#n.workspaceId())
      .filter(info => info.base !== null && (pipelineId === undefined || info.base === pipelineId))
    const there = await this.#told(pipelineId)
    const known = new Map(there?.map(draft => [draft.draft_id, draft]))
    const entries = await Promise.all(
      here.map(info => this.#entry(info.documentId, known.get(info.documentId) ?? null, there !== null)),
    )
    const fetched = new Set(here.map(info => info.documentId))
    const others = [...known.values()].filter(draft => !fetched.has(draft.draft_id))
    return [...entries, ...others.map(draft => this.#ofServer(draft))].sort((a, b) =>
      b.draft_id.localeCompare(a.draft_id),
    )
  }

  async read(draftId: string): Promise<DraftEntry> {
    const { documents, server } = this.#n
    let told: Draft | null = null
    let fresh = true
    try {
      told = await server.call(draftRoutes.read, { params: { draft_id: draftId } })
    } catch (error) {
      if (!isOutOfReach(error) && toAppError(error).code !== 'draft.not_found') throw error
      fresh = toAppError(error).code === 'draft.not_found'
    }
    if (documents.has(draftId)) return await this.#entry(draftId, told, fresh)
    if (told) return this.#ofServer(told)
    throw new AppError('draft.not_found', 'There is no such draft on this machine.')
  }

  async create(draftId: string, pipelineId: string, title: string, from: From): Promise<DraftEntry> {
    const heads = await this.#headsOf(pipelineId, from)
    await this.#n.documents.fork({ documentId: draftId, base: pipelineId, heads, title })
    return await this.read(draftId)
  }

  /** The draft beside its pipeline where it stands on it: what a merge would change there. */
  async compare(draftId: string): Promise<Comparison> {
    const { documents, stepFacts } = this.#n
    const pipelineId = this.#base(draftId)
    const [before, after] = await documents.readFork(draftId, (base, draft) => [
      pipelineFromDoc(base),
      pipelineFromDoc(draft),
    ])
    const [left, right] = [await stepFacts(pipelineId, before), await stepFacts(pipelineId, after)]
    return compareSides(pipelineId, { definition: before, facts: left }, { definition: after, facts: right })
  }

  async takeIn(draftId: string, from: From): Promise<boolean> {
    await this.#n.sync()
    return await this.#n.documents.takeInBase(draftId, await this.#headsOf(this.#base(draftId), from))
  }

  async requestReview(draftId: string, message: string): Promise<DraftEntry> {
    await this.#n.sync()
    await this.#n.server.call(draftRoutes.requestReview, { params: { draft_id: draftId }, body: { message } })
    return await this.read(draftId)
  }

  async review(
    draftId: string,
    verdict: 'approved' | 'changes_requested',
    message: string,
  ): Promise<DraftEntry> {
    await this.#n.sync()
    await this.#n.server.call(draftRoutes.review, {
      params: { draft_id: draftId },
      body: { review_id: newId(), verdict, heads: this.#heads(draftId), message },
    })
    return await this.read(draftId)
  }

  /** The version id is one for all attempts, so an answer that was lost merges nothing twice. */
  async merge(draftId: string, message: string, resolve: boolean): Promise<OutputOf<'draft.merge'>> {
    const { server, versions, sync } = this.#n
    const pipelineId = this.#base(draftId)
    const parent = await versions.current(pipelineId)
    await sync()
    const body = {
      version_id: newId(),
      heads: this.#heads(draftId),
      parent: parent?.number ?? null,
      message,
    }
    const send = (resolved: string[]) =>
      server.call(draftRoutes.merge, { params: { draft_id: draftId }, body: { ...body, resolved } })
    let met: unknown = null
    try {
      const version = await send([]).catch(async (error: unknown) => {
        const { code, details } = toAppError(error)
        if (code === 'server.unreachable') return await send([])
        if (code !== 'version.unresolved_marks') throw error
        met = details?.marks
        if (!resolve) throw error
        return await send(idsOf(met))
      })
      await versions.remember(version)
      await sync()
      return { state: 'merged', version, created: version.version_id === body.version_id }
    } catch (thrown) {
      const error = toAppError(thrown)
      if (error.code === 'version.unresolved_marks')
        return { state: 'marks', marks: await this.#n.toMarks(draftId, error.details?.marks ?? met) }
      if (error.code === 'version.parent_moved') {
        const current = versionSummary.safeParse(error.details?.current)
        if (current.success) await versions.remember(current.data)
        return { state: 'moved', current: current.success ? current.data : null }
      }
      return { state: 'refused', error: error.toBody() }
    }
  }

  async close(draftId: string): Promise<DraftEntry> {
    await this.#n.sync()
    await this.#n.server.call(draftRoutes.close, { params: { draft_id: draftId }, body: {} })
    return await this.read(draftId)
  }

  /** Makes a refused edit of a pipeline a draft that others can review. The local draft is gone then. */
  async send(localDraftId: string, draftId: string, title: string): Promise<DraftEntry> {
    const { documents } = this.#n
    const local = await documents.editableDraft(localDraftId)
    if (local.kind !== 'pipeline' || !documents.has(local.documentId))
      throw new AppError('request.invalid', 'Only an edit of a pipeline that is here can become a draft.', {
        hint: local.kind === 'pipeline' ? 'Export it, or apply it again.' : 'Export it, or write it again.',
      })
    const pipelineId = documents.info(local.documentId).base ?? local.documentId
    await documents.assertKnown(pipelineId)
    const wanted = read(local.bytes, doc => pipelineFromDoc(doc))
    const start = local.baseBytes ? read(local.baseBytes, doc => Automerge.getHeads(doc)) : []
    const heads = await documents.read(pipelineId, doc =>
      start.length > 0 && Automerge.hasHeads(doc, start) ? start : Automerge.getHeads(doc),
    )
    const asRefused = (doc: Automerge.Doc<PipelineDoc>) => makeEqualTo(doc, wanted, 'a refused edit')
    await documents.fork({ documentId: draftId, base: pipelineId, heads, title }, asRefused, localDraftId)
    return await this.read(draftId)
  }

  /** What the server says about drafts; null while it can't be asked. */
  async #told(pipelineId: string | undefined): Promise<Draft[] | null> {
    try {
      const { drafts } = await this.#n.server.call(draftRoutes.list, {
        params: { workspace_id: this.#n.workspaceId() },
        query: pipelineId === undefined ? {} : { pipeline_id: pipelineId },
      })
      return drafts
    } catch (error) {
      const { code } = toAppError(error)
      if (isOutOfReach(error) || code === 'workspace.not_found') return null
      throw error
    }
  }

  async #entry(draftId: string, told: Draft | null, fresh: boolean): Promise<DraftEntry> {
    const { documents } = this.#n
    const info = documents.info(draftId)
    if (told) {
      const heads = [...info.heads]
      return { ...this.#ofServer(told), heads, waiting: documents.waiting({ documentId: draftId }) }
    }
    return {
      draft_id: draftId,
      pipeline_id: this.#base(draftId),
      pipeline: this.#nameOf(this.#base(draftId)),
      title: await documents.forkTitle(draftId),
      state: fresh || documents.waiting({ documentId: draftId }) > 0 ? 'unsent' : 'open',
      message: '',
      heads: [...info.heads],
      waiting: documents.waiting({ documentId: draftId }),
      created_by: null,
      created_at: null,
      requested_by: null,
      reviews: [],
      version: null,
      fresh,
    }
  }

  #ofServer(draft: Draft): DraftEntry {
    const { draft_id, pipeline_id, title, state, message, heads, reviews, version } = draft
    return {
      draft_id,
      pipeline_id,
      pipeline: this.#nameOf(pipeline_id),
      title,
      state,
      message,
      heads,
      waiting: 0,
      created_by: draft.created_by.name,
      created_at: draft.created_at,
      requested_by: draft.requested_by?.name ?? null,
      reviews,
      version,
      fresh: true,
    }
  }

  #nameOf(pipelineId: string): string {
    return this.#n.documents.has(pipelineId) ? this.#n.documents.info(pipelineId).title : ''
  }

  #base(draftId: string): string {
    const base = this.#n.documents.has(draftId) ? this.#n.documents.info(draftId).base : null
    if (base === null) throw new AppError('draft.not_found', 'There is no such draft on this machine.')
    return base
  }

  #heads(draftId: string): string[] {
    this.#base(draftId)
    return [...this.#n.documents.info(draftId).heads]
  }

  async #headsOf(pipelineId: string, from: From): Promise<readonly string[]> {
    const { documents, versions } = this.#n
    const current = from === 'current' ? await versions.current(pipelineId) : null
    return await documents.read(pipelineId, doc => {
      if (current === null) return Automerge.getHeads(doc)
      if (!Automerge.hasHeads(doc, [...current.heads]))
        throw new AppError(
          'version.unknown_heads',
          'Not all changes of the current version are on this machine.',
          {
            hint: 'Sync. If that does not help, some were taken out of the pipeline’s history: begin with what it is now (`--from-working`).',
          },
        )
      return current.heads
    })
  }
}

const idsOf = (marks: unknown): string[] =>
  Array.isArray(marks)
    ? marks.flatMap((mark: { id?: unknown }) => (typeof mark.id === 'string' ? [mark.id] : []))
    : []

const read = <T>(bytes: Uint8Array, look: (doc: Automerge.Doc<PipelineDoc>) => T): T => {
  const doc = Automerge.load<PipelineDoc>(bytes)
  try {
    return look(doc)
  } finally {
    Automerge.free(doc)
  }
}
