import { connect } from 'node:net'
import { describe, expect, it } from 'vitest'
import { TopicBus } from '../../src/host/bus.ts'
import type { Handlers } from '../../src/host/dispatch.ts'
import { serveHost } from '../../src/host/http.ts'

const log = { error: () => undefined }
const token = 'a token of the test that nobody knows'
/** The transport alone: one method is enough, the others are of the host's own tests. */
const handlers = { 'sync.pause': ({ paused }: { paused: boolean }) => ({ paused }) } as unknown as Handlers
const serve = () => serveHost({ handlers, bus: new TopicBus(() => undefined), log, token })
const call = (origin: string, method: string, body: string, headers: Record<string, string> = {}) =>
  fetch(`${origin}/api/call/${method}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', ...headers },
    body,
  })

describe('the bridge on loopback', () => {
  it('[BRIDGE1] wants its token, its own origin and its own name', async () => {
    const served = await serve()
    const origin = new URL(served.url).origin
    const good = await call(origin, 'sync.pause', '{"paused":true}')
    expect(await good.json()).toEqual({ ok: true, value: { paused: true } })
    const refused: [Record<string, string>, string][] = [
      [{ authorization: 'Bearer wrong' }, 'host.token'],
      [{ authorization: '' }, 'host.token'],
      [{ origin: 'https://evil.example' }, 'auth.forbidden'],
    ]
    for (const [headers, code] of refused) {
      const answer = await call(origin, 'sync.pause', '{"paused":true}', headers)
      expect(await answer.json()).toMatchObject({ ok: false, error: { code } })
    }
    await served.close()
  })

  it('[BRIDGE2] bad input is a typed error', async () => {
    const served = await serve()
    const origin = new URL(served.url).origin
    const cases: [string, string, string][] = [
      ['sync.pause', '{"paused":"yes"}', 'request.invalid'],
      ['sync.pause', '{', 'request.invalid'],
      ['no.such', '{}', 'request.not_found'],
      ['__proto__', '{}', 'request.not_found'],
      ['toString', '{}', 'request.not_found'],
    ]
    for (const [method, body, code] of cases) {
      const answer = await call(origin, method, body)
      expect(await answer.json(), `${method} ${body}`).toMatchObject({ ok: false, error: { code } })
    }
    await served.close()
  })

  it('[BRIDGE3] closing waits for no browser that keeps its connections', async () => {
    const served = await serve()
    const { port } = new URL(served.url)
    const kept = connect(Number(port), '127.0.0.1')
    kept.on('error', () => undefined)
    // The head of a request whose body never comes.
    kept.write(
      `POST /api/call/sync.pause HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ${token}\r\n` +
        'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{',
    )
    await new Promise(resolve => setTimeout(resolve, 200))
    await served.close()
    kept.destroy()
  })
})
