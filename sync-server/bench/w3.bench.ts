// W3: somebody types 20 characters a second into a text of 10,000; how long until the bytes are at each reader, and until
// each reader's Automerge document shows them. Every edit is tried and committed before a reader hears of it. Readers are in one
// process. First they only take the bytes; then, in a second measurement, each applies what arrives as the app does: at once after a
// quiet while, else together with what comes in three times as long as the last application took (60 ms at most), which keeps
// their one process busy. Beside both the floor: Automerge's own application of one such edit, which the trial cannot be quicker
// than. `--readers=50`: as many; `--full`: both, medians of 5.
import * as Automerge from '@automerge/automerge'
import { decodeSequence, type LiveEvent, newId } from '@pluto-duck/crdt-model/protocol'
import { median, percentile, print, sayLoad } from './harness/figures.ts'
import { cpuSeconds, now } from './harness/process.ts'
import { type Part, playRole, startRole } from './harness/roles.ts'
import { endServer, openBench } from './harness/server.ts'
import { type Account, Device, socketBytes } from './harness/wire.ts'

const FULL = process.argv.includes('--full')
const SECONDS = FULL ? 20 : 5
const ROUNDS = FULL ? 5 : 1
const READERS = process.argv.includes('--readers=50') ? 50 : 10
const COALESCE_MS = 60
const COALESCE_COSTS = 3
const TEXT = 'lorem ipsum dolor sit amet '.repeat(400).slice(0, 10_000)

interface Text extends Record<string, unknown> {
  text: string
}
interface ReaderArgs {
  readonly account: Account
  readonly count: number
  /** Apply what arrives to a document. */
  readonly show: boolean
  readonly base: Uint8Array
  readonly documentId: string
  readonly after: number
}
/** When the text had each length: [length, ms]. */
type Times = readonly (readonly [number, number])[]
interface Seen {
  readonly bytes: readonly Times[]
  readonly visible: readonly Times[]
  readonly received: number
}

/** A device that shows one document. */
class Reader {
  readonly bytes: [number, number][] = []
  readonly visible: [number, number][] = []
  readonly #args: ReaderArgs
  readonly #device: Device
  #doc: Automerge.Doc<Text>
  #seq: number
  #length: number
  #arrived: Uint8Array[] = []
  #timer: NodeJS.Timeout | null = null
  #applied = { at: 0, ms: 0 }

  constructor(args: ReaderArgs) {
    this.#args = args
    this.#device = new Device(args.account)
    this.#doc = Automerge.load<Text>(args.base)
    this.#length = this.#doc.text.length
    this.#seq = args.after
  }

  open(): Promise<void> {
    return this.#device.listen(data => void this.#heard(data), { after: this.#args.after })
  }

  #heard(data: string): void {
    const at = now()
    const event = JSON.parse(data) as LiveEvent
    if (event.type !== 'changes') return
    if (event.items === null || event.from !== this.#seq)
      throw new Error('a gap: the log would have to be read')
    this.#seq = event.to
    for (const item of decodeSequence(new Uint8Array(Buffer.from(event.items, 'base64')))) {
      this.bytes.push([++this.#length, at])
      if (this.#args.show) this.#arrived.push(item.bytes as Uint8Array)
    }
    if (!this.#args.show) return
    const { at: last, ms } = this.#applied
    const wait = last + Math.min(COALESCE_MS, ms * COALESCE_COSTS) - at
    this.#timer ??= setTimeout(() => this.#show(), Math.max(0, wait))
  }

  #show(): void {
    const started = now()
    const from = this.#doc.text.length
    const changes = this.#arrived
    this.#timer = null
    this.#arrived = []
    ;[this.#doc] = Automerge.applyChanges(this.#doc, changes)
    const at = now()
    this.#applied = { at, ms: at - started }
    for (let length = from + 1; length <= this.#doc.text.length; length++) this.visible.push([length, at])
  }
}

await playRole({
  readers: async (part: Part, args: ReaderArgs) => {
    const readers = Array.from({ length: args.count }, () => new Reader(args))
    for (const reader of readers) await reader.open()
    part.say('ready')
    await part.heard()
    part.say({
      bytes: readers.map(reader => reader.bytes),
      visible: readers.map(reader => reader.visible),
      received: socketBytes().received,
    } satisfies Seen)
    await part.heard()
  },
  writer: async (part: Part, args: Omit<ReaderArgs, 'count' | 'show'>) => {
    const device = new Device(args.account)
    let doc = Automerge.load<Text>(args.base)
    let waiting: Uint8Array[] = []
    let sending: Promise<void> | null = null
    const acknowledged: number[] = []
    const send = async (): Promise<void> => {
      while (waiting.length > 0) {
        const items = waiting.map(bytes => ({ documentId: args.documentId, bytes }))
        waiting = []
        const started = now()
        await device.push(items)
        acknowledged.push(now() - started)
      }
      sending = null
    }
    // As a device is before anybody types in it: it has read the log to its end, and hears of what others write.
    await (await device.request(`/changes?after=${args.after}`)).arrayBuffer()
    await device.listen(() => {}, { after: args.after })
    part.say('ready')
    await part.heard()
    const sent: [number, number][] = []
    const started = now()
    for (let i = 0; i < SECONDS * 20; i++) {
      await new Promise(resolve => setTimeout(resolve, Math.max(0, started + i * 50 - now())))
      const at = now()
      doc = Automerge.change(doc, draft => Automerge.splice(draft, ['text'], draft.text.length, 0, 'x'))
      waiting.push(Automerge.getLastLocalChange(doc)!)
      sent.push([doc.text.length, at])
      sending ??= send()
    }
    await sending
    await new Promise(resolve => setTimeout(resolve, 1_500))
    part.say({ sent, acknowledged })
    await part.heard()
  },
})

interface Round {
  readonly bytes: number[]
  readonly visible: number[]
  readonly acknowledged: readonly number[]
  readonly missed: number
  readonly serverCpu: number
  readonly postgresCpu: number
  readonly memory: number
  readonly readersCpu: number
  readonly received: number
}

/** Milliseconds that one edit at the end of this text costs in Automerge: the median of 100, when it has run for a while. */
function applyMs(): number {
  let doc = Automerge.from<Text>({ text: TEXT })
  const handle = Automerge.getBackend(Automerge.load(Automerge.save(doc)))
  const took: number[] = []
  for (let i = 0; i < 200; i++) {
    doc = Automerge.change(doc, draft => Automerge.splice(draft, ['text'], draft.text.length, 0, 'x'))
    const change = Automerge.getLastLocalChange(doc)!
    const started = now()
    handle.applyChanges([change])
    took.push(now() - started)
  }
  return median(took.slice(100))
}

const bench = await openBench()

/** Edits of another workspace that the server has taken before it is measured, as one that is in use has. */
const BEFORE = 300

async function used(server: { readonly url: string; readonly token: string }): Promise<void> {
  const device = new Device(await Device.workspace(server))
  let doc = Automerge.from<Text>({ text: TEXT.slice(0, 2_000) })
  const documentId = newId()
  await device.push(Automerge.getAllChanges(doc).map(bytes => ({ documentId, bytes })))
  for (let i = 0; i < BEFORE; i++) {
    doc = Automerge.change(doc, draft => Automerge.splice(draft, ['text'], draft.text.length, 0, 'x'))
    await device.push([{ documentId, bytes: Automerge.getLastLocalChange(doc)! }])
  }
}

async function round(count: number, show: boolean): Promise<Round> {
  const server = await bench.startServer()
  await used(server)
  const account = await Device.workspace(server)
  const doc = Automerge.from<Text>({ text: TEXT })
  const documentId = newId()
  const { seq } = await new Device(account).push(
    Automerge.getAllChanges(doc).map(bytes => ({ documentId, bytes })),
  )
  const args = { account, base: Automerge.save(doc), documentId, after: seq }
  const readers = startRole(import.meta.filename, 'readers', { ...args, count, show })
  await readers.heard()
  const writer = startRole(import.meta.filename, 'writer', args)
  await writer.heard()
  await new Promise(resolve => setTimeout(resolve, 500))
  const [cpu, database, reading] = [server.cpuSeconds(), bench.postgresCpuSeconds(), cpuSeconds(readers.pid)]
  writer.say('go')
  const { sent, acknowledged } = (await writer.heard()) as { sent: Times; acknowledged: number[] }
  readers.say('go')
  const seen = (await readers.heard()) as Seen
  const result = {
    serverCpu: server.cpuSeconds() - cpu,
    postgresCpu: bench.postgresCpuSeconds() - database,
    readersCpu: cpuSeconds(readers.pid) - reading,
    memory: server.memoryMb().peak,
    received: seen.received,
    acknowledged,
  }
  await Promise.all([readers.kill(), writer.kill()])
  await endServer(server)

  const [bytes, visible] = [[] as number[], [] as number[]]
  let missed = 0
  for (let reader = 0; reader < count; reader++) {
    const arrived = new Map(seen.bytes[reader])
    const shown = new Map(seen.visible[reader])
    for (const [length, at] of sent) {
      const [a, b] = [arrived.get(length), shown.get(length)]
      if (a === undefined || (show && b === undefined)) missed++
      if (a !== undefined) bytes.push(a - at)
      if (b !== undefined) visible.push(b - at)
    }
  }
  return { bytes, visible, missed, ...result }
}

sayLoad()
const floor = applyMs()
const SIZES = [[10, 30, 100] as const, [50, 45, 600] as const]
for (const [count, p99, visible] of SIZES.filter(([size]) => FULL || size === READERS)) {
  const rounds: Round[] = []
  const showing: Round[] = []
  for (let i = 0; i < ROUNDS; i++) {
    rounds.push(await round(count, false))
    showing.push(await round(count, true))
  }
  const of = (value: (one: Round) => number, all = rounds): number => median(all.map(value))
  const name = (what: string): string => `w3_${count}_readers_${what}`
  print({
    name: name('bytes_p50'),
    value: of(one => percentile(one.bytes, 0.5)),
    unit: 'ms',
    floor,
    goal: 10,
  })
  print({ name: name('bytes_p99'), value: of(one => percentile(one.bytes, 0.99)), unit: 'ms', goal: p99 })
  print({
    name: name('visible_p50'),
    value: of(one => percentile(one.visible, 0.5), showing),
    unit: 'ms',
    floor,
  })
  print({
    name: name('visible_p99'),
    value: of(one => percentile(one.visible, 0.99), showing),
    unit: 'ms',
    goal: visible,
  })
  print({
    name: name('missed'),
    value: Math.max(...[...rounds, ...showing].map(one => one.missed)),
    unit: 'edits',
    goal: 0,
  })
  print({ name: name('acknowledged_p50'), value: of(one => percentile(one.acknowledged, 0.5)), unit: 'ms' })
  print({ name: name('server_cpu'), value: of(one => one.serverCpu), unit: 's' })
  print({ name: name('postgres_cpu'), value: of(one => one.postgresCpu), unit: 's' })
  print({ name: name('readers_cpu'), value: of(one => one.readersCpu, showing), unit: 's' })
  print({ name: name('server_memory'), value: of(one => one.memory), unit: 'MB' })
  print({ name: name('received'), value: of(one => one.received / 1024), unit: 'KB' })
}
await bench.stop()
