// W2: a new device opens a text of 260 k keystrokes, each a change of its own (here the first tenth; all with `--full`). Until the
// text can be read, and until a view can edit it; the floor of the latter is `Automerge.load` of the same bytes and one edit, in a
// process as cold. Building the document takes a minute, so its changes are kept in the temporary folder.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as Automerge from '@automerge/automerge'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { median, print, sayLoad } from './harness/figures.ts'
import { writeLog } from './harness/log-rows.ts'
import { startRole } from './harness/roles.ts'
import { openBench } from './harness/server.ts'
import { settled } from './harness/settled.ts'
import { Device } from './harness/wire.ts'
import { longSession } from './harness/workloads.ts'

const FULL = process.argv.includes('--full')
const ROUNDS = FULL ? 5 : 3
const DEVICE = new URL('../../engine/bench/device.ts', import.meta.url).pathname

interface Opened {
  readonly storedMs: number
  readonly readableMs: number
  readonly editableMs: number
  readonly bytes: number
  readonly text: string
}

const session = longSession(FULL ? undefined : 26_000)
console.log(`${session.patches.length} keystrokes, ${session.source}`)

/** One change for each keystroke. */
function typed(): Uint8Array[] {
  const file = join(
    tmpdir(),
    `pluto-bench-session-${session.source.split(' ')[0]}-${session.patches.length}.bin`,
  )
  if (!existsSync(file)) {
    let doc = Automerge.change(Automerge.init<{ name: string; text: string }>(), draft => {
      draft.name = 'a paper'
      draft.text = ''
    })
    for (const [at, deleted, inserted] of session.patches)
      doc = Automerge.change(doc, draft => Automerge.splice(draft, ['text'], at, deleted, inserted))
    writeFileSync(file, Automerge.save(doc))
    Automerge.free(doc)
  }
  const doc = Automerge.load<{ text: string }>(readFileSync(file))
  const changes = Automerge.getAllChanges(doc)
  Automerge.free(doc)
  return changes
}

const bench = await openBench()
let server = await bench.startServer()
const account = await Device.workspace(server)
const documentId = newId()
const changes = typed()
await writeLog(bench, account, [{ id: documentId, title: 'a paper', changes }])
// Who serves it finds the long tail and has it compacted.
await new Device(account).request('/snapshot').then(answer => answer.arrayBuffer())
for (let compacted = 0; compacted < changes.length; ) {
  await settled(bench, account.workspaceId)
  const { rows } = await bench.sql.query<{ seq: string }>(
    'select snapshot_seq as seq from documents where id = $1',
    [documentId],
  )
  compacted = Number(rows[0]!.seq)
}
const { rows } = await bench.sql.query<{ snapshot: Buffer }>('select snapshot from documents where id = $1', [
  documentId,
])
const saved = rows[0]!.snapshot

const rounds: Opened[] = []
const floors: number[] = []
for (let round = 0; round < ROUNDS; round++) {
  await server.kill()
  server = await bench.startServer()
  const here = { ...account, url: server.url }
  // The client is cold; a server has served before.
  await new Device(here).request('/snapshot?pack=zstd').then(answer => answer.arrayBuffer())
  const bare = (await startRole(DEVICE, 'bareLoad', { bytes: saved }).heard()) as { ms: number }
  floors.push(bare.ms)
  const opened = (await startRole(DEVICE, 'openText', { account: here, documentId }).heard()) as Opened
  if (opened.text !== session.text) throw new Error('the device shows another text than was typed')
  rounds.push(opened)
}
const of = (key: 'storedMs' | 'readableMs' | 'editableMs' | 'bytes'): number =>
  median(rounds.map(one => one[key]))
const goal = (value: number): { goal?: number } => (FULL ? { goal: value } : {})
print({ name: 'w2_bytes', value: of('bytes') / 1e3, unit: 'KB', floor: saved.length / 1e3, ...goal(132) })
print({ name: 'w2_stored', value: of('storedMs'), unit: 'ms' })
print({ name: 'w2_readable', value: of('readableMs'), unit: 'ms', ...goal(100) })
print({
  name: 'w2_editable',
  value: of('editableMs'),
  unit: 'ms',
  floor: median(floors),
  ...(FULL ? { goal: 1.1, goalOf: 'ratio' as const } : {}),
})
sayLoad()
await server.kill()
await bench.stop()
