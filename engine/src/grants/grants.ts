import { AppError } from '@pluto-duck/crdt-model/errors'
import { timestamp } from '@pluto-duck/crdt-model/protocol'
import { z } from 'zod'
import type { OutputOf, ParsedInputOf } from '../contract/index.ts'
import { JsonTable, type State } from '../state/index.ts'
import type { Wanted } from './wanted.ts'

const grant = z.strictObject({
  pipeline_id: z.string(),
  kind: z.enum(['read', 'publish']),
  target: z.string(),
  granted_at: timestamp,
})
type Grant = z.infer<typeof grant>

/** What people allowed pipelines to touch on this machine. A grant is for one pipeline and one literal target. */
export class Grants {
  readonly #table: JsonTable<typeof grant>
  readonly #now: () => number

  constructor(state: State, now: () => number) {
    this.#table = new JsonTable(state, 'grants', grant)
    this.#now = now
  }

  async allow({ pipeline_id, targets }: ParsedInputOf<'grant.allow'>): Promise<{ ok: true }> {
    const granted_at = new Date(this.#now()).toISOString()
    await Promise.all(
      targets.map(({ kind, target }) => {
        const value: Grant = { pipeline_id, kind, target, granted_at }
        return this.#table.put(keyOf(value), { parent: pipeline_id, at: granted_at }, value)
      }),
    )
    return { ok: true }
  }

  async list(): Promise<OutputOf<'grant.list'>> {
    return { grants: await this.#table.list() }
  }

  async revoke(given: ParsedInputOf<'grant.revoke'>): Promise<{ ok: true }> {
    await this.#table.remove(keyOf(given))
    return { ok: true }
  }

  /**
   * What of the wanted was not allowed yet. A draft may read what its pipeline may; what it would send is asked for by itself, because its
   * text is reviewed by nobody yet.
   */
  async missing(
    { pipelineId, base }: { readonly pipelineId: string; readonly base: string | null },
    wanted: readonly Wanted[],
  ): Promise<Wanted[]> {
    const own = await this.#of(pipelineId)
    const inherited = base === null ? [] : (await this.#of(base)).filter(one => one.kind === 'read')
    const granted = new Set([...own, ...inherited].map(targetKey))
    const missing = wanted.filter(one => !granted.has(targetKey(one)))
    return [...new Map(missing.map(one => [targetKey(one), one])).values()]
  }

  #of(pipelineId: string): Promise<Grant[]> {
    return this.#table.list({ parent: pipelineId, limit: 100_000 })
  }
}

const targetKey = ({ kind, target }: Pick<Grant, 'kind' | 'target'>): string => `${kind} ${target}`

const keyOf = ({
  pipeline_id,
  kind,
  target,
}: {
  pipeline_id: string
  kind: string
  target: string
}): string => JSON.stringify([pipeline_id, kind, target])

export const grantView = ({ kind, target, why }: Wanted) => ({ kind, target, why })

export function assertGranted(missing: readonly Wanted[]): void {
  if (missing.length === 0) return
  const [first] = missing
  const more = missing.length > 1 ? ` and ${missing.length - 1} more` : ''
  throw new AppError(
    'grant.required',
    `This pipeline was not allowed to ${first!.kind === 'read' ? 'read' : 'send'} ${first!.target}${more} on this machine.`,
    { details: { grants_needed: missing.map(grantView) } },
  )
}
