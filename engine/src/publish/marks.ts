import { type ChangeRecord, conflictMarks, type Mark, pipelineFromDoc } from '@pluto-duck/crdt-model'
import { z } from 'zod'
import { type Clock, isoTime } from '../clock.ts'
import type { ContractMark } from '../contract/index.ts'
import type { Documents } from '../documents/index.ts'
import type { State } from '../state/index.ts'

/**
 * What two people changed at once, as this device sees it, and what somebody here has looked at. The server computes the same
 * marks from the same records and enforces them at a publish.
 */
export class Marks {
  readonly #state: State
  readonly #documents: Documents
  readonly #clock: Clock
  /** Marks by document, good for as long as its heads, the version and the number of records are the same. */
  readonly #held = new Map<string, { key: string; found: Found[] }>()

  constructor(state: State, documents: Documents, clock: Clock) {
    this.#state = state
    this.#documents = documents
    this.#clock = clock
  }

  /** @param since the heads of the current version; empty when there is none. */
  async list(
    pipelineId: string,
    since: readonly string[],
    nameOf: (userId: string) => string,
  ): Promise<ContractMark[]> {
    const found = await this.#find(pipelineId, since)
    if (found.length === 0) return []
    const rows = await this.#state.read.all<{ mark_id: string }>(
      'select mark_id from reviewed_marks where pipeline_id = $1',
      pipelineId,
    )
    const reviewed = new Set(rows.map(row => row.mark_id))
    return found.map(({ mark, label }) => toContractMark(mark, label, nameOf, reviewed.has(mark.id)))
  }

  /** Marks as the server gave them, in the words of a document that both sides share. */
  async ofServer(
    documentId: string,
    marks: unknown,
    nameOf: (userId: string) => string,
  ): Promise<ContractMark[]> {
    const given = z.array(serverMark).safeParse(marks)
    if (!given.success) return []
    const names = await this.#documents.read(
      documentId,
      doc => new Map(pipelineFromDoc(doc).steps.map(step => [step.id, step.name])),
    )
    return given.data.map(({ step_id, ...mark }) => {
      const whole = step_id === undefined ? mark : { ...mark, step_id }
      return toContractMark(whole, labelOf(whole, names), nameOf, false)
    })
  }

  /** Marks, of all pipelines, that somebody here has looked at. */
  async reviewed(): Promise<ReadonlySet<string>> {
    const rows = await this.#state.read.all<{ mark_id: string }>('select mark_id from reviewed_marks')
    return new Set(rows.map(row => row.mark_id))
  }

  async review(pipelineId: string, markId: string, reviewed: boolean): Promise<void> {
    await this.#state.write(tx =>
      reviewed
        ? tx.run(
            'insert or replace into reviewed_marks values ($1, $2, $3)',
            pipelineId,
            markId,
            isoTime(this.#clock.now()),
          )
        : tx.run('delete from reviewed_marks where pipeline_id = $1 and mark_id = $2', pipelineId, markId),
    )
  }

  /** The server's records of a document's changes, by hash, as far as they came here. */
  async records(documentId: string): Promise<Map<string, ChangeRecord>> {
    const rows = await this.#state.read.all<{
      hash: string
      seq: number
      received_at: number
      live: boolean
      author_id: string
    }>('select hash, seq, received_at, live, author_id from records where document_id = $1', documentId)
    return new Map(
      rows.map(row => [
        row.hash,
        {
          seq: Number(row.seq),
          received_at: isoTime(Number(row.received_at)),
          live: row.live,
          author_id: row.author_id,
        },
      ]),
    )
  }

  async #find(pipelineId: string, since: readonly string[]): Promise<Found[]> {
    const records = await this.records(pipelineId)
    const writtenLive = this.#documents.writtenLive(pipelineId)
    const heads = this.#documents.info(pipelineId).heads
    const key = [heads.join(), since.join(), records.size, writtenLive.size].join('|')
    const held = this.#held.get(pipelineId)
    if (held?.key === key) return held.found
    const found = await this.#documents.read(pipelineId, doc => {
      const names = new Map(pipelineFromDoc(doc).steps.map(step => [step.id, step.name]))
      return conflictMarks({ doc, since, records, writtenLive }).map(mark => ({
        mark,
        label: labelOf(mark, names),
      }))
    })
    this.#held.set(pipelineId, { key, found })
    return found
  }
}

const serverMark = z.object({
  id: z.string(),
  kind: z.enum(['text', 'setting', 'deletion']),
  step_id: z.string().optional(),
  field: z.string(),
  sides: z.array(z.object({ hashes: z.array(z.string()), author_ids: z.array(z.string()) })),
  values: z.array(z.unknown()),
})

const toContractMark = (
  mark: Mark,
  label: string,
  nameOf: (userId: string) => string,
  reviewed: boolean,
): ContractMark => ({
  id: mark.id,
  kind: mark.kind,
  step_id: mark.step_id ?? null,
  label,
  field: mark.field,
  sides: mark.sides.map((side, i) => ({
    authors: side.author_ids.map(nameOf),
    value: inWords(mark.values[i]),
  })),
  reviewed,
})

interface Found {
  readonly mark: Mark
  readonly label: string
}

const FIELDS: Record<string, string> = { sql: 'SQL', deleted: 'deleted or edited', step: 'made twice' }

const labelOf = (mark: Mark, names: ReadonlyMap<string, string>): string => {
  const field = FIELDS[mark.field] ?? mark.field
  if (mark.step_id === undefined) return field
  return `${names.get(mark.step_id) ?? 'a removed step'}: ${field}`
}

const inWords = (value: unknown): string | null => {
  if (value === null || value === undefined) return null
  return typeof value === 'string' ? value : JSON.stringify(value, null, 2)
}
