// Jazz's cojson, wired as its sync server is, on SQLite. A small document is one map of plain strings (its cheapest shape), a text is
// one of its plain texts.
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { getSqliteStorage, LocalNode } from 'cojson'
import { NapiCrypto } from 'cojson/crypto/NapiCrypto'
import { createWebSocketPeer } from 'cojson-transport-ws'
import WebSocket, { WebSocketServer } from 'ws'
import { listen } from './listen.mjs'

const crypto = await NapiCrypto.create()
const TRUSTING = 'trusting'
let peers = 0

function newNode() {
  const secret = crypto.newRandomAgentSecret()
  return new LocalNode(secret, crypto.newRandomSessionID(crypto.getAgentID(secret)), crypto)
}

function storage(folder) {
  mkdirSync(folder, { recursive: true })
  const database = new DatabaseSync(join(folder, 'jazz.sqlite'))
  database.exec('pragma journal_mode = wal')
  const flat = values =>
    (values ?? []).map(value => (typeof value === 'boolean' ? Number(value) : (value ?? null)))
  return getSqliteStorage({
    run: (sql, values) => void database.prepare(sql).run(...flat(values)),
    query: (sql, values) => database.prepare(sql).all(...flat(values)),
    get: (sql, values) => database.prepare(sql).get(...flat(values)),
    transaction: work => {
      database.exec('begin')
      try {
        work()
        database.exec('commit')
      } catch (error) {
        database.exec('rollback')
        throw error
      }
    },
    closeDb: () => database.close(),
  })
}

function build(group, { doc, edits, text = '', patches = [] }) {
  if (!doc) {
    const made = group.createPlainText(text, null, TRUSTING)
    for (const [at, deleted, inserted] of patches) {
      if (deleted) made.deleteRange({ from: at, to: at + deleted }, TRUSTING)
      if (inserted && at === 0) made.insertBefore(0, inserted, TRUSTING)
      else if (inserted) made.insertAfter(at - 1, inserted, TRUSTING)
    }
    return made.id
  }
  const fields = { name: doc.name, rev: 0 }
  for (const [i, step] of doc.steps.entries()) {
    fields[`s${i}.name`] = step.name
    fields[`s${i}.sql`] = step.sql
  }
  const made = group.createMap(fields, null, TRUSTING)
  for (const [step, at, deleted, inserted] of edits) {
    const sql = made.get(`s${step}.sql`)
    made.set(`s${step}.sql`, sql.slice(0, at) + inserted + sql.slice(at + deleted), TRUSTING)
  }
  return made.id
}

export async function seed(folder, contents) {
  const node = newNode()
  node.setStorage(storage(folder))
  const group = node.createGroup()
  group.addMember('everyone', 'writer')
  const ids = []
  for (const content of contents) {
    ids.push(build(group, content))
    // It stores in the background, between our turns.
    if (ids.length % 200 === 0) await new Promise(resolve => setTimeout(resolve, 1))
  }
  await node.syncManager.waitForAllCoValuesSync()
  await new Promise(resolve => setTimeout(resolve, 1_500))
  await node.gracefulShutdown()
  return ids
}

export async function serve(folder) {
  const node = newNode()
  node.setStorage(storage(folder))
  const sockets = new WebSocketServer({ noServer: true })
  sockets.on('connection', websocket => {
    const ping = setInterval(
      () => websocket.send(JSON.stringify({ type: 'ping', time: Date.now(), dc: 'unknown' })),
      1_500,
    )
    websocket.on('close', () => clearInterval(ping))
    node.syncManager.addPeer(
      createWebSocketPeer({
        id: `client${peers++}`,
        role: 'client',
        websocket,
        expectPings: false,
        batchingByDefault: false,
        deletePeerStateOnClose: true,
      }),
    )
  })
  return listen(sockets)
}

export class Client {
  static async connect(port) {
    const client = new Client()
    client.address = `ws://127.0.0.1:${port}`
    client.node = newNode()
    await client.online()
    return client
  }

  async open(id) {
    const value = await this.node.load(id)
    if (value === 'unavailable') throw new Error(`${id} is unavailable`)
    const { core } = value
    const now = () => core.getCurrentContent()
    return {
      steps: () =>
        now()
          .keys()
          .filter(key => key.endsWith('.sql')).length,
      rev: () => now().get('rev'),
      length: () => now().toString().length,
      text: () => now().toString(),
      onChange: heard => core.subscribe(() => heard()),
      insert: (at, inserted) => {
        const text = now()
        if (at >= text.entries().length) text.append(inserted, undefined, TRUSTING)
        else text.insertBefore(at, inserted, TRUSTING)
      },
      edit: i => {
        const map = now()
        map.set(`s${i % 8}.name`, `step-${i}`, TRUSTING)
        map.set('rev', i, TRUSTING)
      },
      acknowledged: () => this.node.syncManager.waitForSync(core.id, 60_000),
    }
  }

  offline() {
    this.websocket.close()
  }

  async online() {
    this.websocket = new WebSocket(this.address)
    await new Promise((resolve, reject) => this.websocket.once('open', resolve).once('error', reject))
    this.node.syncManager.addPeer(
      createWebSocketPeer({
        id: `server${peers++}`,
        role: 'server',
        websocket: this.websocket,
        expectPings: false,
        batchingByDefault: true,
      }),
    )
  }
}
