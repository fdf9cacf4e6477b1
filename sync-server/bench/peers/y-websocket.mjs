// y-websocket 2 with y-leveldb: one socket for each document, as its provider does it. Its protocol acknowledges nothing.
import { createRequire } from 'node:module'
import WebSocket, { WebSocketServer } from 'ws'
import { listen } from './listen.mjs'
import { yjsDocuments } from './yjs-documents.mjs'

// One copy of Yjs for the provider, the server and this file.
const require = createRequire(import.meta.url)
const documents = yjsDocuments(require('yjs'))
const { WebsocketProvider } = require('y-websocket')
const { LeveldbPersistence } = require('y-leveldb')

export async function seed(folder, contents) {
  const store = new LeveldbPersistence(folder)
  const ids = contents.map((_, i) => `document-${i}`)
  for (const [i, content] of contents.entries()) await store.storeUpdate(ids[i], documents.build(content))
  await store.destroy()
  return ids
}

export async function serve(folder) {
  process.env.YPERSISTENCE = folder
  const { setupWSConnection } = require(require.resolve('y-websocket/bin/utils'))
  const sockets = new WebSocketServer({ noServer: true })
  sockets.on('connection', setupWSConnection)
  return listen(sockets)
}

export class Client {
  providers = []

  static async connect(port) {
    const client = new Client()
    client.address = `ws://127.0.0.1:${port}`
    return client
  }

  open(id) {
    return new Promise(resolve => {
      const { Doc } = require('yjs')
      const document = new Doc()
      const provider = new WebsocketProvider(this.address, id, document, {
        WebSocketPolyfill: WebSocket,
        disableBc: true,
        maxBackoffTime: 100,
      })
      this.providers.push(provider)
      provider.once('sync', () => resolve(documents.opened(document, async () => undefined)))
    })
  }

  offline() {
    for (const provider of this.providers) provider.disconnect()
  }

  online() {
    for (const provider of this.providers) provider.connect()
  }
}
