import { startTrials } from '@pluto-duck/sync-server'
import { type Purging, purging } from '@pluto-duck/sync-server/purging'
import pg from 'pg'
import type { Person } from './device.ts'
import { closeRested } from './folders.ts'
import { Replica } from './replica.ts'

/**
 * The servers of a process of simulations, all on one database, with the same workers for their trials. Those that a simulation does
 * not use wait for the next one: starting a server costs as much as the rest of a seed.
 */
export class Cluster {
  readonly databaseUrl: string
  readonly sql: pg.Pool
  readonly #trials = startTrials()
  #replicas: Replica[] = []
  #spare: Replica[] = []
  readonly #buried: Promise<void>[] = []
  readonly #people: Person[] = []
  #count = 0
  #purging: Promise<Purging> | null = null
  #changing: Promise<void> = Promise.resolve()

  private constructor(databaseUrl: string) {
    this.databaseUrl = databaseUrl
    this.sql = new pg.Pool({ connectionString: databaseUrl, max: 2 })
  }

  static async start(databaseUrl: string): Promise<Cluster> {
    const cluster = new Cluster(databaseUrl)
    await cluster.have(1)
    return cluster
  }

  /** Those that are to serve now. */
  get replicas(): readonly Replica[] {
    return this.#replicas
  }

  /** So many living servers, no more. */
  have(count: number): Promise<void> {
    this.#changing = this.#changing.then(() => this.#have(count))
    return this.#changing
  }

  async #have(count: number): Promise<void> {
    const all = [...this.#replicas, ...this.#spare]
    for (const dead of all.filter(replica => replica.dead)) this.#buried.push(dead.close())
    const living = all.filter(replica => !replica.dead)
    this.#replicas = living.slice(0, count)
    this.#spare = living.slice(count)
    while (this.#replicas.length < count)
      this.#replicas.push(await Replica.start(`server ${++this.#count}`, this.databaseUrl, this.#trials))
  }

  /** People with accounts, the same ones in every simulation. */
  async people(count: number): Promise<Person[]> {
    const [first] = this.#replicas
    if (!first) throw new Error('no server')
    while (this.#people.length < count) {
      const name = `person${this.#people.length}`
      const email = `${name}@example.org`
      const userId = await first.server.ensureLocalOwner({ name, email })
      this.#people.push({ name, email, userId, token: await first.server.issueSession(userId) })
    }
    return this.#people.slice(0, count)
  }

  /** What `pluto-server` does beside the servers. */
  purging(): Promise<Purging> {
    this.#purging ??= purging(this.databaseUrl, { tells: true })
    return this.#purging
  }

  async stop(): Promise<void> {
    for (const replica of [...this.#replicas, ...this.#spare]) this.#buried.push(replica.close())
    this.#replicas = []
    this.#spare = []
    await Promise.all(this.#buried)
    await closeRested()
    await (await this.#purging)?.close()
    await this.#trials.close()
    await this.sql.end()
  }
}
