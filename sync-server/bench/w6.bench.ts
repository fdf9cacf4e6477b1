// W6: somebody types; right after the acknowledgement the server is killed with -9. Is everything acknowledged in the log, and
// does the next server answer it? Beside it how long the acknowledgement of one edit takes, trial and commit included: right after a
// start, while the next server starts beside it, and on a server that has been in use for a while (the goal's figure). Its floor is
// what Automerge needs to apply such an edit and Postgres to commit its row. `--full`: 1,000 kills. `--kills=N` as many, and
// `--seconds=N` ends after so long: a thousand take half an hour on two cores, so they can be run in parts.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as Automerge from '@automerge/automerge'
import { decodeSequence, newId } from '@pluto-duck/crdt-model/protocol'
import { bareInsertMs } from './harness/bare-insert.ts'
import { median, percentile, print, sayLoad } from './harness/figures.ts'
import { numberGiven } from './harness/options.ts'
import { now } from './harness/process.ts'
import { openBench } from './harness/server.ts'
import { Device, type PushItem } from './harness/wire.ts'

const KILLS = numberGiven('kills') ?? (process.argv.includes('--full') ? 1_000 : 5)
const SECONDS = numberGiven('seconds') ?? Number.POSITIVE_INFINITY
const EDITS = 5
const STEADY = 300
const TEXT = 'lorem ipsum dolor sit amet '.repeat(400).slice(0, 10_000)

interface Text extends Record<string, unknown> {
  text: string
}

// Most of a kill is the start of the next server. One that ends in good order leaves its compiled code to the others.
// None warms up: its first edits are to meet it as it is.
process.env.PLUTO_BENCH_COLD = '1'
process.env.NODE_COMPILE_CACHE = await mkdtemp(join(tmpdir(), 'pluto-bench-code-'))
const bench = await openBench()
const warm = await bench.startServer()
warm.say('end')
await warm.heard()
await warm.exited()
let next = bench.startServer()
const first = await next
const account = await Device.workspace(first)
const documentId = newId()
const device = new Device(account)
let doc = Automerge.from<Text>({ text: TEXT })
/** Everything that was acknowledged, ever. */
const acknowledged = new Set<string>()
/** Changes that are here and not known to be stored: sent again to the next server, as an outbox would. */
let outbox: PushItem[] = Automerge.getAllChanges(doc).map(bytes => ({ documentId, bytes }))
const took: number[] = []
const typed: PushItem[] = []
let maybe = 0
let kills = 0

sayLoad()
const began = now()
while (kills < KILLS && now() - began < SECONDS * 1_000) {
  const server = await next
  // The next one starts beside it, as a second replica does, so that a kill costs less time.
  next = bench.startServer()
  const client = new Device({ ...account, url: server.url, token: server.token })
  Object.assign(client, { id: device.id })
  const items = outbox
  /** Acknowledged by this server. */
  const here = new Set<string>()
  await client.push(items)
  for (const { bytes } of items) here.add(Automerge.decodeChange(bytes).hash)
  for (let i = 0; i < EDITS; i++) {
    doc = Automerge.change(doc, draft => Automerge.splice(draft, ['text'], draft.text.length, 0, 'z'))
    const bytes = Automerge.getLastLocalChange(doc)!
    typed.push({ documentId, bytes })
    const started = now()
    await client.push([{ documentId, bytes }])
    took.push(now() - started)
    here.add(Automerge.decodeChange(bytes).hash)
  }
  // One more is on its way when the server dies: it may be stored or not, and must not be doubled.
  doc = Automerge.change(doc, draft => Automerge.splice(draft, ['text'], draft.text.length, 0, 'z'))
  outbox = [{ documentId, bytes: Automerge.getLastLocalChange(doc)! }]
  const cut = client.push(outbox).then(
    () => true,
    () => false,
  )
  await server.kill()
  kills++
  if (!(await cut)) maybe++
  const gone = await missing(here)
  if (gone > 0) console.log(`kill ${kills}: ${gone} of ${here.size} acknowledged changes are not in the log`)
  for (const hash of here) acknowledged.add(hash)
}
const seconds = (now() - began) / 1_000
const last = await next
const reader = new Device({ ...account, url: last.url, token: last.token })
Object.assign(reader, { id: device.id })
let readable = 0
for (let after = 0; ; ) {
  const response = await reader.request(`/changes?after=${after}`)
  const answer = decodeSequence(new Uint8Array(await response.arrayBuffer()))
  for (const item of answer.slice(0, -1)) if (acknowledged.has(item.hash as string)) readable++
  const end = answer.at(-1)!
  if (end.more !== true) break
  after = end.seq as number
}
const lost = Math.max(acknowledged.size - readable, await missing(acknowledged))

// Somebody who types 20 characters a second, once the last server has been in use for as many.
const steady: number[] = []
const applied: number[] = []
let other = Automerge.from<Text>({ text: TEXT })
const otherId = newId()
await reader.push(Automerge.getAllChanges(other).map(bytes => ({ documentId: otherId, bytes })))
const handle = Automerge.getBackend(Automerge.load(Automerge.save(other)))
for (let i = 0; i < 2 * STEADY; i++) {
  other = Automerge.change(other, draft => Automerge.splice(draft, ['text'], draft.text.length, 0, 'z'))
  const bytes = Automerge.getLastLocalChange(other)!
  const started = now()
  await reader.push([{ documentId: otherId, bytes }])
  const answered = now()
  if (i >= STEADY) steady.push(answered - started)
  await new Promise(resolve => setTimeout(resolve, 10))
  const before = now()
  handle.applyChanges([bytes])
  if (i >= STEADY) applied.push(now() - before)
}
handle.free()
const { rows } = await bench.sql.query<{ doubled: number }>(
  'select (count(*) - count(distinct hash))::int as doubled from changes where document_id = $1',
  [documentId],
)
await last.kill()
const floorMs = (await bareInsertMs(bench.sql, typed.slice(0, 200), 1)) / Math.min(200, typed.length)
await bench.stop()
await rm(process.env.NODE_COMPILE_CACHE, { recursive: true, force: true })

/** How many of these changes the database does not have. */
async function missing(hashes: ReadonlySet<string>): Promise<number> {
  const { rows } = await bench.sql.query<{ found: number }>(
    'select count(distinct hash)::int as found from changes where document_id = $1 and hash = any ($2::bytea[])',
    [documentId, [...hashes].map(hash => Buffer.from(hash, 'hex'))],
  )
  return hashes.size - rows[0]!.found
}

print({ name: 'w6_lost', value: lost, unit: 'changes', goal: 0 })
print({ name: 'w6_doubled', value: rows[0]!.doubled, unit: 'changes', goal: 0 })
print({ name: 'w6_kills', value: kills, unit: 'kills' })
print({ name: 'w6_seconds_a_kill', value: seconds / kills, unit: 's' })
print({ name: 'w6_cut_pushes', value: maybe, unit: 'pushes' })
const floor = floorMs + median(applied)
print({ name: 'w6_acknowledged_p50', value: median(steady), unit: 'ms', floor, goal: 8 })
print({ name: 'w6_acknowledged_p99', value: percentile(steady, 0.99), unit: 'ms' })
print({ name: 'w6_acknowledged_after_start_p50', value: median(took), unit: 'ms', floor })
print({ name: 'w6_acknowledged_after_start_p99', value: percentile(took, 0.99), unit: 'ms' })
