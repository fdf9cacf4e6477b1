import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  contentHash,
  createPipeline,
  editPipeline,
  type PipelineDoc,
  pipelineFromDoc,
  setDescription,
} from '@pluto-duck/crdt-model'
import { newId, type Version } from '@pluto-duck/crdt-model/protocol'
import { expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Documents } from '../../src/documents/index.ts'
import { State } from '../../src/state/index.ts'
import { VersionCache } from '../../src/versions/version-cache.ts'
import { Versions } from '../../src/versions/versions.ts'

it('[PUB12] what is typed at the moment of a restore is not replaced unless it was told', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pluto-restore-'))
  const state = await State.open(folder)
  const documents = await Documents.open(state, systemClock)
  const [pipeline, workspaceId] = [newId(), newId()]
  const doc = createPipeline({ name: 'weekly', description: 'published' })
  await documents.create({ documentId: pipeline, workspaceId, kind: 'pipeline', doc })
  const type = (text: string) =>
    documents.edit<PipelineDoc>(pipeline, d => editPipeline(d, 'type', e => setDescription(e, text)))
  const typed = () => documents.read(pipeline, d => pipelineFromDoc(d).description)

  const cache = new VersionCache(state, { call: async () => first as never })
  const first = await documents.read(pipeline, versionOf(pipeline, documents.info(pipeline).heads))
  await cache.read(pipeline, 1)
  const versions = new Versions(documents, cache, {
    marks: async () => [],
    compileProblems: async () => [],
    stepFacts: async () => new Map(),
    sync: async () => undefined,
    publish: async () => ({ state: 'idle' }),
    toProblem: () => {
      throw new Error('there is no problem')
    },
  })
  await type('not published')
  expect(await versions.restore(pipeline, 1, '', 0)).toEqual({ state: 'unpublished', changes: 1 })
  const { edit } = documents
  documents.edit = async (...of) => {
    documents.edit = edit
    await type('typed meanwhile')
    return await documents.edit(...of)
  }
  expect(await versions.restore(pipeline, 1, '', 1)).toEqual({ state: 'unpublished', changes: 2 })
  expect(await typed()).toBe('typed meanwhile')
  expect(await versions.restore(pipeline, 1, '', 2)).toEqual({ state: 'queued' })
  expect(await typed()).toBe('published')
  await documents.close()
  await state.close()
  rmSync(folder, { recursive: true, force: true })
})

const versionOf =
  (pipeline_id: string, heads: readonly string[]) =>
  (doc: Parameters<typeof pipelineFromDoc>[0]): Version => {
    const definition = pipelineFromDoc(doc)
    const ada = { user_id: newId(), name: 'Ada' }
    return {
      version_id: newId(),
      pipeline_id,
      number: 1,
      content_hash: contentHash(definition),
      heads: [...heads],
      parent: null,
      message: '',
      published_by: ada,
      published_at: '2026-01-31T13:00:00.000Z',
      authors: [ada],
      resolved: [],
      restores: null,
      definition,
      files: {},
    }
  }
