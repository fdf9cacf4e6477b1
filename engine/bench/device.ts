// A device in a process of its own, for benchmarks of the server: the host's own state, documents and sync. Forked by
// sync-server/bench with IPC; the first message says what to do, each answer is `{message}`.
import { mkdtempSync, rmSync } from 'node:fs'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as Automerge from '@automerge/automerge'
import { contentOf } from '@pluto-duck/crdt-model'
import { systemClock } from '../src/clock.ts'
import { Documents } from '../src/documents/index.ts'
import { Settings, State, Workspaces } from '../src/state/index.ts'
import { Sync, WireClient } from '../src/sync/index.ts'

interface Account {
  readonly url: string
  readonly token: string
  readonly workspaceId: string
}

const sockets = new Set<Socket>()
const connect = Socket.prototype.connect
Socket.prototype.connect = function (this: Socket, ...args: never[]) {
  sockets.add(this)
  return (connect as (...given: never[]) => Socket).apply(this, args)
} as typeof connect

function socketBytes(): number {
  let sum = 0
  for (const socket of sockets) sum += socket.bytesRead + socket.bytesWritten
  return sum
}

class Device {
  readonly folder = mkdtempSync(join(tmpdir(), 'pluto-bench-device-'))
  state!: State
  documents!: Documents
  sync!: Sync
  /** The network is there. */
  online = true

  async open({ url, token, workspaceId }: Account): Promise<void> {
    // Whoever opens a workspace has signed in before: the HTTP client of this process is loaded.
    await fetch('data:,')
    this.state = await State.open(this.folder)
    this.documents = await Documents.open(this.state, systemClock)
    await new Workspaces(this.state).put({
      workspace_id: workspaceId,
      name: 'W',
      role: 'editor',
      remote: true,
    })
    const deviceId = await new Settings(this.state).deviceId()
    this.sync = new Sync({
      workspaceId,
      deviceId,
      client: new WireClient({ server: url, deviceId, token: async () => token }),
      state: this.state,
      documents: this.documents,
      clock: systemClock,
      signedIn: async () => true,
      log: (level, message, facts) => {
        if (level !== 'info') console.error(level, message, facts)
      },
    })
  }

  /** Until the sync has caught up; its loop is going. */
  caughtUp(): Promise<void> {
    return new Promise(resolve => {
      const off = this.sync.on(news => {
        if (news.kind !== 'caught_up') return
        off()
        resolve()
      })
    })
  }

  async remove(): Promise<void> {
    await this.sync.stop()
    await this.documents.close()
    await this.state.close()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** A new device takes a whole workspace: stored durably, cursor committed, listable. */
async function newDevice({ account, count }: { account: Account; count: number }): Promise<unknown> {
  const device = new Device()
  await device.open(account)
  const cpu = process.cpuUsage()
  const started = performance.now()
  const done = device.caughtUp()
  await device.sync.start()
  await done
  const ms = performance.now() - started
  const used = process.cpuUsage(cpu)
  const bytes = socketBytes()
  const listed = device.documents.list(account.workspaceId)
  if (listed.length !== count || listed.some(info => info.title === ''))
    throw new Error(`${listed.length} of ${count} documents are listed`)
  const stored = await device.state.read.first<{ documents: number; cursor: number }>(
    'select count(*) as documents, (select max(cursor) from workspaces) as cursor from documents',
  )
  if (stored?.documents !== count || !(stored.cursor > 0)) throw new Error('not everything is stored')
  await device.remove()
  return { ms, bytes, cpu: (used.user + used.system) / 1e6 }
}

/**
 * A new device opens one document in a view, as soon as it has it: until its text can be read, and until it can be edited. The view
 * does what the app's does: it reads the text out of the bytes, shows it, and loads them.
 */
async function openText({ account, documentId }: { account: Account; documentId: string }): Promise<unknown> {
  const device = new Device()
  await device.open(account)
  const listed = new Promise<void>(resolve => {
    device.documents.on(event => {
      if (event.kind === 'listed' && event.documentId === documentId) resolve()
    })
  })
  const started = performance.now()
  const done = device.caughtUp()
  await device.sync.start()
  await listed
  const storedMs = performance.now() - started
  const opened = await device.documents.open(documentId)
  const openedMs = performance.now() - started
  const content = await contentOf(opened.bytes)
  const readableMs = performance.now() - started
  const view = Automerge.load<{ text: string }>(opened.bytes, { actor: opened.actor })
  const edited = Automerge.change(view, draft => Automerge.splice(draft, ['text'], 0, 0, 'x'))
  const editableMs = performance.now() - started
  await done
  const bytes = socketBytes()
  const read = await device.documents.read(documentId, doc => (doc as unknown as { text: string }).text)
  if (content?.text !== read || edited.text !== `x${read}`) throw new Error('the view shows another text')
  const again = performance.now()
  Automerge.free(Automerge.load(opened.bytes))
  const secondLoadMs = performance.now() - again
  await device.remove()
  return { storedMs, openedMs, readableMs, editableMs, secondLoadMs, bytes, text: read }
}

/** The floor of W2: the bytes are here, `load` and one edit. In a process of its own, so that it is as cold as the device. */
async function bareLoad({ bytes }: { bytes: Uint8Array }): Promise<unknown> {
  const started = performance.now()
  const doc = Automerge.load<{ text: string }>(new Uint8Array(bytes))
  Automerge.change(doc, draft => Automerge.splice(draft, ['text'], 0, 0, 'x'))
  return { ms: performance.now() - started }
}

/** Two devices edit one text while they are offline, then come back: until both have everything. */
async function offlineEdits({
  account,
  documentId,
  edits,
}: {
  account: Account
  documentId: string
  edits: number
}): Promise<unknown> {
  const devices = [new Device(), new Device()]
  for (const device of devices) {
    await device.open(account)
    const done = device.caughtUp()
    await device.sync.start()
    await done
    device.sync.pause(true)
  }
  let seed = 7
  const random = (): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
    return seed / 4294967296
  }
  for (const [i, device] of devices.entries()) {
    const { bytes, actor } = await device.documents.open(documentId)
    let view = Automerge.load<{ text: string }>(bytes, { actor })
    const durable: Promise<unknown>[] = []
    for (let n = 0; n < edits; n++) {
      const at = i === 0 ? Math.floor(random() * 4500) : 5500 + Math.floor(random() * 4400)
      view = Automerge.change(view, draft => Automerge.splice(draft, ['text'], at, 0, i === 0 ? 'a' : 'b'))
      // Typing waits for no disk, so commits are shared.
      durable.push(device.documents.append(documentId, [Automerge.getLastLocalChange(view)!], 'view'))
    }
    await Promise.all(durable)
    Automerge.free(view)
  }
  const before = socketBytes()
  const cpu = process.cpuUsage()
  const heads = () => devices.map(device => device.documents.info(documentId).heads.join())
  const started = performance.now()
  for (const device of devices) device.sync.pause(false)
  const equal = (): boolean => {
    const [a, b] = heads()
    return a === b && devices.every(device => device.documents.waiting({ documentId }) === 0)
  }
  while (!equal()) {
    if (performance.now() - started > 300_000) throw new Error('the devices do not meet')
    await new Promise(resolve => setTimeout(resolve, 1))
  }
  const ms = performance.now() - started
  const used = process.cpuUsage(cpu)
  await new Promise(resolve => setTimeout(resolve, 500))
  const bytes = socketBytes() - before
  const texts = []
  for (const device of devices)
    texts.push(
      await device.documents.read(documentId, doc => (doc as unknown as { text: string }).text.length),
    )
  for (const device of devices) await device.remove()
  return { ms, bytes, cpu: (used.user + used.system) / 1e6, lengths: texts }
}

const TASKS: Readonly<Record<string, (args: never) => Promise<unknown>>> = {
  newDevice,
  openText,
  bareLoad,
  offlineEdits,
}

const task = TASKS[process.argv.find(argument => argument.startsWith('--role='))?.slice(7) ?? '']
if (!task) throw new Error('this program is started by a benchmark')
process.once('message', args => {
  task(args as never).then(
    message => process.send?.({ message }, undefined, undefined, () => process.exit(0)),
    (error: unknown) => {
      console.error(error)
      process.exit(1)
    },
  )
})
