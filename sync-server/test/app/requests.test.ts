import { request } from 'node:http'
import { newId, ROUTES } from '@pluto-duck/crdt-model/protocol'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Person, TestServer } from '../server.ts'

let test: TestServer
let ann: Person
let workspace: string

beforeAll(async () => {
  test = await TestServer.start()
  ann = await test.person('ann')
  workspace = await test.workspace(ann)
})
afterAll(() => test?.stop())

const raw = (method: string, path: string, headers: Record<string, string>, body: string | Buffer) =>
  fetch(test.server.url + path, {
    method,
    headers,
    body: typeof body === 'string' ? body : new Uint8Array(body),
  })

describe('requests', () => {
  it('[API5] bad input gets a typed 4xx, never a 500, and changes nothing', async () => {
    const auth = { authorization: `Bearer ${ann.token}` }
    const json = { ...auth, 'content-type': 'application/json' }
    const make = (body: unknown) => JSON.stringify(body)
    const id = newId()
    const cases: [string, number, Promise<Response>][] = [
      ['not JSON', 400, raw('POST', '/v1/workspaces', json, '{')],
      ['JSON that is no object', 400, raw('POST', '/v1/workspaces', json, '[]')],
      ['a bare string', 400, raw('POST', '/v1/workspaces', json, '"x"')],
      ['no body', 400, raw('POST', '/v1/workspaces', json, '')],
      [
        'another content type',
        415,
        raw('POST', '/v1/workspaces', { ...auth, 'content-type': 'text/plain' }, '{}'),
      ],
      [
        'an unknown charset',
        415,
        raw('POST', '/v1/workspaces', { ...auth, 'content-type': 'application/json; charset=klingon' }, '{}'),
      ],
      [
        'an unknown encoding',
        415,
        raw('POST', '/v1/workspaces', { ...json, 'content-encoding': 'zip' }, '{}'),
      ],
      [
        'a broken gzip body',
        400,
        raw('POST', '/v1/workspaces', { ...json, 'content-encoding': 'gzip' }, 'xx'),
      ],
      [
        'a huge body',
        413,
        raw('POST', '/v1/workspaces', json, make({ workspace_id: id, name: 'x'.repeat(2_000_000) })),
      ],
      ['a wrong type', 400, raw('POST', '/v1/workspaces', json, make({ workspace_id: 7, name: 'x' }))],
      [
        'an unknown field',
        400,
        raw('POST', '/v1/workspaces', json, make({ workspace_id: id, name: 'x', admin: true })),
      ],
      [
        'a UUID v4',
        400,
        raw('POST', '/v1/workspaces', json, make({ workspace_id: crypto.randomUUID(), name: 'x' })),
      ],
      ['a NUL character', 400, raw('POST', '/v1/workspaces', json, make({ workspace_id: id, name: 'a\0b' }))],
      [
        'half a surrogate pair',
        400,
        raw('POST', '/v1/workspaces', json, '{"workspace_id":"' + id + '","name":"\\ud800"}'),
      ],
      [
        'a polluting key',
        400,
        raw('POST', '/v1/workspaces', json, '{"__proto__":{"x":1},"workspace_id":"' + id + '","name":"x"}'),
      ],
      ['an id that is none', 400, raw('POST', '/v1/runs/%00/transitions', json, '{}')],
      ['a broken percent sign', 400, fetch(`${test.server.url}/v1/workspaces/%E0%A4%A`, { headers: auth })],
      [
        'a bad number',
        400,
        fetch(`${test.server.url}/v1/workspaces/${workspace}/audit?after=x`, { headers: auth }),
      ],
      [
        'a number out of range',
        400,
        fetch(`${test.server.url}/v1/pipelines/${newId()}/versions/0`, { headers: auth }),
      ],
      [
        'a limit above the greatest',
        400,
        fetch(`${test.server.url}/v1/workspaces/${workspace}/audit?limit=100000`, { headers: auth }),
      ],
      [
        'an unknown query',
        400,
        fetch(`${test.server.url}/v1/workspaces/${workspace}/audit?nope=1`, { headers: auth }),
      ],
      [
        'a repeated query',
        400,
        fetch(`${test.server.url}/v1/pipelines?workspace_id=${workspace}&workspace_id=x`, { headers: auth }),
      ],
      ['an unknown address', 404, fetch(`${test.server.url}/v1/nothing`, { headers: auth })],
      ['another method', 405, fetch(`${test.server.url}/v1/me`, { method: 'DELETE', headers: auth })],
      ['an unknown workspace', 404, fetch(`${test.server.url}/v1/workspaces/${newId()}`, { headers: auth })],
      [
        'a made-up token',
        401,
        fetch(`${test.server.url}/v1/me`, { headers: { authorization: 'Bearer nonsense' } }),
      ],
      [
        'another scheme',
        401,
        fetch(`${test.server.url}/v1/me`, { headers: { authorization: 'Basic YTpi' } }),
      ],
      [
        'a bad device',
        400,
        fetch(`${test.server.url}/v1/workspaces/${workspace}`, {
          headers: { ...auth, 'x-pluto-device': 'x' },
        }),
      ],
      [
        'an old protocol',
        426,
        fetch(`${test.server.url}/v1/me`, { headers: { ...auth, 'x-pluto-protocol': '0' } }),
      ],
      [
        'a protocol that is no number',
        426,
        fetch(`${test.server.url}/v1/me`, { headers: { ...auth, 'x-pluto-protocol': 'x' } }),
      ],
      [
        'a forged storage address',
        403,
        fetch(
          `${test.server.url}/storage/x?expires=99999999999&bytes=1&sha256=${'a'.repeat(64)}&type=x&signature=x`,
        ),
      ],
      [
        'a storage address without its parts',
        403,
        fetch(`${test.server.url}/storage/..%2F..%2Fetc%2Fpasswd`),
      ],
      [
        'a foreign page’s form',
        403,
        raw(
          'POST',
          '/device',
          { origin: 'https://evil.example', 'content-type': 'application/x-www-form-urlencoded' },
          'action=approve',
        ),
      ],
      [
        'broken JSON for sign-in',
        400,
        raw('POST', '/v1/auth/sign-in/email', { 'content-type': 'application/json' }, '{'),
      ],
      [
        'sign-up without a name',
        400,
        raw('POST', '/v1/auth/sign-up/email', { 'content-type': 'application/json' }, '{}'),
      ],
      [
        'an auth route that is none',
        404,
        raw('POST', '/v1/auth/nothing', { 'content-type': 'application/json' }, '{}'),
      ],
    ]
    const before = await test.sql.query('select count(*)::int as n from workspaces')
    for (const [name, status, sent] of cases) {
      const response = await sent
      const text = await response.text()
      expect(response.status, `${name}: ${text}`).toBe(status)
      const reply = JSON.parse(text)
      expect(reply.code, name).toMatch(/^[a-z]+\.[a-z_]+$/)
      expect(reply.hint, name).toBeTruthy()
      expect(reply.request_id, name).toBe(response.headers.get('x-request-id'))
    }
    const after = await test.sql.query('select count(*)::int as n from workspaces')
    expect(after.rows).toEqual(before.rows)
    expect(test.logged.filter(line => JSON.parse(line).level >= 50)).toEqual([])
  })

  it('[API6] an upload that is cut off leaves the server well', async () => {
    await new Promise<void>(resolve => {
      const sent = request(`${test.server.url}/v1/workspaces`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${ann.token}`,
          'content-type': 'application/json',
          'content-length': 1000,
        },
      })
      sent.on('error', () => resolve())
      sent.write('{"workspace_id":')
      setTimeout(() => sent.destroy(), 50)
    })
    expect((await test.call('GET', '/healthz')).status).toBe(200)
  })

  it('[API7] the log has no token, no body and no query', async () => {
    const secret = 'planted-secret-value'
    await test.call('POST', '/v1/workspaces', { as: ann, body: { workspace_id: newId(), name: secret } })
    await test.call('GET', `/v1/workspaces/${workspace}/audit?nope=${secret}`, { as: ann })
    await test.call('GET', '/v1/me', {
      headers: { authorization: `Bearer ${secret}`, cookie: `a=${secret}` },
    })
    const log = test.logged.join('\n')
    expect(log).toContain('"route":"workspace.create"')
    for (const planted of [secret, ann.token]) expect(log).not.toContain(planted)
  })

  it('[API8] OpenAPI names every route', async () => {
    const { body } = await test.call('GET', '/v1/openapi.json')
    expect(body.openapi).toBe('3.1.0')
    const named = Object.values(
      body.paths as Record<string, Record<string, { operationId: string }>>,
    ).flatMap(methods => Object.values(methods).map(each => each.operationId))
    expect(named.toSorted()).toEqual(ROUTES.map(route => route.id).toSorted())
  })

  it('[API9] answers carry the headers that keep a browser from harm', async () => {
    const { headers } = await test.call('GET', '/join?token=x')
    expect(headers.get('content-security-policy')).toContain("default-src 'none'")
    expect(headers.get('x-content-type-options')).toBe('nosniff')
    expect(headers.get('x-powered-by')).toBeNull()
  })

  it('[API10] a cookie counts only from the server’s own pages', async () => {
    const cookie = `pluto.session_token=${ann.token}`
    const reply = await test.call('POST', '/v1/me/sign-out', {
      headers: { cookie, origin: 'https://evil.example' },
    })
    expect(reply).toMatchObject({ status: 403, body: { code: 'auth.forbidden' } })
  })
})
