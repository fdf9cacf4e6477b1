// Scale: what a new device and the server pay when histories get long and documents many. Logs of 10^4 changes (10^5 and 10^6 with
// `--full`) over 1,000 documents: opening must not grow with the length of history. 10^3 documents (10^4 and 10^5): the memory of
// the server must not grow with their number, with the first device after its start and with the next one. The logs are written by
// SQL, with real changes. `--changes=N` or `--documents=N`: that row alone.
import * as Automerge from '@automerge/automerge'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { print, sayLoad } from './harness/figures.ts'
import { type LoggedDocument, writeLog } from './harness/log-rows.ts'
import { numberGiven } from './harness/options.ts'
import { startRole } from './harness/roles.ts'
import { openBench } from './harness/server.ts'
import { settled } from './harness/settled.ts'
import { Device } from './harness/wire.ts'
import { changesOf, smallDocument } from './harness/workloads.ts'

const FULL = process.argv.includes('--full')
const [CHANGES, DOCUMENTS] = [numberGiven('changes'), numberGiven('documents')]
const HISTORIES = CHANGES ? [CHANGES] : DOCUMENTS ? [] : FULL ? [10_000, 100_000, 1_000_000] : [10_000]
const COUNTS = DOCUMENTS ? [DOCUMENTS] : FULL && !CHANGES ? [10_000, 100_000] : []
const DEVICE = new URL('../../engine/bench/device.ts', import.meta.url).pathname
/** Different contents; more documents repeat them. */
const CONTENTS = 20

interface Opened {
  readonly ms: number
  readonly bytes: number
  readonly cpu: number
}

/** The changes of a small document that was edited for long: a cell that is rewritten, so that content stays small. */
function edited(content: number, changes: number): Uint8Array[] {
  const made = changesOf(smallDocument(content))
  let doc = Automerge.load<{ rev: number }>(Buffer.concat(made))
  while (made.length < changes) {
    doc = Automerge.change(doc, draft => {
      draft.rev++
    })
    made.push(Automerge.getLastLocalChange(doc)!)
  }
  Automerge.free(doc)
  return made.slice(0, changes)
}

const bench = await openBench()

/** A workspace of so many documents with so many changes each: what the first device and the server pay. */
async function measure(documents: number, changesEach: number) {
  let server = await bench.startServer()
  const account = await Device.workspace(server)
  const contents = Array.from({ length: CONTENTS }, (_, i) => edited(i, changesEach))
  const logged = Array.from(
    { length: documents },
    (_, i): LoggedDocument => ({
      id: newId(),
      title: `Pipeline ${i}`,
      changes: contents[i % CONTENTS]!,
    }),
  )
  await writeLog(bench, account, logged)
  const asked = performance.now()
  await new Device(account).request('/snapshot').then(answer => answer.arrayBuffer())
  const firstMs = performance.now() - asked
  await settled(bench, account.workspaceId)
  await server.kill()
  server = await bench.startServer()
  const here = { ...account, url: server.url }
  await new Device(here).request('/changes?after=0&limit=1').then(answer => answer.arrayBuffer())
  const before = { cpu: server.cpuSeconds(), memory: server.memoryMb().now }
  const open = async () =>
    (await startRole(DEVICE, 'newDevice', { account: here, count: documents }).heard(600_000)) as Opened
  const opened = await open()
  const after = { cpu: server.cpuSeconds(), memory: server.memoryMb().peak }
  await open()
  const taken = {
    ...opened,
    firstMs,
    server: after.cpu - before.cpu,
    memory: after.memory - before.memory,
    memoryNext: server.memoryMb().peak - after.memory,
  }
  await server.kill()
  return taken
}

const histories = []
for (const changes of HISTORIES) {
  const taken = await measure(1_000, changes / 1_000)
  histories.push(taken)
  const name = `scale_1000_documents_${changes}_changes`
  print({ name: `${name}_open`, value: taken.ms / 1000, unit: 's' })
  print({ name: `${name}_bytes`, value: taken.bytes / 1e6, unit: 'MB' })
  print({ name: `${name}_server_cpu`, value: taken.server, unit: 's' })
  print({ name: `${name}_server_memory_growth`, value: taken.memory, unit: 'MB', goal: 40 })
}
if (HISTORIES.length > 1)
  print({
    name: 'scale_open_1e6_to_1e4_changes',
    value: histories.at(-1)!.ms / histories[0]!.ms,
    unit: 'x',
    goal: 1.5,
  })
for (const documents of COUNTS) {
  const taken = await measure(documents, 1)
  const name = `scale_${documents}_documents`
  print({ name: `${name}_open`, value: taken.ms / 1000, unit: 's' })
  print({ name: `${name}_server_cpu`, value: taken.server, unit: 's' })
  print({ name: `${name}_server_memory_growth`, value: taken.memory, unit: 'MB', goal: 40 })
  print({ name: `${name}_server_memory_growth_next`, value: taken.memoryNext, unit: 'MB', goal: 40 })
}
sayLoad()
await bench.stop()
