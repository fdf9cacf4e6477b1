// automerge-repo with its WebSocket adapter and file storage, wired as its own sync server is.
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as Automerge from '@automerge/automerge'
import { generateAutomergeUrl, parseAutomergeUrl, Repo } from '@automerge/automerge-repo'
import { NodeWSServerAdapter, WebSocketClientAdapter } from '@automerge/automerge-repo-network-websocket'
import { NodeFSStorageAdapter } from '@automerge/automerge-repo-storage-nodefs'
import { WebSocketServer } from 'ws'
import { listen } from './listen.mjs'
import { until } from './until.mjs'

function build({ doc, edits = [], text = '', patches = [] }) {
  let made = Automerge.change(Automerge.init(), draft => {
    Object.assign(draft, doc ? structuredClone(doc) : { text, rev: 0 })
  })
  for (const [step, at, deleted, inserted] of edits)
    made = Automerge.change(made, draft =>
      Automerge.splice(draft, ['steps', step, 'sql'], at, deleted, inserted),
    )
  for (const [at, deleted, inserted] of patches)
    made = Automerge.change(made, draft => Automerge.splice(draft, ['text'], at, deleted, inserted))
  const bytes = Automerge.save(made)
  Automerge.free(made)
  return bytes
}

export async function seed(folder, contents) {
  mkdirSync(folder, { recursive: true })
  const repo = new Repo({ storage: new NodeFSStorageAdapter(folder), sharePolicy: async () => false })
  const ids = contents.map(content => {
    const id = generateAutomergeUrl()
    repo.import(build(content), { docId: parseAutomergeUrl(id).documentId })
    return id
  })
  await repo.flush()
  return ids
}

export async function serve(folder, { acknowledges }) {
  const sockets = new WebSocketServer({ noServer: true })
  new Repo({
    network: [new NodeWSServerAdapter(sockets)],
    storage: new NodeFSStorageAdapter(folder),
    peerId: 'storage-server',
    sharePolicy: async () => false,
    enableRemoteHeadsGossiping: acknowledges,
  })
  return listen(sockets)
}

/** `rev` of each document on the disk, while the server runs. */
export async function stored(folder, ids) {
  return ids.map(id => {
    const { documentId } = parseAutomergeUrl(id)
    const parts = ['snapshot', 'incremental']
      .map(kind => join(folder, documentId.slice(0, 2), documentId.slice(2), kind))
      .filter(existsSync)
      .flatMap(path => readdirSync(path).map(name => join(path, name)))
    try {
      return Automerge.loadIncremental(Automerge.init(), Buffer.concat(parts.map(part => readFileSync(part))))
        .rev
    } catch {
      // A file was replaced meanwhile: the next look has it.
      return -1
    }
  })
}

export class Client {
  static async connect(port) {
    const client = new Client()
    client.adapter = new WebSocketClientAdapter(`ws://127.0.0.1:${port}`)
    client.repo = new Repo({ network: [client.adapter], enableRemoteHeadsGossiping: true })
    await client.adapter.whenReady()
    return client
  }

  async open(id) {
    const handle = await this.repo.find(id)
    await handle.whenReady()
    const known = () => {
      const storage = Object.values(this.repo.peerMetadataByPeerId).find(one => one.storageId)?.storageId
      const heads = storage && handle.getSyncInfo(storage)?.lastHeads
      return heads && [...heads].sort().join() === [...handle.heads()].sort().join()
    }
    return {
      steps: () => handle.doc().steps?.length ?? 0,
      rev: () => handle.doc().rev,
      length: () => handle.doc().text?.length ?? 0,
      text: () => handle.doc().text,
      onChange: heard => handle.on('change', heard),
      insert: (at, inserted) => handle.change(draft => Automerge.splice(draft, ['text'], at, 0, inserted)),
      edit: i =>
        handle.change(draft => {
          draft.steps[i % 8].name = `step-${i}`
          draft.rev = i
        }),
      acknowledged: () => until(known),
    }
  }

  offline() {
    this.own = [this.adapter.peerId, this.adapter.peerMetadata]
    this.adapter.disconnect()
  }

  online() {
    this.adapter.connect(...this.own)
  }
}
