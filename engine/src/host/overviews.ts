import * as Automerge from '@automerge/automerge'
import { displayName, type PipelineDoc, pipelineFromDoc } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { z } from 'zod'
import type { ContractMark } from '../contract/index.ts'
import type { DocumentInfo, Documents } from '../documents/index.ts'
import { JsonTable, type State } from '../state/index.ts'
import type { VersionCache } from '../versions/version-cache.ts'

const overview = z.object({
  /** What it was made of: heads, current version, and the records that marks are told from. */
  key: z.string(),
  name: z.string(),
  description: z.string(),
  tags: z.array(z.string()),
  steps: z.number().int(),
  /** Changes since the current version; 0 when they cancel out. */
  unpublished: z.number().int(),
  /** All marks since the current version, looked at or not. */
  marks: z.array(z.object({ id: z.string(), label: z.string() })),
  /** Why the document cannot be read here; then the rest is what its name was. */
  unreadable: z.string().nullable(),
})

/** What lists and the sync state say of a pipeline. */
export type Overview = z.infer<typeof overview>

export interface OverviewParts {
  readonly state: State
  readonly documents: Documents
  readonly versions: VersionCache
  /** All marks of a pipeline; may ask the server for records. */
  readonly marks: (pipelineId: string) => Promise<readonly ContractMark[]>
  /** Overviews that were made in the background are there. */
  readonly onReady: () => void
  readonly onError: (error: unknown) => void
}

/** So many are made while the caller waits; of more, the rest follows in the background. */
const AT_ONCE = 64
const SAVE_MS = 2_000
const TELL_MS = 500

/**
 * Overviews of pipelines, kept beside the documents, so that listing a workspace loads none of them (HOSTDOC10). They are derived:
 * one that is missing or stale is made again from its document.
 */
export class Overviews {
  readonly #p: OverviewParts
  readonly #table: JsonTable<typeof overview>
  readonly #held: Map<string, Overview>
  readonly #unsaved = new Set<string>()
  readonly #due = new Set<string>()
  #working: Promise<void> | null = null
  #saveTimer: NodeJS.Timeout | null = null
  #closed = false
  readonly #off: () => void

  private constructor(parts: OverviewParts, table: JsonTable<typeof overview>, held: Map<string, Overview>) {
    this.#p = parts
    this.#table = table
    this.#held = held
    this.#off = parts.documents.on(event => {
      if (event.kind === 'reset') this.#held.delete(event.documentId)
    })
  }

  static async open(parts: OverviewParts): Promise<Overviews> {
    const table = new JsonTable(parts.state, 'overviews', overview)
    const held = await table.entries().catch((error: unknown) => {
      // They are made again from the documents, and saved over what cannot be read.
      parts.onError(error)
      return new Map<string, Overview>()
    })
    return new Overviews(parts, table, held)
  }

  /** The pipeline's overview as of now. */
  async of(info: DocumentInfo): Promise<Overview> {
    const key = await this.#keyOf(info)
    const held = this.#held.get(info.documentId)
    return held?.key === key ? held : await this.#make(info, key)
  }

  /**
   * The overviews of many pipelines. When more than a few are not up to date, what is known of the others stands in, or null, until
   * `onReady` tells that they are there.
   */
  async all(infos: readonly DocumentInfo[]): Promise<Map<string, Overview | null>> {
    const found = new Map<string, Overview | null>()
    const stale: DocumentInfo[] = []
    for (const info of infos) {
      const held = this.#held.get(info.documentId) ?? null
      found.set(info.documentId, held)
      if (held?.key !== (await this.#keyOf(info))) stale.push(info)
    }
    for (const info of stale.slice(0, AT_ONCE)) found.set(info.documentId, await this.of(info))
    for (const info of stale.slice(AT_ONCE)) this.#due.add(info.documentId)
    if (this.#due.size > 0 && !this.#closed) this.#working ??= this.#work()
    return found
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#off()
    this.#due.clear()
    await this.#working
    if (this.#saveTimer) clearTimeout(this.#saveTimer)
    await this.#save()
  }

  async #keyOf(info: DocumentInfo): Promise<string> {
    const { documents, versions } = this.#p
    const current = await versions.current(info.documentId)
    const { stored, live } = documents.recorded(info.documentId)
    return [info.heads.join(), current?.number ?? 0, stored, live].join('|')
  }

  async #make(info: DocumentInfo, key: string): Promise<Overview> {
    const made = { key, ...(await this.#read(info)) }
    this.#held.set(info.documentId, made)
    // Reading may have shown that what the list knew was behind: then it is made again at the next look.
    if (made.unreadable === null) {
      this.#unsaved.add(info.documentId)
      this.#saveTimer ??= setTimeout(() => {
        this.#saveTimer = null
        this.#save().catch(this.#p.onError)
      }, SAVE_MS)
    }
    return made
  }

  async #read(info: DocumentInfo): Promise<Omit<Overview, 'key'>> {
    const { documents, versions, marks } = this.#p
    const current = await versions.current(info.documentId)
    try {
      const read = await documents.read<Omit<Overview, 'key' | 'marks'>, PipelineDoc>(
        info.documentId,
        doc => {
          const definition = pipelineFromDoc(doc)
          const known = (current?.heads ?? []).filter(head => Automerge.hasHeads(doc, [head]))
          const same = current !== null && versions.hashOf(definition) === current.content_hash
          return {
            name: displayName(doc),
            description: definition.description,
            tags: definition.tags,
            steps: definition.steps.length,
            unpublished: same ? 0 : Automerge.getChangesMetaSince(doc, known).length,
            unreadable: null,
          }
        },
      )
      const found = await marks(info.documentId)
      return { ...read, marks: found.map(({ id, label }) => ({ id, label })) }
    } catch (error) {
      if (!(error instanceof AppError) || !UNREADABLE.has(error.code)) throw error
      const nothing = { description: '', tags: [], steps: 0, unpublished: 0, marks: [] }
      return { name: info.title, ...nothing, unreadable: error.message }
    }
  }

  async #work(): Promise<void> {
    let told = performance.now()
    for (const documentId of this.#due) {
      this.#due.delete(documentId)
      if (!this.#p.documents.has(documentId)) continue
      try {
        await this.of(this.#p.documents.info(documentId))
      } catch (error) {
        this.#p.onError(error)
      }
      // What a person does meanwhile comes first.
      await new Promise(resolve => setImmediate(resolve))
      if (performance.now() - told < TELL_MS) continue
      told = performance.now()
      this.#p.onReady()
    }
    this.#working = null
    if (!this.#closed) this.#p.onReady()
  }

  async #save(): Promise<void> {
    const rows = [...this.#unsaved].flatMap(documentId => {
      const held = this.#held.get(documentId)
      if (!held || !this.#p.documents.has(documentId)) return []
      const { workspaceId, updatedAt } = this.#p.documents.info(documentId)
      return [{ documentId, place: { parent: workspaceId, at: updatedAt }, held }]
    })
    this.#unsaved.clear()
    if (rows.length === 0) return
    await this.#p.state.write(async tx => {
      for (const { documentId, place, held } of rows) await this.#table.putIn(tx, documentId, place, held)
    })
  }
}

const UNREADABLE = new Set(['document.corrupt', 'document.too_new'])
