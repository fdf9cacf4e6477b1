import { type RunningServer, readConfig, startServer, type Trials } from '@pluto-duck/sync-server'
import { type Moment, PostgresLink } from './postgres-link.ts'

const AUTH_SECRET = 'a secret of forty characters, for tests.'

/** One server process, as far as that goes inside this one: it dies by losing its database and its connections at once. */
export class Replica {
  readonly name: string
  readonly server: RunningServer
  readonly link: PostgresLink
  readonly #died = new AbortController()
  #closed: Promise<void> | null = null
  #leaves = false

  private constructor(name: string, server: RunningServer, link: PostgresLink) {
    this.name = name
    this.server = server
    this.link = link
  }

  static async start(name: string, databaseUrl: string, trials?: Trials): Promise<Replica> {
    const link = new PostgresLink()
    const config = readConfig({
      PORT: '0',
      DATABASE_URL: databaseUrl,
      AUTH_SECRET,
      LOG_LEVEL: process.env.PLUTO_SIM_LOG ?? 'silent',
    })
    const options = { databaseSocket: () => link.socket(), ...(trials ? { trials } : {}) }
    return new Replica(name, await startServer(config, options), link)
  }

  /** It takes no more requests. */
  get dead(): boolean {
    return this.#leaves || this.#died.signal.aborted
  }

  /** Aborted at its death. */
  get died(): AbortSignal {
    return this.#died.signal
  }

  crash(): void {
    if (this.dead) return
    this.link.cut()
    this.#bury()
  }

  /** Dies at the `count`th message to Postgres from now on. */
  crashAt(count: number, moment: Moment, then: () => void): void {
    this.link.arm(count, moment, () => {
      this.#bury()
      then()
    })
  }

  /** Ends in good order: what is under way is answered, new requests go to others. */
  leave(): Promise<void> {
    this.#leaves = true
    return this.close()
  }

  /** Waits for what is left of it; a living one ends in good order. */
  async close(): Promise<void> {
    this.#closed ??= this.server.close()
    await this.#closed
    this.link.cut()
  }

  #bury(): void {
    this.#died.abort()
    // What is left in this process ends by itself; it reaches nobody.
    this.#closed ??= this.server.close().catch(() => undefined)
  }
}
