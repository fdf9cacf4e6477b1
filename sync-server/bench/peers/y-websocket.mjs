// y-websocket 2 with y-leveldb: one socket for each document, as its provider does it.
import { createRequire } from 'node:module'
import WebSocket, { WebSocketServer } from 'ws'
import { listen } from './listen.mjs'

// One copy of Yjs for the provider, the server and this file.
const require = createRequire(import.meta.url)
const Y = require('yjs')
const { WebsocketProvider } = require('y-websocket')
const { LeveldbPersistence } = require('y-leveldb')

let made = 0
export const newId = () => `document-${made++}`

export function buildSmall({ doc, edits }) {
  const target = new Y.Doc()
  const root = target.getMap('root')
  target.transact(() => {
    root.set('name', doc.name)
    root.set('rev', 0)
    const steps = new Y.Array()
    root.set('steps', steps)
    for (const step of doc.steps) {
      const map = new Y.Map()
      map.set('name', step.name)
      map.set('sql', new Y.Text(step.sql))
      steps.push([map])
    }
  })
  for (const [step, at, deleted, inserted] of edits)
    target.transact(() => {
      const text = root.get('steps').get(step).get('sql')
      text.delete(at, deleted)
      text.insert(at, inserted)
    })
  return Y.encodeStateAsUpdate(target)
}

export function buildText({ patches }) {
  const target = new Y.Doc()
  const text = target.getText('text')
  for (const [at, deleted, inserted] of patches)
    target.transact(() => {
      if (deleted) text.delete(at, deleted)
      if (inserted) text.insert(at, inserted)
    })
  return Y.encodeStateAsUpdate(target)
}

export async function seed(folder, documents) {
  const store = new LeveldbPersistence(folder)
  for (const [id, bytes] of documents) await store.storeUpdate(id, bytes)
  await store.destroy()
}

export async function serve(folder) {
  process.env.YPERSISTENCE = folder
  const { setupWSConnection } = require(require.resolve('y-websocket/bin/utils'))
  const sockets = new WebSocketServer({ noServer: true })
  sockets.on('connection', setupWSConnection)
  return listen(sockets)
}

export class Client {
  static async connect(port) {
    const client = new Client()
    client.address = `ws://127.0.0.1:${port}`
    return client
  }

  open(id) {
    return new Promise(resolve => {
      const document = new Y.Doc()
      const provider = new WebsocketProvider(this.address, id, document, {
        WebSocketPolyfill: WebSocket,
        disableBc: true,
        maxBackoffTime: 100,
      })
      const opened = {
        steps: () => document.getMap('root').get('steps')?.length,
        length: () => document.getText('text').length,
      }
      provider.once('sync', () => resolve(opened))
    })
  }
}
