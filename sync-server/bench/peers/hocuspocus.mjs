// Hocuspocus with its database extension on SQLite, in the statements of its own SQLite extension (which needs a native module).
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Database } from '@hocuspocus/extension-database'
import { HocuspocusProvider, HocuspocusProviderWebsocket } from '@hocuspocus/provider'
import { Server } from '@hocuspocus/server'
import WebSocket from 'ws'
import * as Y from 'yjs'
import { until } from './until.mjs'
import { yjsDocuments } from './yjs-documents.mjs'

const documents = yjsDocuments(Y)
const UPSERT =
  'insert into documents (name, data) values ($name, $data) on conflict (name) do update set data = $data'

function open(folder) {
  mkdirSync(folder, { recursive: true })
  const database = new DatabaseSync(join(folder, 'hocuspocus.sqlite'), { timeout: 5_000 })
  database.exec(
    'create table if not exists documents (name varchar(255) not null, data blob not null, unique (name))',
  )
  return database
}

export async function seed(folder, contents) {
  const database = open(folder)
  const put = database.prepare(UPSERT)
  database.exec('begin')
  const ids = contents.map((content, i) => {
    const name = `document-${i}`
    put.run({ name, data: documents.build(content) })
    return name
  })
  database.exec('commit')
  database.close()
  return ids
}

export async function serve(folder) {
  const database = open(folder)
  const get = database.prepare('select data from documents where name = $name')
  const put = database.prepare(UPSERT)
  const server = new Server({
    port: 0,
    address: '127.0.0.1',
    quiet: true,
    extensions: [
      new Database({
        fetch: async ({ documentName }) => get.get({ name: documentName })?.data ?? null,
        store: async ({ documentName, state }) => void put.run({ name: documentName, data: state }),
      }),
    ],
  })
  await server.listen()
  return server.address.port
}

/** `rev` of each document on the disk, while the server runs. */
export async function stored(folder, ids) {
  const database = new DatabaseSync(join(folder, 'hocuspocus.sqlite'), { readOnly: true, timeout: 5_000 })
  try {
    const get = database.prepare('select data from documents where name = $name')
    return ids.map(name => documents.revOf(get.get({ name }).data))
  } finally {
    database.close()
  }
}

export class Client {
  static async connect(port) {
    const client = new Client()
    client.socket = new HocuspocusProviderWebsocket({
      url: `ws://127.0.0.1:${port}`,
      WebSocketPolyfill: WebSocket,
      minDelay: 50,
      delay: 50,
      maxDelay: 200,
      jitter: false,
    })
    await until(() => client.socket.status === 'connected', 10_000)
    return client
  }

  open(name) {
    return new Promise((resolve, reject) => {
      const document = new Y.Doc()
      const provider = new HocuspocusProvider({
        websocketProvider: this.socket,
        name,
        document,
        onSynced: () => resolve(documents.opened(document, acknowledged)),
        onAuthenticationFailed: reject,
      })
      const acknowledged = () => until(() => provider.unsyncedChanges === 0 && provider.synced)
      provider.attach?.()
    })
  }

  offline() {
    this.socket.disconnect()
  }

  online() {
    this.socket.connect()
  }
}
