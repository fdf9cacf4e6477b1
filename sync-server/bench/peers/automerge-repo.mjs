// automerge-repo with its WebSocket adapter and file storage, wired as its own sync server is.
import { mkdirSync } from 'node:fs'
import * as Automerge from '@automerge/automerge'
import { generateAutomergeUrl, parseAutomergeUrl, Repo } from '@automerge/automerge-repo'
import { NodeWSServerAdapter, WebSocketClientAdapter } from '@automerge/automerge-repo-network-websocket'
import { NodeFSStorageAdapter } from '@automerge/automerge-repo-storage-nodefs'
import { WebSocketServer } from 'ws'
import { listen } from './listen.mjs'

export const newId = () => generateAutomergeUrl()

export function buildSmall({ doc, edits }) {
  let made = Automerge.change(Automerge.init(), draft => {
    Object.assign(draft, structuredClone(doc))
  })
  for (const [step, at, deleted, inserted] of edits)
    made = Automerge.change(made, draft =>
      Automerge.splice(draft, ['steps', step, 'sql'], at, deleted, inserted),
    )
  const bytes = Automerge.save(made)
  Automerge.free(made)
  return bytes
}

export function buildText({ patches }) {
  let doc = Automerge.change(Automerge.init(), draft => {
    draft.text = ''
  })
  for (const [at, deleted, inserted] of patches)
    doc = Automerge.change(doc, draft => Automerge.splice(draft, ['text'], at, deleted, inserted))
  return Automerge.save(doc)
}

export async function seed(folder, documents) {
  mkdirSync(folder, { recursive: true })
  const repo = new Repo({ storage: new NodeFSStorageAdapter(folder), sharePolicy: async () => false })
  for (const [id, bytes] of documents) repo.import(bytes, { docId: parseAutomergeUrl(id).documentId })
  await repo.flush()
}

export async function serve(folder) {
  const sockets = new WebSocketServer({ noServer: true })
  new Repo({
    network: [new NodeWSServerAdapter(sockets)],
    storage: new NodeFSStorageAdapter(folder),
    peerId: 'storage-server',
    sharePolicy: async () => false,
  })
  return listen(sockets)
}

export class Client {
  static async connect(port) {
    const client = new Client()
    client.adapter = new WebSocketClientAdapter(`ws://127.0.0.1:${port}`)
    client.repo = new Repo({ network: [client.adapter] })
    await client.adapter.whenReady()
    return client
  }

  async open(id) {
    const handle = await this.repo.find(id)
    await handle.whenReady()
    return { steps: () => handle.doc().steps?.length, length: () => handle.doc().text?.length }
  }
}
