import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type PostgresServer, startPostgres } from './postgres.ts'
import { type S3Server, startS3 } from './s3.ts'

/** What a worker process asks the broker for, and gets as JSON. */
export interface BrokerAnswers {
  readonly postgres: { url: string }
  readonly s3: S3Connection | { missing: string }
}

export type S3Connection = Omit<S3Server, 'stop'>

/** The environment variable by which worker processes find the broker. */
export const brokerVariable = 'PLUTO_TEST_SERVICES'

/**
 * Owns the services of one test run: each is started when a test first asks for it, shared by all test files,
 * and stopped by `close`. Test files run in processes of their own, so they ask over loopback HTTP.
 */
export class ServiceBroker {
  readonly #server: Server
  #postgres: Promise<PostgresServer> | undefined
  #s3: Promise<S3Server | { missing: string }> | undefined

  private constructor(server: Server) {
    this.#server = server
  }

  static async open(): Promise<ServiceBroker> {
    const server = createServer()
    const broker = new ServiceBroker(server)
    server.on('request', (request, response) => {
      broker.#answer(request.url ?? '').then(
        body => response.end(JSON.stringify(body)),
        error => response.writeHead(500).end(error instanceof Error ? error.message : String(error)),
      )
    })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(0, '127.0.0.1', resolve)
    })
    // A run that crashes before its teardown must not be held open by the broker.
    server.unref()
    return broker
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async close(): Promise<void> {
    this.#server.close()
    this.#server.closeAllConnections()
    const running = await Promise.allSettled([this.#postgres, this.#s3])
    for (const service of running) {
      if (service.status === 'fulfilled' && service.value !== undefined && 'stop' in service.value) {
        await service.value.stop()
      }
    }
  }

  async #answer(path: string): Promise<BrokerAnswers[keyof BrokerAnswers]> {
    switch (path) {
      case '/postgres':
        this.#postgres ??= startPostgres()
        return { url: (await this.#postgres).url }
      case '/s3':
        this.#s3 ??= startS3()
        return await this.#s3
      default:
        throw new Error(`the test services have no ${path}`)
    }
  }
}

/** Asks the run's broker for a service, which starts it if this is the first time. */
export async function askBroker<K extends keyof BrokerAnswers>(service: K): Promise<BrokerAnswers[K]> {
  const broker = process.env[brokerVariable]
  if (broker === undefined) {
    throw new Error(
      `no test services: this vitest project lacks services/global-setup.ts (${brokerVariable} is not set)`,
    )
  }
  const response = await fetch(`${broker}/${service}`)
  if (!response.ok) throw new Error(await response.text())
  return (await response.json()) as BrokerAnswers[K]
}
