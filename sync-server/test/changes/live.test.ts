import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import type { LiveEvent } from '@pluto-duck/crdt-model/protocol'
import express from 'express'
import type { Kysely } from 'kysely'
import { pino } from 'pino'
import { v7 } from 'uuid'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { EventBus } from '../../src/app/event-bus.ts'
import { Trial } from '../../src/changes/admission/trial.ts'
import { Appender } from '../../src/changes/append.ts'
import { streamEvents } from '../../src/changes/events.ts'
import { LogWatcher } from '../../src/changes/log-watcher.ts'
import type { Database } from '../../src/database/index.ts'
import { actor, type LogFixture, logFixture, note, TestDevice } from './log-fixture.ts'

let log: LogFixture
const trial = new Trial()

beforeAll(async () => {
  log = await logFixture()
})
afterAll(async () => {
  await trial.close()
  await log?.close()
})

/** Streams of one workspace over HTTP, and how to tell its listeners something. */
class Live {
  readonly watcher: LogWatcher
  readonly #listeners = new Set<(event: LiveEvent) => void>()
  readonly #server: Server
  readonly #closing = new AbortController()
  readonly #sockets: Socket[] = []
  /** One for each stream that has ended. */
  ended = 0

  constructor(workspaceId: string, pollMs: number) {
    this.watcher = new LogWatcher({ db: log.db, pollMs })
    const app = express()
    app.get('/', async (request, response) => {
      await streamEvents({
        workspaceId,
        deviceId: null,
        lastSeen: request.get('last-event-id') ? Number(request.get('last-event-id')) : null,
        response,
        signal: this.#closing.signal,
        watcher: this.watcher,
        subscribe: listener => {
          this.#listeners.add(listener)
          return () => this.#listeners.delete(listener)
        },
      })
      this.ended++
    })
    this.#server = createServer(app).listen(0, '127.0.0.1')
  }

  tell(event: LiveEvent): void {
    for (const listener of this.#listeners) listener(event)
  }

  get listening(): number {
    return this.#listeners.size
  }

  async reader(): Promise<Socket> {
    if (!this.#server.listening) await once(this.#server, 'listening')
    const socket = connect((this.#server.address() as AddressInfo).port, '127.0.0.1')
    this.#sockets.push(socket)
    socket.on('error', () => {})
    socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n')
    return socket
  }

  async close(): Promise<void> {
    this.#closing.abort()
    for (const socket of this.#sockets) socket.destroy()
    this.watcher.close()
    this.#server.close()
    await once(this.#server, 'close')
  }
}

const until = async (what: () => boolean): Promise<void> => {
  while (!what()) await new Promise(resolve => setTimeout(resolve, 10))
}

describe('live events', () => {
  it('[LIVE4] a reader that does not read is cut off; the others get everything', async () => {
    const live = new Live(await log.workspace(), 60_000)
    const stuck = await live.reader()
    stuck.once('data', () => stuck.pause())
    const diligent = await live.reader()
    let read = ''
    diligent.on('data', chunk => {
      read += chunk
    })
    await until(() => live.listening === 2 && read.includes('retry:'))
    const items = 'A'.repeat(32 * 1024)
    let to = 0
    // More than the system's own buffers and ours take for one connection.
    for (; live.listening === 2 && to < 2_000; to++) {
      live.tell({ type: 'changes', from: to, to: to + 1, items })
      if (to % 10 === 0) await until(() => read.includes(`id: ${to}\n`))
    }
    expect(live.listening).toBe(1)
    await until(() => live.ended === 1)
    live.tell({ type: 'changes', from: to, to: to + 1, items: null })
    await until(() => read.includes(`id: ${to + 1}\n`))
    expect(read.match(/"items":null/g)).toHaveLength(1)
    await live.close()
  })

  it('[LOG13] [LIVE4] a reader whose notification was lost is sent to the log by the next poll', async () => {
    const workspaceId = await log.workspace()
    const live = new Live(workspaceId, 50)
    const reader = await live.reader()
    let read = ''
    reader.on('data', chunk => {
      read += chunk
    })
    await until(() => read.includes('retry:'))
    // Nobody tells: the appender's commits are heard of by the poll alone.
    const appender = new Appender({ db: log.db, trial })
    const doc = note(actor())
    await appender.append(new TestDevice(workspaceId).push(v7(), [doc.first, doc.edit('x')]))
    await until(() => read.includes('event: changes'))
    expect(read).toContain('data: {"type":"changes","from":0,"to":2,"items":null}')
    await live.close()
  })

  it('[LIVE5] commits that come fast are told to other servers together, without a gap', async () => {
    const workspaceId = await log.workspace()
    const db = log.db as unknown as Kysely<Database>
    const silent = pino({ level: 'silent' })
    const [one, two] = [new EventBus(db, log.url, silent), new EventBus(db, log.url, silent)]
    await Promise.all([one.start(), two.start()])
    const heard: LiveEvent[] = []
    two.subscribe(workspaceId, event => heard.push(event))
    const item = Buffer.from('x').toString('base64')
    const told = Array.from({ length: 50 }, (_, i) =>
      one.publish(workspaceId, { type: 'changes', from: i, to: i + 1, items: item }),
    )
    await Promise.all(told)
    await until(() => heard.some(event => event.type === 'changes' && event.to === 50))
    expect(heard.length).toBeLessThan(50)
    let at = 0
    for (const event of heard) {
      if (event.type !== 'changes') throw new Error('another event')
      expect(event.from).toBe(at)
      expect(Buffer.from(event.items ?? '', 'base64').toString()).toBe('x'.repeat(event.to - event.from))
      at = event.to
    }
    await Promise.all([one.close(), two.close()])
  })
})
