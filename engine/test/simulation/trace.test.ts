import * as A from '@automerge/automerge'
import type { PipelineDoc } from '@pluto-duck/crdt-model'
import { identityRoutes, newId } from '@pluto-duck/crdt-model/protocol'
import { leaveOut, testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WireClient } from '../../src/sync/index.ts'
import { Cluster } from './cluster.ts'
import { SimDevice } from './device.ts'
import { Network, pause } from './network.ts'
import { Rng } from './random.ts'
import { emptyDocument, readTrace, type TracedChange, writeTrace } from './recorded-trace.ts'
import { Trace } from './trace.ts'

// B3: what two people once typed together, by two devices. Each keystroke is written knowing what its author knew, so a device
// that needs the other's is online by then; between that it is offline for random spans.

/** Keystrokes: the beginning of the record in every test run, all 23,136 with `PLUTO_TRACE=whole` (minutes). */
const COUNT = process.env.PLUTO_TRACE === 'whole' ? Number.POSITIVE_INFINITY : 800
const SEED = Number(process.env.PLUTO_TRACE_SEED ?? 3)

const recorded = readTrace()
if (!recorded) leaveOut('the recorded trace', 'there is no ../shared/data/traces beside the repository')

let cluster: Cluster
let drop: () => Promise<void>
const devices: SimDevice[] = []
let network: Network

describe.skipIf(!recorded)('a recorded session of two authors', () => {
  beforeAll(async () => {
    const database = await testDatabase()
    drop = database.drop
    cluster = await Cluster.start(database.url)
  })
  afterAll(async () => {
    for (const device of devices) await device.remove()
    await cluster?.stop()
    await drop?.()
  })

  it('[SIM9] replayed by two devices with offline spans ends in the recorded text', async () => {
    const { txns, endContent } = recorded!
    const whole = COUNT >= txns.length
    const base = emptyDocument()
    const { changes, text } = writeTrace(base, txns.slice(0, COUNT))
    if (whole) expect(text).toBe(endContent)

    const [workspaceId, documentId] = [newId(), newId()]
    const [first, second, third] = await open(workspaceId)
    await first.running.documents.create({ documentId, workspaceId, kind: 'pipeline', doc: base })
    await until(() => inSync(first))
    await until(() => second.running.documents.has(documentId))
    const spans = await replay([first, second], documentId, changes, new Rng(SEED))

    for (const device of [first, second, third]) {
      device.pause(false)
      await until(() => inSync(device))
    }
    await until(() => [first, second, third].every(device => inSync(device)))
    const log = await cluster.sql.query('select count(*)::int as n from changes where workspace_id = $1', [
      workspaceId,
    ])
    expect(log.rows[0].n).toBe(changes.length + 1)
    const heads = await first.running.documents.read(documentId, doc => A.getHeads(doc).sort())
    for (const device of [first, second, third]) {
      const there = await device.running.documents.read<[string, string[]], PipelineDoc>(documentId, doc => [
        String(doc.report),
        A.getHeads(doc).sort(),
      ])
      expect(there).toEqual([text, heads])
      expect(await device.running.documents.drafts(workspaceId)).toEqual([])
    }
    console.log(
      `${changes.length} keystrokes of ${txns.length}, ${spans} offline spans, ${text.length} characters`,
    )
  }, 3_600_000)
})

/** Two devices of the authors, and one of a reader who is always there. */
async function open(workspaceId: string): Promise<[SimDevice, SimDevice, SimDevice]> {
  const [person] = await cluster.people(1)
  const client = new WireClient({
    server: cluster.replicas[0]!.server.url,
    deviceId: newId(),
    token: async () => person!.token,
  })
  await client.call(identityRoutes.createWorkspace, { body: { workspace_id: workspaceId, name: 'W' } })
  const trace = new Trace()
  network = new Network(trace, () => cluster.replicas)
  for (const name of ['first', 'second', 'third'])
    devices.push(
      new SimDevice({
        name,
        person: person!,
        workspaceId,
        network,
        trace,
        rng: new Rng(SEED),
        store: 'duckdb',
      }),
    )
  for (const device of devices) await device.open()
  return devices.slice(0, 3) as [SimDevice, SimDevice, SimDevice]
}

/** Each author types until something of the other's is needed. Answers the number of offline spans. */
async function replay(
  authors: readonly [SimDevice, SimDevice],
  documentId: string,
  changes: readonly TracedChange[],
  rng: Rng,
): Promise<number> {
  const typed: Uint8Array[][] = [[], []]
  let spans = 0
  const hand = async (author: 0 | 1): Promise<void> => {
    const batch = typed[author]!.splice(0)
    if (batch.length > 0)
      await authors[author].running.documents.append(documentId, batch, `author ${author}`)
  }
  for (const { author, bytes, needs } of changes) {
    const [mine, other] = author === 0 ? ([0, 1] as const) : ([1, 0] as const)
    if (needs.length > 0) {
      await hand(mine)
      await hand(other)
      for (const device of authors) device.pause(false)
      // The last one has the others in its past: asked for one by one, again and again, ten thousand of them (there is such a place)
      // leave the process no time for anything else.
      const last = changes[Math.max(...needs)]!.hash
      await until(() =>
        authors[mine].running.documents.read<boolean, unknown>(documentId, doc => A.hasHeads(doc, [last])),
      )
      for (const device of authors)
        if (rng.chance(0.3)) {
          device.pause(true)
          spans++
        }
    }
    typed[author]!.push(bytes)
    // Somebody pauses for thought: what was typed so far goes to the host.
    if (rng.chance(0.05)) await hand(author)
  }
  await hand(0)
  await hand(1)
  return spans
}

const inSync = (device: SimDevice): boolean => {
  const { state, waiting } = device.running.sync.status()
  return state === 'in_sync' && waiting === 0
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 60_000
  while (!(await holds())) {
    if (performance.now() > end) throw new Error(`in vain:\n${await whereItStands()}`)
    await pause(3)
  }
}

/** Who waits for what: each device's sync state and outbox, requests without an answer, and what Postgres is at. */
async function whereItStands(): Promise<string> {
  const { rows } = await cluster.sql.query(
    "select state, wait_event, left(query, 80) as query from pg_stat_activity where state is not null and state <> 'idle'",
  )
  const lines = devices.map(({ running }) => JSON.stringify(running.sync.status()))
  return [...lines, ...network.unanswered(), ...rows.map(row => JSON.stringify(row))].join('\n')
}
