import * as Automerge from '@automerge/automerge'
import { type PipelineDoc, pipelineFromDoc, updateStepSql } from '@pluto-duck/crdt-model'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { available, testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, describe, expect, it } from 'vitest'
import {
  acceptInto,
  type Device,
  Folders,
  inSync,
  type ServerProcess,
  signUp,
  startDevice,
  startServerProcess,
  until,
} from './harness/world.ts'

const folders = new Folders()
const running: { stop(): Promise<void> }[] = []
afterAll(async () => {
  for (const process of running.reverse()) await process.stop()
  folders.remove()
})

const keep = <T extends { stop(): Promise<void> }>(process: T): T => {
  running.push(process)
  return process
}

/** Edits a step as a view does: its own replica and actor, each change handed to the host. */
const editStep = async (
  device: Device,
  pipelineId: string,
  name: string,
  edit: (sql: string) => string,
): Promise<void> => {
  const opened = await device.session.value('document.open', { document_id: pipelineId })
  const before = Automerge.load<PipelineDoc>(Buffer.from(opened.bytes, 'base64'), { actor: opened.actor })
  const step = pipelineFromDoc(before).steps.find(candidate => candidate.name === name)
  if (!step) throw new Error(`no step ${name}`)
  const after = Automerge.change(before, doc =>
    updateStepSql(doc as unknown as PipelineDoc, step.id, edit(step.sql)),
  )
  const change = Automerge.getLastLocalChange(after)
  if (!change) throw new Error('nothing changed')
  await device.session.value('document.append', {
    document_id: pipelineId,
    changes: [Buffer.from(change).toString('base64')],
  })
}

const read = async (device: Device, pipelineId: string) => {
  const opened = await device.session.value('document.open', { document_id: pipelineId })
  const doc = Automerge.load<PipelineDoc>(Buffer.from(opened.bytes, 'base64'))
  return { heads: Automerge.getHeads(doc).sort(), definition: pipelineFromDoc(doc) }
}

/** The flow of two people, whatever they are connected to. */
const theFlow = async (ownerServer: ServerProcess, editorServer: ServerProcess) => {
  const ada = await signUp(ownerServer.url, 'Ada')
  const grace = await signUp(ownerServer.url, 'Grace')
  const one = keep(await startDevice({ home: folders.make('one'), server: ownerServer.url, person: ada }))
  const workspace_id = newId()
  await one.session.value('workspace.create', { workspace_id, name: 'Together' })
  const { pipeline_id } = await one.session.value('pipeline.create_sample', {})
  await inSync(one)
  const first = await one.session.value('version.publish', { pipeline_id, message: 'first' })
  if (first.state !== 'published') throw new Error(JSON.stringify(first))
  expect(first.version.number).toBe(1)
  await acceptInto(one, ownerServer.url, grace, 'editor')

  const two = keep(await startDevice({ home: folders.make('two'), server: editorServer.url, person: grace }))
  await until(
    'the colleague sees the pipeline',
    async () => (await two.session.value('pipeline.list', {})).pipelines.length === 1,
  )
  await inSync(two)

  // Both go offline, edit the same step and a different one each.
  const steps = (await read(one, pipeline_id)).definition.steps.map(step => step.name)
  const [shared, mine, theirs] = [steps[0] as string, steps[1] as string, steps[2] as string]
  await one.session.value('sync.pause', { paused: true })
  await two.session.value('sync.pause', { paused: true })
  await editStep(one, pipeline_id, shared, sql => `-- ada was here\n${sql}`)
  await editStep(two, pipeline_id, shared, sql => `${sql}\n-- grace was here`)
  await editStep(one, pipeline_id, mine, sql => `${sql}\n-- only ada`)
  await editStep(two, pipeline_id, theirs, sql => `${sql}\n-- only grace`)
  expect((await one.session.value('sync.state', {})).waiting).toBe(2)
  expect((await one.session.value('sync.state', {})).state).toBe('offline')

  // Online again: the same text, the same heads, the shared step marked on both.
  await one.session.value('sync.pause', { paused: false })
  await two.session.value('sync.pause', { paused: false })
  await until('both have the same heads', async () => {
    await inSync(one)
    await inSync(two)
    const [left, right] = [await read(one, pipeline_id), await read(two, pipeline_id)]
    return JSON.stringify(left.heads) === JSON.stringify(right.heads)
  })
  const left = await read(one, pipeline_id)
  expect(left.definition).toEqual((await read(two, pipeline_id)).definition)
  const sharedSql = left.definition.steps.find(step => step.name === shared)?.sql ?? ''
  expect(sharedSql).toContain('-- ada was here')
  expect(sharedSql).toContain('-- grace was here')
  for (const device of [one, two]) {
    const { marks } = await device.session.value('pipeline.marks', { pipeline_id })
    expect(marks.map(mark => mark.label)).toEqual([`${shared}: SQL`])
    expect(marks[0]?.sides.flatMap(side => side.authors).sort()).toEqual(['Ada', 'Grace'])
  }

  // Not publishable before somebody looked; then it is version 2.
  const unseen = await one.session.value('version.publish', { pipeline_id, message: 'both' })
  expect(unseen.state).toBe('marks')
  const { marks } = await one.session.value('pipeline.marks', { pipeline_id })
  for (const mark of marks)
    await one.session.value('pipeline.review_mark', { pipeline_id, mark_id: mark.id, reviewed: true })
  const second = await one.session.value('version.publish', { pipeline_id, message: 'both' })
  if (second.state !== 'published') throw new Error(JSON.stringify(second))
  expect(second.version.number).toBe(2)

  // The other's history shows it with the right diff.
  const seen = await until('the colleague sees version 2', async () => {
    const { versions } = await two.session.value('version.list', { pipeline_id })
    return versions.length === 2 && versions
  })
  expect(seen.map(version => [version.number, version.message])).toEqual([
    [2, 'both'],
    [1, 'first'],
  ])
  const diff = await two.session.value('version.compare', {
    pipeline_id,
    before: { kind: 'version', number: 1 },
    after: { kind: 'version', number: 2 },
  })
  expect(diff.files.map(file => file.path).sort()).toEqual(
    [`${shared}.sql`, `${mine}.sql`, `${theirs}.sql`].sort(),
  )
  const added = diff.files.flatMap(file =>
    file.lines.filter(line => line.op === 'added').map(line => line.text),
  )
  for (const text of ['-- ada was here', '-- grace was here', '-- only ada', '-- only grace'])
    expect(added).toContain(text)

  // Restoring version 1 makes version 3 with its content hash.
  const restored = await two.session.value('version.restore', { pipeline_id, number: 1 })
  if (restored.state !== 'published') throw new Error(JSON.stringify(restored))
  expect(restored.version).toMatchObject({ number: 3, content_hash: first.version.content_hash, restores: 1 })
  await until('the owner has the restored text', async () => {
    await inSync(one)
    return (
      JSON.stringify((await read(one, pipeline_id)).heads) ===
      JSON.stringify((await read(two, pipeline_id)).heads)
    )
  })
  expect(await one.session.value('pipeline.marks', { pipeline_id })).toEqual({ marks: [] })
}

describe('two people revise the same pipeline offline', () => {
  it('[A3] on the embedded database', async () => {
    const server = keep(await startServerProcess({ dataDir: folders.make('server') }))
    await theFlow(server, server)
  })

  it.skipIf(!available('postgres'))(
    '[A4] on Postgres by DATABASE_URL, each device on its own server process',
    async () => {
      const database = await testDatabase()
      const env = { PUBLIC_URL: 'http://localhost:4999' }
      const left = keep(
        await startServerProcess({ dataDir: folders.make('left'), databaseUrl: database.url, env }),
      )
      const right = keep(
        await startServerProcess({ dataDir: folders.make('right'), databaseUrl: database.url, env }),
      )
      await theFlow(left, right)
    },
  )
})
