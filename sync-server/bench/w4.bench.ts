// W4: 20 people each make 500 small edits of their own document as fast as they can, all in one workspace; until every change is
// stored, tried, and visible in the documents of a reader. Beside it the server alone: the same 10,000 changes, made before, in
// pushes of 100, against the bare insert of their rows. A server is measured once it has taken as many changes of another workspace, as
// one that is in use has; what it is right after its start is printed too. `--full`: medians of 5.
import * as Automerge from '@automerge/automerge'
import { decodeSequence, type LiveEvent, newId } from '@pluto-duck/crdt-model/protocol'
import { bareInsertMs } from './harness/bare-insert.ts'
import { median, print, sayLoad } from './harness/figures.ts'
import { now } from './harness/process.ts'
import { type Part, playRole, startRole } from './harness/roles.ts'
import { edit, type Sample, samplePipeline } from './harness/samples.ts'
import { type BenchServer, endServer, openBench } from './harness/server.ts'
import { type Account, Device, type PushItem } from './harness/wire.ts'

const ROUNDS = process.argv.includes('--full') ? 5 : 1
const WRITERS = 20
const EDITS = 500
const PER_PUSH = 100
const COALESCE_MS = 60
const COALESCE_COSTS = 3
const PUSH_GAP_MS = 50

interface Args {
  readonly account: Account
  readonly bases: readonly { readonly documentId: string; readonly bytes: Uint8Array }[]
  readonly after: number
}

/**
 * A device that has one document. What is written goes out at once when it was quiet; else, as in the app, with what gathered in 50 ms.
 */
class Writer {
  pushes = 0
  readonly #device: Device
  readonly #documentId: string
  #doc: Automerge.Doc<Sample>
  #waiting: PushItem[] = []
  #sending: Promise<void> | null = null

  constructor(account: Account, documentId: string, base: Uint8Array) {
    this.#device = new Device(account)
    this.#documentId = documentId
    this.#doc = Automerge.load<Sample>(base)
  }

  edit(i: number): void {
    this.#doc = edit(this.#doc, i)
    this.#waiting.push({ documentId: this.#documentId, bytes: Automerge.getLastLocalChange(this.#doc)! })
    this.#sending ??= this.#send()
  }

  async acknowledged(): Promise<void> {
    while (this.#sending) await this.#sending
  }

  async #send(): Promise<void> {
    while (this.#waiting.length > 0) {
      const items = this.#waiting
      this.#waiting = []
      const next = now() + PUSH_GAP_MS
      this.pushes++
      await this.#device.push(items)
      if (this.#waiting.length > 0)
        await new Promise(resolve => setTimeout(resolve, Math.max(0, next - now())))
    }
    this.#sending = null
  }
}

/** A device that shows all documents: by live events, and by the log where they leave something out. */
class Reader {
  readonly done = Promise.withResolvers<number>()
  readonly #device: Device
  readonly #docs = new Map<string, Automerge.Doc<Sample>>()
  readonly #arrived = new Map<string, Uint8Array[]>()
  #seq: number
  #heard: number
  #busy = false
  #applied = { at: 0, ms: 0 }

  constructor({ account, bases, after }: Args) {
    this.#device = new Device(account)
    for (const { documentId, bytes } of bases) this.#docs.set(documentId, Automerge.load<Sample>(bytes))
    this.#seq = after
    this.#heard = after
  }

  async open(): Promise<void> {
    await this.#device.listen(
      data => {
        const event = JSON.parse(data) as LiveEvent
        if (event.type !== 'changes') return
        this.#heard = event.to
        if (event.items !== null && event.from === this.#seq)
          this.#take(decodeSequence(new Uint8Array(Buffer.from(event.items, 'base64'))))
        if (!this.#busy) this.#follow().catch(this.done.reject)
      },
      { after: this.#seq },
    )
  }

  #take(items: readonly Record<string, unknown>[]): void {
    for (const item of items) {
      this.#seq = item.seq as number
      const id = item.document_id as string
      this.#arrived.set(id, [...(this.#arrived.get(id) ?? []), item.bytes as Uint8Array])
    }
  }

  async #follow(): Promise<void> {
    this.#busy = true
    while (this.#seq < this.#heard || this.#arrived.size > 0) {
      const wait = this.#applied.at + Math.min(COALESCE_MS, this.#applied.ms * COALESCE_COSTS) - now()
      await new Promise(resolve => setTimeout(resolve, Math.max(0, wait)))
      if (this.#seq < this.#heard) {
        const response = await this.#device.request(`/changes?after=${this.#seq}`)
        const items = decodeSequence(new Uint8Array(await response.arrayBuffer()))
        // An event that followed came in between.
        this.#take(items.slice(0, -1).filter(item => (item.seq as number) > this.#seq))
      }
      const started = now()
      for (const [id, changes] of this.#arrived)
        this.#docs.set(id, Automerge.applyChanges(this.#docs.get(id)!, changes)[0])
      this.#arrived.clear()
      this.#applied = { at: now(), ms: now() - started }
    }
    this.#busy = false
    if ([...this.#docs.values()].every(doc => doc.rev === EDITS)) this.done.resolve(now())
  }
}

await playRole({
  writers: async (part: Part, { account, bases }: Args) => {
    const writers = bases.map(({ documentId, bytes }) => new Writer(account, documentId, bytes))
    part.say('ready')
    await part.heard()
    const started = now()
    for (let i = 1; i <= EDITS; i++) {
      for (const writer of writers) writer.edit(i)
      await new Promise(resolve => setImmediate(resolve))
    }
    const local = now() - started
    for (const writer of writers) await writer.acknowledged()
    const pushes = writers.reduce((sum, writer) => sum + writer.pushes, 0)
    part.say({ started, local, acknowledged: now() - started, pushes })
    await part.heard()
  },
  reader: async (part: Part, args: Args) => {
    const reader = new Reader(args)
    await reader.open()
    part.say('ready')
    part.say(await reader.done.promise)
    await part.heard()
  },
  pushers: async (part: Part, { account, bases }: Args) => {
    const written = bases.map(({ documentId, bytes }) => ({ documentId, changes: editsOf(bytes) }))
    part.say('ready')
    await part.heard()
    const started = now()
    await Promise.all(
      written.map(async ({ documentId, changes }) => {
        const device = new Device(account)
        for (let from = 0; from < changes.length; from += PER_PUSH)
          await device.push(
            changes.slice(from, from + PER_PUSH).map(bytes => ({ documentId, bytes })),
            true,
          )
      }),
    )
    part.say(now() - started)
    await part.heard()
  },
})

function editsOf(base: Uint8Array): Uint8Array[] {
  let doc = Automerge.load<Sample>(base)
  return Array.from({ length: EDITS }, (_, i) => {
    doc = edit(doc, i + 1)
    return Automerge.getLastLocalChange(doc)!
  })
}

const bench = await openBench()

async function documents(server: BenchServer): Promise<Args> {
  const account = await Device.workspace(server)
  const docs = Array.from({ length: WRITERS }, (_, i) => ({
    documentId: newId(),
    doc: samplePipeline(9_000 + i),
  }))
  const { seq } = await new Device(account).push(
    docs.flatMap(({ documentId, doc }) => Automerge.getAllChanges(doc).map(bytes => ({ documentId, bytes }))),
  )
  const bases = docs.map(({ documentId, doc }) => ({ documentId, bytes: Automerge.save(doc) }))
  return { account, bases, after: seq }
}

interface Used {
  /** Transactions of the log: what was committed together. */
  readonly commits: number
  readonly serverCpu: number
  readonly postgresCpu: number
  readonly memory: number
}

async function measured<T>(
  server: BenchServer,
  { account: { workspaceId }, after }: Args,
  work: () => Promise<T>,
): Promise<T & Used> {
  const [cpu, database] = [server.cpuSeconds(), bench.postgresCpuSeconds()]
  const result = await work()
  const committed = await bench.sql.query<{ commits: number }>(
    'select count(distinct (workspace_id, received_at))::int as commits from changes where seq > $1 and workspace_id = $2',
    [after, workspaceId],
  )
  return {
    ...result,
    commits: committed.rows[0]!.commits,
    serverCpu: server.cpuSeconds() - cpu,
    postgresCpu: bench.postgresCpuSeconds() - database,
    memory: server.memoryMb().peak,
  }
}

async function endToEnd(): Promise<
  { local: number; acknowledged: number; visible: number; pushes: number } & Used
> {
  const server = await bench.startServer()
  await pushAll(server)
  const args = await documents(server)
  const reader = startRole(import.meta.filename, 'reader', args)
  await reader.heard()
  const writers = startRole(import.meta.filename, 'writers', args)
  await writers.heard()
  const result = await measured(server, args, async () => {
    writers.say('go')
    const { started, local, acknowledged, pushes } = (await writers.heard()) as Record<string, number>
    const visible = ((await reader.heard()) as number) - started!
    return { local: local!, acknowledged: acknowledged!, visible, pushes: pushes! }
  })
  await Promise.all([reader.kill(), writers.kill()])
  await endServer(server)
  return result
}

/** The 10,000 changes in pushes of 100, in a workspace of their own. */
async function pushAll(server: BenchServer): Promise<{ ms: number; args: Args } & Used> {
  const args = await documents(server)
  const pushers = startRole(import.meta.filename, 'pushers', args)
  await pushers.heard()
  const result = await measured(server, args, async () => {
    pushers.say('go')
    return { ms: (await pushers.heard()) as number, args }
  })
  await pushers.kill()
  return result
}

async function ingest(): Promise<{ ms: number; coldMs: number; floorMs: number } & Used> {
  const server = await bench.startServer()
  const cold = await pushAll(server)
  const result = await pushAll(server)
  await endServer(server)
  const rows = result.args.bases.flatMap(({ documentId, bytes }) =>
    editsOf(bytes).map(change => ({ documentId, bytes: change })),
  )
  return { ...result, coldMs: cold.ms, floorMs: await bareInsertMs(bench.sql, rows, PER_PUSH) }
}

sayLoad()
const TOTAL = WRITERS * EDITS
const ingests: Awaited<ReturnType<typeof ingest>>[] = []
const wholes: Awaited<ReturnType<typeof endToEnd>>[] = []
for (let i = 0; i < ROUNDS; i++) {
  ingests.push(await ingest())
  wholes.push(await endToEnd())
}
await bench.stop()

const ofIngest = (value: (one: (typeof ingests)[number]) => number): number => median(ingests.map(value))
const ofWhole = (value: (one: (typeof wholes)[number]) => number): number => median(wholes.map(value))
print({
  name: 'w4_ingest',
  value: ofIngest(one => (TOTAL / one.ms) * 1_000),
  unit: 'changes/s',
  floor: ofIngest(one => (TOTAL / one.floorMs) * 1_000),
  goal: 10_000,
  better: 'higher',
})
print({
  name: 'w4_ingest_after_start',
  value: ofIngest(one => (TOTAL / one.coldMs) * 1_000),
  unit: 'changes/s',
  better: 'higher',
})
print({ name: 'w4_ingest_server_cpu', value: ofIngest(one => one.serverCpu), unit: 's' })
print({ name: 'w4_ingest_postgres_cpu', value: ofIngest(one => one.postgresCpu), unit: 's' })
print({
  name: 'w4_visible',
  value: ofWhole(one => one.visible / 1_000),
  unit: 's',
  floor: ofWhole(one => one.local / 1_000),
  goal: 4.5,
})
print({ name: 'w4_acknowledged', value: ofWhole(one => one.acknowledged / 1_000), unit: 's' })
print({ name: 'w4_server_cpu', value: ofWhole(one => one.serverCpu), unit: 's', goal: 2 })
print({ name: 'w4_postgres_cpu', value: ofWhole(one => one.postgresCpu), unit: 's' })
print({ name: 'w4_pushes', value: ofWhole(one => one.pushes), unit: 'pushes' })
print({ name: 'w4_commits', value: ofWhole(one => one.commits), unit: 'commits' })
print({ name: 'w4_server_memory', value: ofWhole(one => one.memory), unit: 'MB' })
