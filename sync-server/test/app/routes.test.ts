import {
  allows,
  CBOR_SEQUENCE,
  encodeSequence,
  HEADER,
  newId,
  PERMISSIONS,
  type Permission,
  ROUTES,
  type Role,
  type Route,
} from '@pluto-duck/crdt-model/protocol'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Person, somePipeline, TestServer } from '../server.ts'

let test: TestServer
const people = {} as Record<Role | 'outsider', Person>
const ids = {} as Record<
  'workspace' | 'pipeline' | 'draft' | 'run' | 'artifact' | 'schedule' | 'invitation',
  string
>
const devices = {} as Record<Role | 'outsider', string>
let heads: string[]
let draftHeads: string[]

const ROLES = ['owner', 'editor', 'viewer'] as const
const NOW = '2026-01-01T00:00:00.000Z'
const SHA = 'a'.repeat(64)

beforeAll(async () => {
  test = await TestServer.start()
  for (const name of [...ROLES, 'outsider'] as const) {
    people[name] = await test.person(name)
    devices[name] = newId()
  }
  ids.workspace = await test.workspace(people.owner)
  await test.join(ids.workspace, people.owner, people.editor, 'editor')
  await test.join(ids.workspace, people.owner, people.viewer, 'viewer')
  ids.pipeline = newId()
  heads = await test.store(ids.workspace, ids.pipeline, people.owner, somePipeline())
  ids.draft = newId()
  ids.run = newId()
  ids.schedule = newId()
  ids.artifact = newId()
  ids.invitation = newId()
  const as = people.owner
  const made = [
    await test.call('POST', '/v1/pipelines', { as, body: body('version.publish', 'owner') }),
    await test.call('POST', '/v1/runs', { as, body: body('run.create', 'owner') }),
    await test.call('POST', '/v1/schedules', { as, body: body('schedule.create', 'owner') }),
  ]
  expect(made.map(reply => reply.status)).toEqual([201, 201, 201])
  draftHeads = await test.store(ids.workspace, ids.draft, people.owner, somePipeline())
  await test.sql.query('update documents set base = $1 where id = $2', [ids.pipeline, ids.draft])
  await test.sql.query(
    `insert into artifacts (workspace_id, id, run_id, kind, name, content_type, bytes, sha256, created_at)
     values ($1, $2, $3, 'report', 'report.html', 'text/html', 5, $4, now())`,
    [ids.workspace, ids.artifact, ids.run, SHA],
  )
})
afterAll(() => test?.stop())

const upload = () => ({
  artifact_id: newId(),
  kind: 'report',
  name: 'report.html',
  content_type: 'text/html',
  bytes: 5,
  sha256: SHA,
})

/** A body that passes the route's schema; so what is refused is refused for its sender. */
const body = (route: string, who: keyof typeof devices): unknown => {
  const device_id = devices[who]
  const settings = { cron: '0 7 * * *', timezone: 'UTC' }
  const of = { workspace_id: ids.workspace, pipeline_id: ids.pipeline }
  const bodies: Record<string, unknown> = {
    'workspace.create': { workspace_id: newId(), name: 'N' },
    'workspace.rename': { name: 'W' },
    'member.set_role': { role: 'viewer' },
    'invitation.create': { invitation_id: newId(), email: 'x@example.org', role: 'viewer' },
    'invitation.accept': { token: 'x'.repeat(43) },
    'presence.write': { document_id: null, at: null },
    'version.publish': { ...of, version_id: newId(), heads, parent: null },
    'draft.request_review': {},
    'draft.review': { review_id: newId(), verdict: 'changes_requested', heads: draftHeads },
    'draft.merge': { version_id: newId(), heads: draftHeads, parent: 1 },
    'draft.close': {},
    'run.create': {
      ...of,
      run_id: who === 'owner' ? ids.run : newId(),
      version: null,
      heads,
      trigger: 'manual',
      schedule_id: null,
      due_at: null,
      device_id,
      created_at: NOW,
    },
    'run.transition': { to: 'running', at: NOW },
    'run.append_log': { offset: 0, lines: '{}\n' },
    'artifact.create_upload': upload(),
    'artifact.register': upload(),
    'schedule.create': { ...of, ...settings, schedule_id: who === 'owner' ? ids.schedule : newId() },
    'schedule.update': settings,
    'schedule.claim': { agent_id: device_id, due_at: NOW },
    'schedule.ack': { agent_id: device_id, due_at: NOW, state: 'skipped' },
  }
  return bodies[route]
}

const path = (route: Route, who: keyof typeof devices): string => {
  const params: Record<string, string> = {
    workspace_id: ids.workspace,
    pipeline_id: ids.pipeline,
    draft_id: ids.draft,
    run_id: ids.run,
    artifact_id: ids.artifact,
    schedule_id: ids.schedule,
    invitation_id: ids.invitation,
    document_id: ids.pipeline,
    // Nobody's: so that walking changes no rights.
    user_id: 'nobody',
    number: '1',
  }
  const filled = route.path.replace(/:(\w+)/g, (_, name: string) => params[name] ?? '')
  const query = new URLSearchParams()
  if (route.workspace && 'in' in route.workspace && route.workspace.in === 'query') {
    query.set('workspace_id', ids.workspace)
  }
  if (route.id === 'schedule.due') query.set('agent_id', devices[who])
  return query.size > 0 ? `${filled}?${query}` : filled
}

const send = async (route: Route, who: keyof typeof devices | null) => {
  const over = new AbortController()
  const cbor = route.body === 'cbor'
  const device = devices[who ?? 'outsider']
  const json = body(route.id, who ?? 'outsider')
  const response = await fetch(test.server.url + path(route, who ?? 'outsider'), {
    method: route.method,
    signal: over.signal,
    headers: {
      [HEADER.device]: device,
      ...(who === null ? {} : { authorization: `Bearer ${people[who].token}` }),
      ...(route.body === undefined ? {} : { 'content-type': cbor ? CBOR_SEQUENCE : 'application/json' }),
    },
    ...(route.body === undefined
      ? {}
      : {
          body: cbor
            ? Buffer.from(encodeSequence([{ v: 1, device_id: device, live: true }]))
            : JSON.stringify(json),
        }),
  })
  const isJson = response.headers.get('content-type')?.startsWith('application/json')
  const code = response.status >= 400 && isJson ? ((await response.json()) as { code: string }).code : null
  over.abort()
  return { status: response.status, code: code as string | null }
}

describe('every route', () => {
  it('[API1] is mounted', async () => {
    for (const route of ROUTES) {
      const reply = await send(route, 'owner')
      expect(reply.code, route.id).not.toBe('request.not_found')
      expect(reply.status, route.id).toBeLessThan(500)
    }
  })

  it('[API2] refuses who is not signed in, but for the public ones', async () => {
    for (const route of ROUTES) {
      const reply = await send(route, null)
      if (route.access === 'public') expect(reply.status, route.id).toBe(200)
      else expect(reply, route.id).toEqual({ status: 401, code: 'auth.required' })
    }
  })

  it('[API3] answers who is no member as if the thing were not there', async () => {
    for (const route of ROUTES.filter(each => each.workspace)) {
      const reply = await send(route, 'outsider')
      expect(reply.status, route.id).toBe(404)
      const kind = route.workspace && 'of' in route.workspace ? route.workspace.of : 'workspace'
      expect(reply.code, route.id).toBe(`${kind}.not_found`)
    }
  })

  it('[API4] allows each role exactly what the permissions say', async () => {
    for (const route of ROUTES.filter(each => each.access in PERMISSIONS)) {
      for (const role of ROLES) {
        const reply = await send(route, role)
        const allowed = allows(role, route.access as Permission)
        const refusedForRole = reply.code === 'auth.forbidden' && !isOthersRun(route, role)
        expect(refusedForRole, `${route.id} as ${role}: ${reply.status} ${reply.code}`).toBe(!allowed)
        expect(reply.status, route.id).toBeLessThan(500)
      }
    }
  })
})

/** The run is the owner's: to an editor these routes are open, but not for this run (RUN4). */
const isOthersRun = (route: Route, role: Role): boolean =>
  role === 'editor' &&
  ['run.transition', 'run.append_log', 'artifact.create_upload', 'artifact.register'].includes(route.id)
