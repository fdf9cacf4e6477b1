import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import type { LiveEvent } from '@pluto-duck/crdt-model/protocol'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import type { Kysely } from 'kysely'
import { pino } from 'pino'
import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EventBus } from '../../src/app/event-bus.ts'
import { createDatabase, type Database, type ServerDatabase } from '../../src/database/index.ts'

// [LIVE7] What a bus waits for ends, whatever Postgres does. Each test that fails here waits for ever, so it ends by its time limit.
const LIMIT_MS = 20_000

/** Between a bus and Postgres: passes what is said, until it is told to hold it back. */
class Way {
  #server!: Server
  readonly #sockets = new Set<Socket>()
  readonly #target: URL
  holding = false
  /** Connections that were begun. */
  begun = 0

  private constructor(target: string) {
    this.#target = new URL(target)
  }

  static async to(target: string): Promise<Way> {
    const way = new Way(target)
    way.#server = createServer({ allowHalfOpen: true }, client => {
      way.begun++
      const { port, hostname: host } = way.#target
      const postgres = connect({ port: Number(port), host, allowHalfOpen: true })
      for (const [from, to] of [
        [client, postgres],
        [postgres, client],
      ] as const) {
        way.#sockets.add(from)
        from.on('error', () => undefined)
        from.on('data', data => !way.holding && to.write(data))
        from.once('end', () => !way.holding && to.end())
        from.once('close', () => {
          way.#sockets.delete(from)
          if (from === client) postgres.destroy()
        })
      }
    })
    way.#server.listen(0, '127.0.0.1')
    await once(way.#server, 'listening')
    return way
  }

  get url(): string {
    const url = new URL(this.#target)
    url.port = String((this.#server.address() as AddressInfo).port)
    return url.href
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  async close(): Promise<void> {
    this.cut()
    this.#server.close()
    await once(this.#server, 'close')
  }
}

let test: TestDatabase
let database: ServerDatabase
let db: Kysely<Database>
const silent = pino({ level: 'silent' })

beforeAll(async () => {
  test = await testDatabase()
  database = await createDatabase({ databaseUrl: test.url, dataDir: '' })
  db = database.db
})
afterAll(async () => {
  await database.close()
  await test.drop()
})

const until = async (holds: () => boolean): Promise<void> => {
  while (!holds()) await new Promise(resolve => setTimeout(resolve, 5))
}

describe('a bus that is closed', () => {
  it(
    '[LIVE7] while its connection is being made gives that up',
    async () => {
      const way = await Way.to(test.url)
      way.holding = true
      const bus = new EventBus(db, way.url, silent)
      const started = bus.start()
      await until(() => way.begun === 1)
      await bus.close()
      await started
      await way.close()
    },
    LIMIT_MS,
  )

  it(
    '[LIVE7] while its connection is made again, and is made just then, ends',
    async () => {
      const way = await Way.to(test.url)
      const bus = new EventBus(db, way.url, silent)
      await bus.start()
      way.cut()
      await until(() => way.begun === 2)
      await bus.close()
      await way.close()
    },
    LIMIT_MS,
  )

  it(
    '[LIVE7] while nobody answers any more does not wait for a goodbye',
    async () => {
      const way = await Way.to(test.url)
      const bus = new EventBus(db, way.url, silent)
      await bus.start()
      way.holding = true
      await bus.close()
      await way.close()
    },
    LIMIT_MS,
  )
})

it(
  '[LIVE7] a connection that is not answered is given up, and made again',
  async () => {
    const way = await Way.to(test.url)
    way.holding = true
    const bus = new EventBus(db, way.url, silent, undefined, 300)
    // It waited, and the server may serve: what is not heard is read from the log.
    await bus.start()
    way.holding = false
    const [workspaceId, heard] = [v7(), [] as LiveEvent[]]
    bus.subscribe(workspaceId, event => heard.push(event))
    const other = new EventBus(db, test.url, silent)
    await other.start()
    while (heard.length === 0) {
      await other.publish(workspaceId, { type: 'changes', from: 0, to: 1, items: null })
      await new Promise(resolve => setTimeout(resolve, 20))
    }
    expect(heard[0]).toMatchObject({ to: 1 })
    await Promise.all([bus.close(), other.close()])
    await way.close()
  },
  LIMIT_MS,
)
