import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as A from '@automerge/automerge'
import { createPipeline, editPipeline, setDescription } from '@pluto-duck/crdt-model'
import { newId, type Role } from '@pluto-duck/crdt-model/protocol'
import { type Clock, systemClock } from '../../src/clock.ts'
import { Documents, type Schema } from '../../src/documents/index.ts'
import { Settings, State, Workspaces } from '../../src/state/index.ts'
import { Sync, WireClient } from '../../src/sync/index.ts'

/** One installation: a data folder, its documents and a sync of one workspace, against a real server. */
export class Device {
  readonly folder: string
  readonly server: string
  readonly token: string
  readonly workspaceId: string
  role: Role = 'editor'
  state!: State
  documents!: Documents
  client!: WireClient
  sync!: Sync
  /** Takes the place of the network: true lets no request through. */
  cut = false
  /** What is pushed waits for it. */
  hold: Promise<void> = Promise.resolve()
  /** The answer to a reading of the log waits for it. */
  holdReading: Promise<void> = Promise.resolve()
  /** It hears no live events. */
  deaf = false
  /** Its time of day is so far from the true one. */
  skewMs = 0
  /** What its program knows of documents; counts from the next `open`. */
  schema: Schema | undefined
  /** Lets so many requests through and loses their replies. */
  loseReplies = 0
  /** What its sync said. */
  readonly logged: string[] = []
  /** What was asked of the log: the query of each reading. */
  readonly readings: { readonly after: number; readonly limit: number }[] = []
  /** Called with each push that is about to leave, and with its answer before the device hears of it. */
  onPush: (when: 'asked' | 'answered') => void = () => undefined

  readonly #clock: Clock = { now: () => Date.now() + this.skewMs, sleep: systemClock.sleep }

  private constructor(server: string, token: string, workspaceId: string, folder: string) {
    this.folder = folder
    this.server = server
    this.token = token
    this.workspaceId = workspaceId
  }

  static async start(
    server: string,
    token: string,
    workspaceId: string,
    folder = mkdtempSync(join(tmpdir(), 'pluto-device-')),
  ): Promise<Device> {
    const device = new Device(server, token, workspaceId, folder)
    await device.open()
    return device
  }

  async open(): Promise<void> {
    this.state = await State.open(this.folder)
    this.documents = await Documents.open(this.state, this.#clock, this.schema)
    await new Workspaces(this.state).put({
      workspace_id: this.workspaceId,
      name: 'W',
      role: this.role,
      remote: true,
    })
    const deviceId = await new Settings(this.state).deviceId()
    this.client = new WireClient({
      server: this.server,
      deviceId,
      token: async () => this.token,
      fetch: async (input, init) => {
        if (init?.method === 'POST') {
          this.onPush('asked')
          await this.hold
        }
        const url = new URL(String(input))
        if (this.cut || (this.deaf && url.pathname.endsWith('/events'))) throw new TypeError('fetch failed')
        const reading = init?.method !== 'POST' && url.pathname.endsWith('/changes')
        if (reading)
          this.readings.push({
            after: Number(url.searchParams.get('after')),
            limit: Number(url.searchParams.get('limit')),
          })
        const response = await fetch(input, init)
        if (reading) await this.holdReading
        if (init?.method === 'POST') this.onPush('answered')
        if (this.loseReplies > 0 && init?.method === 'POST') {
          this.loseReplies--
          await response.body?.cancel()
          throw new TypeError('fetch failed')
        }
        return response
      },
    })
    this.sync = new Sync({
      workspaceId: this.workspaceId,
      deviceId,
      client: this.client,
      state: this.state,
      documents: this.documents,
      clock: this.#clock,
      signedIn: async () => true,
      log: (_, message) => void this.logged.push(message),
    })
  }

  async close(): Promise<void> {
    await this.sync.stop()
    await this.documents.close()
    await this.state.close()
  }

  async remove(): Promise<void> {
    await this.close()
    rmSync(this.folder, { recursive: true, force: true })
  }

  async createPipeline(name: string): Promise<string> {
    const documentId = newId()
    const doc = createPipeline({ name, steps: [{ id: 'orders', name: 'orders', sql: 'select 1' }] })
    await this.documents.create({ documentId, workspaceId: this.workspaceId, kind: 'pipeline', doc })
    return documentId
  }

  describe(documentId: string, text: string): Promise<unknown> {
    return this.documents.edit(documentId, doc => editPipeline(doc, 'describe', d => setDescription(d, text)))
  }

  text(documentId: string): Promise<string> {
    return this.documents.read(documentId, doc =>
      String((doc as unknown as { description: unknown }).description),
    )
  }

  heads(documentId: string): Promise<string[]> {
    return this.documents.read(documentId, doc => A.getHeads(doc).sort())
  }

  /** Until the status says so; throws after 20 s with what it says instead. */
  async until(state: 'in_sync' | 'offline', waiting?: number): Promise<void> {
    const end = Date.now() + 20_000
    const there = () => {
      const status = this.sync.status()
      return status.state === state && (waiting === undefined || status.waiting === waiting)
    }
    while (!there()) {
      if (Date.now() > end) throw new Error(`not ${state}: ${JSON.stringify(this.sync.status())}`)
      await systemClock.sleep(20)
    }
  }
}
