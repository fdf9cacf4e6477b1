import { identityRoutes, newId, type Role } from '@pluto-duck/crdt-model/protocol'
import { type RunningServer, readConfig, startServer } from '@pluto-duck/sync-server'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import { pino } from 'pino'
import { WireClient } from '../../src/sync/index.ts'

export interface Person {
  readonly email: string
  readonly token: string
  readonly client: WireClient
}

/** The real server on a database of its own. */
export class TestServer {
  readonly server: RunningServer
  readonly database: TestDatabase

  private constructor(server: RunningServer, database: TestDatabase) {
    this.server = server
    this.database = database
  }

  static async start(settings: Record<string, string> = {}): Promise<TestServer> {
    const database = await testDatabase()
    const config = readConfig({
      PORT: '0',
      DATABASE_URL: database.url,
      AUTH_SECRET: 'a secret of forty characters, for tests.',
      ...settings,
    })
    return new TestServer(await startServer(config, { log: pino({ level: 'silent' }) }), database)
  }

  async stop(): Promise<void> {
    await this.server.close()
    await this.database.drop()
  }

  async person(name: string): Promise<Person> {
    const email = `${name}@example.org`
    const token = await this.server.issueSession(await this.server.ensureLocalOwner({ name, email }))
    const client = new WireClient({ server: this.server.url, deviceId: newId(), token: async () => token })
    return { email, token, client }
  }

  async workspace(owner: Person): Promise<string> {
    const workspace_id = newId()
    await owner.client.call(identityRoutes.createWorkspace, { body: { workspace_id, name: 'W' } })
    return workspace_id
  }

  /** Makes somebody a member by an invitation, as it is done. */
  async join(workspaceId: string, owner: Person, who: Person, role: Role): Promise<void> {
    const { value } = await owner.client.call(identityRoutes.invite, {
      params: { workspace_id: workspaceId },
      body: { invitation_id: newId(), email: who.email, role },
    })
    await who.client.call(identityRoutes.acceptInvitation, { body: { token: value.token ?? '' } })
  }
}
