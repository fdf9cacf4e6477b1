import { editPipeline, setDescription } from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { Device } from './device.ts'

// A host that types and syncs until it is killed; it prints each number only once its edit was acknowledged.
const [server, token, workspaceId, folder, documentId, from] = process.argv.slice(2) as [
  string,
  string,
  string,
  string,
  string,
  string,
]
const device = await Device.start(server, token, workspaceId, folder)
await device.sync.start()
for (let n = Number(from); ; n++) {
  await device.documents.edit(documentId, doc =>
    editPipeline(doc, 'type', d => setDescription(d, `${n} ${newId()}`)),
  )
  process.stdout.write(`${n}\n`)
}
