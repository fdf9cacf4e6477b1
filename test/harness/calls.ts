import * as Automerge from '@automerge/automerge'
import { createPipeline, type PipelineInit } from '@pluto-duck/crdt-model'
import { decodeSequence, encodeSequence, HEADER, newId, type Role } from '@pluto-duck/crdt-model/protocol'
import type { Person } from './world.ts'

export interface Reply {
  readonly status: number
  readonly headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: the body of any route; tests look into it
  readonly body: any
}

export interface Sending {
  readonly as?: Person
  /** Null sends none. */
  readonly device?: string | null
  /** Sent as JSON. */
  readonly json?: unknown
  /** Sent as it is. */
  readonly raw?: string | Uint8Array
  readonly type?: string
  readonly headers?: Record<string, string>
}

/** One request to a server, as any client could send it. */
export const call = async (
  server: string,
  method: string,
  path: string,
  sending: Sending = {},
): Promise<Reply> => {
  const body = sending.json === undefined ? sending.raw : JSON.stringify(sending.json)
  const response = await fetch(server + path, {
    method,
    redirect: 'manual',
    headers: {
      ...(sending.as ? { authorization: `Bearer ${sending.as.token}` } : {}),
      ...(sending.device ? { [HEADER.device]: sending.device } : {}),
      ...(body === undefined ? {} : { 'content-type': sending.type ?? 'application/json' }),
      ...sending.headers,
    },
    ...(body === undefined ? {} : { body: body as string }),
  })
  const bytes = new Uint8Array(await response.arrayBuffer())
  const type = response.headers.get('content-type') ?? ''
  return { status: response.status, headers: response.headers, body: parse(type, bytes) }
}

const parse = (type: string, bytes: Uint8Array): unknown => {
  if (type.startsWith('application/cbor-seq')) return decodeSequence(bytes)
  const text = new TextDecoder().decode(bytes)
  return type.startsWith('application/json') ? JSON.parse(text) : text
}

/** The reply's body when it is 2xx; fails with what came else. */
export const good = async (reply: Promise<Reply>): Promise<Reply['body']> => {
  const { status, body } = await reply
  if (status >= 300) throw new Error(`answered ${status}: ${JSON.stringify(body)}`)
  return body
}

export const newWorkspace = async (server: string, owner: Person, name = 'W'): Promise<string> => {
  const workspace_id = newId()
  await good(call(server, 'POST', '/v1/workspaces', { as: owner, json: { workspace_id, name } }))
  return workspace_id
}

/** Makes somebody a member as it is done: by an invitation, which they accept. Answers its token, used up. */
export const join = async (
  server: string,
  workspaceId: string,
  owner: Person,
  who: Person,
  role: Role,
): Promise<string> => {
  const invited = await good(
    call(server, 'POST', `/v1/workspaces/${workspaceId}/invitations`, {
      as: owner,
      json: { invitation_id: newId(), email: who.email, role },
    }),
  )
  const { token } = invited as { token: string }
  await good(call(server, 'POST', '/v1/invitations/accept', { as: who, json: { token } }))
  return token
}

/** The body of a push of changes to one document. */
export const pushBody = (
  device: string,
  documentId: string,
  changes: readonly Uint8Array[],
  kind: 'pipeline' | 'comments' = 'pipeline',
): Uint8Array =>
  encodeSequence([
    { v: 1, device_id: device, live: true },
    ...changes.map(bytes => ({ document_id: documentId, kind, subject: null, base: null, bytes })),
  ])

export const push = (
  server: string,
  workspaceId: string,
  as: Person,
  device: string,
  body: Uint8Array,
): Promise<Reply> =>
  call(server, 'POST', `/v1/workspaces/${workspaceId}/changes`, {
    as,
    device,
    raw: body,
    type: 'application/cbor-seq',
  })

export interface Published {
  readonly id: string
  readonly heads: string[]
}

/** A pipeline of one step in the log, published as version 1. */
export const publishedPipeline = async (
  server: string,
  workspaceId: string,
  as: Person,
  device: string,
  init: Partial<PipelineInit> = {},
): Promise<Published> => {
  const id = newId()
  const doc = createPipeline({
    name: 'weekly',
    steps: [{ id: 'a', name: 'orders', sql: 'select 1 as x' }],
    ...init,
  } as PipelineInit)
  await good(push(server, workspaceId, as, device, pushBody(device, id, Automerge.getAllChanges(doc))))
  const heads = Automerge.getHeads(doc).toSorted()
  const json = {
    workspace_id: workspaceId,
    pipeline_id: id,
    version_id: newId(),
    heads,
    parent: null,
    message: 'first',
  }
  await good(call(server, 'POST', '/v1/pipelines', { as, device, json }))
  return { id, heads }
}
