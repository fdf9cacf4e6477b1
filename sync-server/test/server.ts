import * as Automerge from '@automerge/automerge'
import { createPipeline, type PipelineInit } from '@pluto-duck/crdt-model'
import {
  appendVerdict,
  CBOR_SEQUENCE,
  type DocumentKind,
  decodeSequence,
  encodeSequence,
  HEADER,
  newId,
  type Role,
  type Subject,
} from '@pluto-duck/crdt-model/protocol'
import { type TestDatabase, testDatabase } from '@pluto-duck/test-fixtures/services'
import pg from 'pg'
import { pino } from 'pino'
import type { z } from 'zod'
import type { Clock } from '../src/app/index.ts'
import { type Config, type RunningServer, readConfig, startServer } from '../src/index.ts'

export interface Person {
  readonly id: string
  readonly email: string
  readonly token: string
}
export interface Reply {
  readonly status: number
  readonly headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: the body of any route; tests look into it
  readonly body: any
}

/** A server of its own on a database of its own, and a way to call it as somebody. */
export class TestServer {
  readonly server: RunningServer
  readonly database: TestDatabase
  readonly config: Config
  readonly sql: pg.Pool
  readonly logged: string[]
  private readonly devices = new Map<string, string>()

  private constructor(
    server: RunningServer,
    database: TestDatabase,
    config: Config,
    sql: pg.Pool,
    logged: string[],
  ) {
    this.server = server
    this.database = database
    this.config = config
    this.sql = sql
    this.logged = logged
  }

  static async start(
    settings: Readonly<Record<string, string>> = {},
    database?: TestDatabase,
    clock?: Clock,
  ): Promise<TestServer> {
    const own = database ?? (await testDatabase())
    const config = readConfig({
      PORT: '0',
      DATABASE_URL: own.url,
      AUTH_SECRET: 'a secret of forty characters, for tests.',
      ...settings,
    })
    const logged: string[] = []
    const log = pino({ level: 'info' }, { write: line => void logged.push(line) })
    const server = await startServer(config, { log, ...(clock ? { clock } : {}) })
    return new TestServer(server, own, config, new pg.Pool({ connectionString: own.url, max: 2 }), logged)
  }

  async stop(): Promise<void> {
    await this.sql.end()
    await this.server.close()
    await this.database.drop()
  }

  async person(name: string): Promise<Person> {
    const email = `${name}@example.org`
    const id = await this.server.ensureLocalOwner({ name, email })
    return { id, email, token: await this.server.issueSession(id) }
  }

  async call(
    method: string,
    path: string,
    options: { as?: Person; body?: unknown; headers?: Record<string, string> } = {},
  ): Promise<Reply> {
    const response = await fetch(this.server.url + path, {
      method,
      redirect: 'manual',
      headers: {
        ...(options.as ? { authorization: `Bearer ${options.as.token}` } : {}),
        ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
        ...options.headers,
      },
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
    })
    const text = await response.text()
    const isJson = response.headers.get('content-type')?.startsWith('application/json')
    return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text }
  }

  async workspace(owner: Person, name = 'W'): Promise<string> {
    const workspace_id = newId()
    await this.call('POST', '/v1/workspaces', { as: owner, body: { workspace_id, name } })
    return workspace_id
  }

  /** Makes somebody a member by an invitation, as it is done. */
  async join(workspaceId: string, owner: Person, who: Person, role: Role): Promise<void> {
    const invited = await this.call('POST', `/v1/workspaces/${workspaceId}/invitations`, {
      as: owner,
      body: { invitation_id: newId(), email: who.email, role },
    })
    await this.call('POST', '/v1/invitations/accept', { as: who, body: { token: invited.body.token } })
  }

  /** Appends by HTTP, as a device does: each person has one. */
  async push(
    workspaceId: string,
    who: Person,
    documentId: string,
    changes: readonly Uint8Array[],
    of: { kind?: DocumentKind; subject?: Subject; base?: string } = {},
  ): Promise<z.output<typeof appendVerdict>[]> {
    const device = this.deviceOf(who)
    const { kind = 'pipeline', subject = null, base = null } = of
    const response = await fetch(`${this.server.url}/v1/workspaces/${workspaceId}/changes`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${who.token}`,
        'content-type': CBOR_SEQUENCE,
        [HEADER.device]: device,
      },
      body: Buffer.from(
        encodeSequence([
          { v: 1, device_id: device, live: true },
          ...changes.map(bytes => ({ document_id: documentId, kind, subject, base, bytes })),
        ]),
      ),
    })
    const items = decodeSequence(new Uint8Array(await response.arrayBuffer()))
    return items.slice(0, -1).map(item => appendVerdict.parse(item))
  }

  deviceOf(who: Person): string {
    const device = this.devices.get(who.id) ?? newId()
    this.devices.set(who.id, device)
    return device
  }

  /** Writes a document's changes into the log as `changes/` does once they are admitted. */
  async store(
    workspaceId: string,
    documentId: string,
    author: Person,
    doc: Automerge.Doc<unknown>,
    options: { live?: boolean; at?: Date } = {},
  ): Promise<string[]> {
    const { live = true, at = new Date() } = options
    const known = await this.sql.query(
      'select encode(hash, $2) as hash from changes where document_id = $1',
      [documentId, 'hex'],
    )
    const hashes = new Set(known.rows.map(row => row.hash))
    const heads = Automerge.getHeads(doc).toSorted()
    await this.sql.query(
      `insert into workspace_counters (workspace_id, seq) values ($1, 0) on conflict do nothing`,
      [workspaceId],
    )
    for (const bytes of Automerge.getAllChanges(doc)) {
      const change = Automerge.decodeChange(bytes)
      if (hashes.has(change.hash)) continue
      const { rows } = await this.sql.query(
        'update workspace_counters set seq = seq + 1 where workspace_id = $1 returning seq',
        [workspaceId],
      )
      const seq = rows[0].seq
      await this.sql.query(
        `insert into documents (workspace_id, id, kind, title, heads, created_seq, seq)
         values ($1, $2, 'pipeline', 'a pipeline', $3, $4, $4)
         on conflict (workspace_id, id) do update set heads = excluded.heads, seq = excluded.seq`,
        [workspaceId, documentId, heads, seq],
      )
      await this.sql.query(
        `insert into changes (workspace_id, seq, document_id, hash, actor, actor_seq, author_id, device_id, received_at, live, bytes)
         values ($1, $2, $3, decode($4, 'hex'), $5, $6, $7, $8, $9, $10, $11)`,
        [
          workspaceId,
          seq,
          documentId,
          change.hash,
          change.actor,
          change.seq,
          author.id,
          newId(),
          at,
          live,
          Buffer.from(bytes),
        ],
      )
    }
    return heads
  }
}

export const somePipeline = (init: Partial<PipelineInit> = {}) =>
  createPipeline({
    name: 'weekly',
    steps: [{ id: 'a', name: 'orders', sql: 'select 1 as x' }],
    ...init,
  } as PipelineInit)
