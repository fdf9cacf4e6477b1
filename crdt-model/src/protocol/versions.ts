import { z } from 'zod'
import { pipelineDefinition } from '../documents/definition.ts'
import { hash, id, timestamp, userId } from './ids.ts'
import { LIMITS } from './limits.ts'
import { route } from './route.ts'

export const author = z.strictObject({ user_id: userId, name: z.string() })

export const versionSummary = z.strictObject({
  version_id: id,
  pipeline_id: id,
  number: z.number().int().positive(),
  content_hash: hash,
  heads: z.array(hash),
  /** The number of the version that it was published on; null for the first. */
  parent: z.number().int().positive().nullable(),
  message: z.string(),
  published_by: author,
  published_at: timestamp,
  /** Everyone whose changes came in since the parent. */
  authors: z.array(author),
  /** Ids of the marks that the publisher had looked at. */
  resolved: z.array(z.string()),
  /** The number of the version whose content this one brings back, when it has that content hash. */
  restores: z.number().int().positive().nullable(),
})
export const version = versionSummary.extend({
  definition: pipelineDefinition,
  /** The same as a folder of files: path -> text. */
  files: z.record(z.string(), z.string()),
})
export const pipelineSummary = z.strictObject({
  pipeline_id: id,
  workspace_id: id,
  name: z.string(),
  created_at: timestamp,
  updated_at: timestamp,
  current: versionSummary.nullable(),
})

const pipelineParams = z.strictObject({ pipeline_id: id })
const ofPipeline = { of: 'pipeline', param: 'pipeline_id' } as const

export const versionRoutes = {
  publish: route({
    id: 'version.publish',
    method: 'POST',
    path: '/v1/pipelines',
    summary: 'Publish a pipeline at given heads as its next version',
    access: 'version.publish',
    workspace: { in: 'body', field: 'workspace_id' },
    creates: true,
    body: z.strictObject({
      workspace_id: id,
      pipeline_id: id,
      version_id: id,
      heads: z.array(hash).min(1).max(100),
      /** The number of the current version that the publisher saw; null when there was none. */
      parent: z.number().int().positive().nullable(),
      /** Ids of conflict marks that somebody looked at. */
      resolved: z.array(z.string().max(200)).max(1000).default([]),
      message: z.string().max(LIMITS.messageChars).default(''),
    }),
    reply: versionSummary,
  }),
  listPipelines: route({
    id: 'pipeline.list',
    method: 'GET',
    path: '/v1/pipelines',
    summary: 'The pipelines of a workspace with their current versions',
    access: 'version.read',
    workspace: { in: 'query', field: 'workspace_id' },
    query: z.strictObject({ workspace_id: id }),
    etag: true,
    reply: z.strictObject({ pipelines: z.array(pipelineSummary) }),
  }),
  readPipeline: route({
    id: 'pipeline.read',
    method: 'GET',
    path: '/v1/pipelines/:pipeline_id',
    summary: 'A pipeline with its current version, whole',
    access: 'version.read',
    workspace: ofPipeline,
    params: pipelineParams,
    etag: true,
    reply: pipelineSummary.extend({ current: version.nullable() }),
  }),
  listVersions: route({
    id: 'version.list',
    method: 'GET',
    path: '/v1/pipelines/:pipeline_id/versions',
    summary: 'The versions of a pipeline, newest first',
    access: 'version.read',
    workspace: ofPipeline,
    params: pipelineParams,
    query: z.strictObject({
      before: z.coerce.number().int().positive().optional(),
      limit: z.coerce.number().int().min(1).max(500).default(100),
    }),
    etag: true,
    reply: z.strictObject({ versions: z.array(versionSummary), more: z.boolean() }),
  }),
  readVersion: route({
    id: 'version.read',
    method: 'GET',
    path: '/v1/pipelines/:pipeline_id/versions/:number',
    summary: 'One version, whole; it never changes',
    access: 'version.read',
    workspace: ofPipeline,
    params: pipelineParams.extend({ number: z.coerce.number().int().positive() }),
    etag: true,
    reply: version,
  }),
} as const

export type Version = z.infer<typeof version>
export type VersionSummary = z.infer<typeof versionSummary>
export type PipelineSummary = z.infer<typeof pipelineSummary>
