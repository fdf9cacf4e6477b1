import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as Automerge from '@automerge/automerge'
import { createPipeline, type PipelineDefinition } from '@pluto-duck/crdt-model'
import { AppError } from '@pluto-duck/crdt-model/errors'
import {
  changeRoutes,
  encodeSequence,
  identityRoutes,
  newId,
  type Role,
} from '@pluto-duck/crdt-model/protocol'
import { type RunningServer, readConfig, type StartOptions, startServer } from '@pluto-duck/sync-server'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import { pino } from 'pino'
import { systemClock } from '../../src/clock.ts'
import { WireClient } from '../../src/sync/index.ts'
import type { ServerCalls } from '../../src/versions/server-calls.ts'

/** Pauses are cut short, so that a test sees many attempts in little time. */
export const HASTY = {
  now: () => Date.now(),
  sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(Math.min(ms, 20), signal),
}

export interface Person {
  readonly id: string
  readonly name: string
  readonly deviceId: string
  readonly token: string
  readonly wire: WireClient
}

/** The real server, with its artifacts in a folder. */
export class Colleagues {
  readonly server: RunningServer
  readonly database: TestDatabase
  readonly dataDir: string

  private constructor(server: RunningServer, database: TestDatabase, dataDir: string) {
    this.server = server
    this.database = database
    this.dataDir = dataDir
  }

  static async start(options: Pick<StartOptions, 'clock'> = {}): Promise<Colleagues> {
    const database = await testDatabase()
    const dataDir = mkdtempSync(join(tmpdir(), 'pluto-server-'))
    const config = readConfig({
      PORT: '0',
      DATABASE_URL: database.url,
      DATA_DIR: dataDir,
      AUTH_SECRET: 'a secret of forty characters, for tests.',
    })
    const server = await startServer(config, { log: pino({ level: 'silent' }), ...options })
    return new Colleagues(server, database, dataDir)
  }

  async stop(): Promise<void> {
    await this.server.close()
    await this.database.drop()
    rmSync(this.dataDir, { recursive: true, force: true })
  }

  async person(name: string): Promise<Person> {
    const id = await this.server.ensureLocalOwner({ name, email: `${name}@example.org` })
    const token = await this.server.issueSession(id)
    const deviceId = newId()
    return {
      id,
      name,
      deviceId,
      token,
      wire: new WireClient({ server: this.server.url, deviceId, token: async () => token }),
    }
  }

  async workspace(owner: Person): Promise<string> {
    const workspace_id = newId()
    await owner.wire.call(identityRoutes.createWorkspace, { body: { workspace_id, name: 'W' } })
    return workspace_id
  }

  async join(workspace_id: string, owner: Person, who: Person, role: Role): Promise<void> {
    const body = { invitation_id: newId(), email: `${who.name}@example.org`, role }
    const invited = await owner.wire.call(identityRoutes.invite, { params: { workspace_id }, body })
    await who.wire.call(identityRoutes.acceptInvitation, { body: { token: invited.value.token ?? '' } })
  }

  /** Syncs a pipeline's document to the server, as the sync of a host does. */
  async share(
    workspace_id: string,
    by: Person,
    pipelineId: string,
    definition: PipelineDefinition,
  ): Promise<void> {
    const doc = createPipeline(definition)
    const about = { document_id: pipelineId, kind: 'pipeline' as const, subject: null, base: null }
    const items = Automerge.getAllChanges(doc).map(bytes => ({ ...about, bytes }))
    await by.wire.call(changeRoutes.append, {
      params: { workspace_id },
      query: {},
      body: encodeSequence([{ v: 1, device_id: by.deviceId, live: true }, ...items]),
    })
  }
}

/** A person's connection, which can be taken away, and can lose the reply to every call the first time it is made. */
export class Line implements ServerCalls {
  online = true
  losesReplies = false
  readonly #wire: WireClient
  readonly #lost = new Set<string>()

  constructor(person: Person) {
    this.#wire = person.wire
  }

  call: ServerCalls['call'] = async (route, request) => {
    if (!this.online) throw new AppError('server.unreachable', 'There is no connection.')
    const { value } = await this.#wire.call(route, request as never)
    const key = JSON.stringify([route.id, request])
    if (this.losesReplies && !this.#lost.has(key)) {
      this.#lost.add(key)
      throw new AppError('server.unreachable', 'The reply was lost.')
    }
    return value as never
  }
}
