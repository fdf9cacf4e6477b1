import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest'
import type { Schema } from '../../src/documents/index.ts'
import { Device } from './device.ts'
import { type Person, TestServer } from './server.ts'

/** Ada, who owns a workspace, and Bob, an editor of it, on one server; for each test of a file another workspace. */
export class TwoPeople {
  server!: TestServer
  ada!: Person
  bob!: Person
  workspaceId!: string
  readonly #devices: Device[] = []

  /** Registers the set-up and the cleaning with the file that calls it. */
  constructor() {
    beforeAll(async () => {
      this.server = await TestServer.start()
      this.ada = await this.server.person('ada')
      this.bob = await this.server.person('bob')
    })
    afterAll(() => this.server?.stop())
    beforeEach(async () => {
      this.workspaceId = await this.server.workspace(this.ada)
      await this.server.join(this.workspaceId, this.ada, this.bob, 'editor')
    })
    afterEach(async () => {
      for (const one of this.#devices.splice(0)) await one.remove()
    })
  }

  /** A device of somebody, removed after the test. Its sync is not started. */
  async device(
    person: Person,
    { folder, schema }: { readonly folder?: string | undefined; readonly schema?: Schema | undefined } = {},
  ): Promise<Device> {
    const made = await Device.start(this.server.server.url, person.token, this.workspaceId, folder)
    this.#devices.push(made)
    if (schema) {
      await made.close()
      made.schema = schema
      await made.open()
    }
    return made
  }
}
