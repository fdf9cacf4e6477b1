import pg from 'pg'
import type { Person } from './device.ts'
import { Replica } from './replica.ts'

/** The servers of a process of simulations, all on one database; those that died are replaced. */
export class Cluster {
  readonly databaseUrl: string
  readonly sql: pg.Pool
  #replicas: Replica[] = []
  readonly #buried: Promise<void>[] = []
  readonly #people: Person[] = []
  #count = 0
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
    for (const dead of this.#replicas.filter(replica => replica.dead)) this.#buried.push(dead.close())
    this.#replicas = this.#replicas.filter(replica => !replica.dead)
    while (this.#replicas.length < count)
      this.#replicas.push(await Replica.start(`server ${++this.#count}`, this.databaseUrl))
    for (const extra of this.#replicas.splice(count)) this.#buried.push(extra.close())
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

  async stop(): Promise<void> {
    for (const replica of this.#replicas) this.#buried.push(replica.close())
    this.#replicas = []
    await Promise.all(this.#buried)
    await this.sql.end()
  }
}
