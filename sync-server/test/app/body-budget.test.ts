import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { BodyBudget } from '../../src/app/body-budget.ts'
import { TestServer } from '../server.ts'

let server: TestServer
beforeAll(async () => {
  server = await TestServer.start({ PUSH_QUEUE_MB: '16' })
})
afterAll(() => server?.stop())

describe('bodies under way', () => {
  it('[LOG17] one person has a quarter of the room; given back, it is there again; one alone always fits', () => {
    const budget = new BodyBudget(100)
    const back = budget.take('ann', 500)
    expect(() => budget.take('ben', 1)).toThrow(expect.objectContaining({ code: 'request.rate_limited' }))
    back()
    back()
    const some = budget.take('ann', 20)
    expect(() => budget.take('ann', 10)).toThrow(expect.objectContaining({ details: { retry_after: 2 } }))
    const others = ['ben', 'cid', 'dee', 'eve'].map(name => budget.take(name, 20))
    expect(() => budget.take('fay', 20)).toThrow()
    for (const give of [some, ...others]) give()
    budget.take('fay', 100)
  })

  it('[LOG17] slow senders cannot take more memory than there is room: 429 with Retry-After, and room again when they go', async () => {
    const ann = await server.person('ann')
    const id = await server.workspace(ann)
    const address = new URL(server.server.url)
    const slow = (): Promise<Socket> =>
      new Promise(resolve => {
        const socket = connect(Number(address.port), address.hostname, () => {
          socket.write(
            `POST /v1/workspaces/${id}/changes HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${ann.token}\r\n` +
              'content-type: application/cbor-seq\r\ncontent-length: 4000000\r\nexpect: 100-continue\r\n\r\n',
          )
          // The server says so when it begins with the request.
          socket.once('data', () => resolve(socket))
        })
      })
    const stuck = await slow()
    const push = () =>
      fetch(`${server.server.url}/v1/workspaces/${id}/changes`, {
        method: 'POST',
        headers: { authorization: `Bearer ${ann.token}`, 'content-type': 'application/cbor-seq' },
        body: new Uint8Array(1_000_000),
      })
    const refused = await push()
    expect(refused.status).toBe(429)
    expect(refused.headers.get('retry-after')).toBe('2')
    expect(await refused.json()).toMatchObject({ code: 'request.rate_limited', hint: expect.any(String) })
    stuck.destroy()
    let answered = await push()
    while (answered.status === 429) answered = await push()
    expect(answered.status).toBe(400)
  })
})
