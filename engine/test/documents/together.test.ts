import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as A from '@automerge/automerge'
import { createPipeline, editPipeline, type PipelineDoc, setDescription } from '@pluto-duck/crdt-model'
import { type LogItem, newId } from '@pluto-duck/crdt-model/protocol'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { type DocumentEvent, Documents } from '../../src/documents/index.ts'
import { State, Workspaces } from '../../src/state/index.ts'
import { logItem } from './log-item.ts'

// The real Automerge; only its calls are counted, because each costs the length of the document or of what was written beside.
vi.mock('@automerge/automerge', { spy: true })

let folder: string
let state: State
let documents: Documents
const workspaceId = newId()
const documentId = newId()
const EDITS = 100

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pluto-together-'))
  state = await State.open(folder)
  documents = await Documents.open(state, systemClock)
  await new Workspaces(state).put({ workspace_id: workspaceId, name: 'W', role: 'owner', remote: true })
  await documents.create({
    documentId,
    workspaceId,
    kind: 'pipeline',
    doc: createPipeline({ name: 'weekly' }),
  })
})
afterEach(async () => {
  await documents.close()
  await state.close()
  rmSync(folder, { recursive: true, force: true })
})

const open = async (): Promise<A.Doc<PipelineDoc>> => {
  const { bytes, actor } = await documents.open(documentId)
  return A.load<PipelineDoc>(bytes, { actor })
}
/** One change after the other, as somebody types them. */
function typed(doc: A.Doc<PipelineDoc>, text: string, count = EDITS): Uint8Array[] {
  let next = doc
  const changes: Uint8Array[] = []
  for (let n = 0; n < count; n++) {
    next = editPipeline(next, 'describe', d => setDescription(d, `${text} ${n}`))
    changes.push(A.getLastLocalChange(next) as Uint8Array)
  }
  return changes
}
const logged = (changes: readonly Uint8Array[]): LogItem[] =>
  changes.map((bytes, i) => logItem(i + 1, documentId, bytes))
const calls = () => ({
  applied: vi.mocked(A.applyChanges).mock.calls.length,
  asked: vi.mocked(A.getChangesMetaSince).mock.calls.length,
})
const forget = () => {
  vi.mocked(A.applyChanges).mockClear()
  vi.mocked(A.getChangesMetaSince).mockClear()
}

describe('what comes together', () => {
  it('[HOSTDOC21] appends that wait are applied together, each answered and told once', async () => {
    const changes = typed(await open(), 'here')
    const told: Uint8Array[] = []
    documents.on((event: DocumentEvent) => {
      if (event.kind === 'changes') told.push(...event.changes)
    })
    forget()
    const answers = await Promise.all(changes.map(change => documents.append(documentId, [change], 'view')))
    expect(calls()).toEqual({ applied: 1, asked: 0 })
    expect(answers.at(-1)?.heads).toEqual(documents.info(documentId).heads)
    expect(told).toEqual(changes)
    const hashes = changes.map(change => A.decodeChange(change).hash)
    const waiting = (await documents.outbox(workspaceId, 1_000)).map(row => row.hash)
    expect(waiting.slice(-EDITS)).toEqual(hashes)
  })

  it('[HOSTDOC21] a long branch of somebody else beside a long one of this device asks the document once', async () => {
    const doc = await open()
    const own = typed(doc, 'here')
    const other = typed(A.load<PipelineDoc>((await documents.open(documentId)).bytes), 'there')
    await Promise.all(own.map(change => documents.append(documentId, [change], 'view')))
    forget()
    const { diverged } = await documents.applyRemote(workspaceId, logged(other), EDITS)
    expect(diverged).toEqual([])
    expect(calls()).toEqual({ applied: 1, asked: 0 })
    expect(documents.info(documentId).heads).toHaveLength(2)
  })

  it('[HOSTDOC3] one actor’s number with two contents is refused, by itself and among others, from a view and from the server', async () => {
    const { bytes } = await documents.open(documentId)
    const actor = newId().replaceAll('-', '')
    const says = (at: Uint8Array, text: string): [change: Uint8Array, doc: Uint8Array] => {
      const doc = editPipeline(A.load<PipelineDoc>(at, { actor }), 'type', d => setDescription(d, text))
      return [A.getLastLocalChange(doc) as Uint8Array, A.save(doc)]
    }
    const [first, then] = says(bytes, 'one')
    const [second] = says(then, 'two')
    const [other] = says(then, 'another two')
    const [beside] = says(bytes, 'something else')
    await documents.append(documentId, [first, second], 'view')
    for (const changes of [[beside], [other], [first, second, other]])
      await expect(documents.append(documentId, changes, 'copy')).rejects.toMatchObject({
        code: 'change.invalid',
      })
    const { diverged } = await documents.applyRemote(workspaceId, logged([beside]), 1)
    expect(diverged).toEqual([documentId])
    expect(await documents.read(documentId, one => String(one.description))).toBe('two')
  })

  it('[HOSTDOC21] one that does not fit is refused alone', async () => {
    const [first, second] = typed(await open(), 'here', 2) as [Uint8Array, Uint8Array]
    const [, alien] = typed(await open(), 'elsewhere', 2) as [Uint8Array, Uint8Array]
    const answers = await Promise.allSettled([
      documents.append(documentId, [first], 'a'),
      documents.append(documentId, [alien], 'b'),
      documents.append(documentId, [Uint8Array.of(1, 2, 3)], 'c'),
      documents.append(documentId, [second], 'a'),
    ])
    expect(answers.map(one => one.status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled'])
    expect(answers.map(one => one.status === 'rejected' && one.reason.code)).toEqual([
      false,
      'change.missing_deps',
      'change.invalid',
      false,
    ])
    expect(await documents.read(documentId, one => String(one.description))).toBe('here 1')
  })
})
