import { toAppError } from '@pluto-duck/crdt-model/errors'
import { short } from './device.ts'
import { pause } from './network.ts'
import type { PurgePlan } from './plan.ts'
import type { Rng } from './random.ts'
import type { World } from './simulate.ts'

/** How often an operator tries again when a document was edited meanwhile. */
const ATTEMPTS = 5

/** Who removes pasted secrets with `pluto-server purge`, and whose server takes changes out that should not have been admitted. */
export class Operator {
  readonly #world: World
  readonly #plan: PurgePlan
  /** Documents that were purged, or that something was taken out of. */
  readonly touched = new Set<string>()
  /** How often something was taken out. */
  done = 0
  /** What the changes wrote that purges have named. */
  readonly guilty = new Set<string>()
  /** Changes that count no more though their bytes were left: they were no content when their document was purged. */
  readonly takenOut = new Set<string>()
  /** How the bytes of changes begin that were to be erased, by hash. */
  readonly needles = new Map<string, Uint8Array>()

  constructor(world: World, plan: PurgePlan) {
    this.#world = world
    this.#plan = plan
  }

  /** While the others work. */
  async work(over: () => boolean, rng: Rng): Promise<void> {
    for (let i = 0; i < this.#plan.during; i++) {
      await pause(rng.between(5, 60))
      if (over()) return
      await this.#act(rng)
    }
  }

  /** When nobody works any more, and devices that are away have yet to hear of it. */
  async late(rng: Rng): Promise<void> {
    if (this.#plan.late) await this.#act(rng)
  }

  async #act(rng: Rng): Promise<void> {
    const choice = { document: rng.next(), change: rng.next(), names: rng.chance(this.#plan.named) }
    const voids = rng.chance(this.#plan.voids)
    const { trace } = this.#world
    for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
      try {
        if (voids) await this.#takeOut(choice)
        else await this.#purge(choice)
        return
      } catch (error) {
        const { code, message } = toAppError(error)
        trace.say('operator', `${code} ${message}`)
        // Edited meanwhile; else nothing is left to be purged.
        if (code !== 'request.rate_limited') {
          if (code !== 'document.not_found')
            trace.problem(`a purge failed: ${error instanceof Error ? error.stack : String(error)}`)
          return
        }
        await pause(5)
      }
    }
  }

  async #purge({ document, change, names }: Choice): Promise<void> {
    const { cluster, trace } = this.#world
    const chosen = await this.#document(document)
    if (!chosen) return
    const named = names && chosen.kind === 'pipeline' ? await this.#change(chosen.id, change) : null
    const bytes = this.#world.plan.store === 'duckdb' ? await this.#bytesOf(chosen.id) : []
    const server = await cluster.purging()
    trace.say('operator', `purges ${chosen.kind} ${short(chosen.id)}${named ? ` of ${named}` : ''}`)
    const done = await server.purge(chosen.id, named ? [named] : [])
    trace.say(
      'operator',
      `purged ${done.changes} changes of ${short(chosen.id)}, drafts ${done.drafts.length}`,
    )
    this.done++
    this.touched.add(chosen.id)
    for (const id of done.drafts) this.touched.add(id)
    for (const [hash, needle] of bytes) this.needles.set(hash, needle)
    const mark = named && this.#world.letters?.of(named)
    if (mark) this.guilty.add(mark)
    if (this.#plan.rewrites) await server.rewrite()
  }

  async #takeOut({ document, change }: Choice): Promise<void> {
    const { cluster, trace, workspaceId } = this.#world
    const chosen = await this.#document(document)
    const hash = chosen && (await this.#change(chosen.id, change))
    if (!hash) return
    const server = await cluster.purging()
    trace.say('operator', `takes ${hash} out of ${chosen.kind} ${short(chosen.id)}`)
    await server.takeOut(workspaceId, chosen.id, [hash])
    this.done++
    this.touched.add(chosen.id)
    const { rows } = await cluster.sql.query<{ hash: string }>(
      `select encode(hash, 'hex') as hash from log_records
       where workspace_id = $1 and record = 'change' and void_seq is not null and octet_length(bytes) > 0`,
      [workspaceId],
    )
    for (const row of rows) this.takenOut.add(row.hash)
  }

  /** Pipelines, and comments that somebody wrote in: their first change is everybody's. */
  async #document(at: number): Promise<{ id: string; kind: string } | null> {
    const { cluster, workspaceId } = this.#world
    const { rows } = await cluster.sql.query<{ id: string; kind: string }>(
      `select d.id, d.kind from documents d where d.workspace_id = $1 and d.base is null
         and (select count(*) from changes c where c.workspace_id = d.workspace_id and c.document_id = d.id)
           > case when d.kind = 'comments' then 1 else 0 end
       order by d.created_seq`,
      [workspaceId],
    )
    // Three of four are pipelines, where there are any.
    const pipelines = rows.filter(row => row.kind === 'pipeline')
    const some = at < 0.75 && pipelines.length > 0 ? pipelines : rows
    return some[Math.floor(((at * 16) % 1) * some.length)] ?? null
  }

  /** A recent one that somebody wrote. */
  async #change(documentId: string, at: number): Promise<string | null> {
    const { cluster, workspaceId, letters } = this.#world
    const { rows } = await cluster.sql.query<{ hash: string }>(
      `select encode(hash, 'hex') as hash from changes where workspace_id = $1 and document_id = $2
       order by seq desc limit 12`,
      [workspaceId, documentId],
    )
    const written = rows.filter(row => letters?.of(row.hash) !== undefined)
    return written[Math.floor(at * written.length)]?.hash ?? null
  }

  async #bytesOf(documentId: string): Promise<[string, Uint8Array][]> {
    const { cluster, workspaceId } = this.#world
    const { rows } = await cluster.sql.query<{ hash: string; head: Buffer }>(
      `select encode(c.hash, 'hex') as hash, substring(c.bytes for 8) as head from changes c
       join documents d on d.workspace_id = c.workspace_id and d.id = c.document_id
       where c.workspace_id = $1 and (d.id = $2 or d.base = $2)`,
      [workspaceId, documentId],
    )
    return rows.map(row => [row.hash, row.head])
  }
}

interface Choice {
  /** Which document and which change, 0 to 1. */
  readonly document: number
  readonly change: number
  readonly names: boolean
}
