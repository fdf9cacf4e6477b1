import type { LiveEvent } from '@pluto-duck/crdt-model/protocol'
import { newId } from '@pluto-duck/crdt-model/protocol'
import { testDatabase } from '@pluto-duck/test-fixtures/services'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Person, somePipeline, TestServer } from '../server.ts'

let one: TestServer
let two: TestServer
let ann: Person
let workspace: string

beforeAll(async () => {
  const database = await testDatabase()
  const starts = await Promise.all([TestServer.start({}, database), TestServer.start({}, database)])
  one = starts[0]
  two = starts[1]
  ann = await one.person('ann')
  workspace = await one.workspace(ann)
})
afterAll(async () => {
  await two?.server.close()
  await two?.sql.end()
  await one?.stop()
})

/** Events of a workspace as a server sends them, until `count` of the type came or the time is over. */
const events = async (test: TestServer, type: LiveEvent['type'], count: number): Promise<LiveEvent[]> => {
  const over = AbortSignal.timeout(20_000)
  const stream = await fetch(`${test.server.url}/v1/workspaces/${workspace}/events`, {
    headers: { authorization: `Bearer ${ann.token}`, 'x-pluto-device': newId() },
    signal: over,
  })
  const found: LiveEvent[] = []
  let text = ''
  for await (const chunk of stream.body ?? []) {
    text += Buffer.from(chunk).toString()
    const blocks = text.split('\n\n')
    text = blocks.pop() ?? ''
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1]
      const event = data ? (JSON.parse(data) as LiveEvent) : null
      if (event?.type === type) found.push(event)
    }
    if (found.length >= count) break
  }
  return found
}

describe('two servers on one database', () => {
  it('[LIVE1] what one stores the other tells its listeners', async () => {
    const pipeline = newId()
    const heads = await one.store(workspace, pipeline, ann, somePipeline())
    const heard = Promise.all([events(one, 'version', 1), events(two, 'version', 1)])
    await new Promise(resolve => setTimeout(resolve, 1_500))
    const reply = await one.call('POST', '/v1/pipelines', {
      as: ann,
      body: { workspace_id: workspace, pipeline_id: pipeline, version_id: newId(), heads, parent: null },
    })
    expect(reply.status).toBe(201)
    for (const list of await heard) {
      expect(list).toEqual([{ type: 'version', pipeline_id: pipeline, number: 1 }])
    }
  })

  it('[LIVE2] a session of one is a session of the other, and signing out ends it there within 15 s', async () => {
    const bob = await one.person('bob')
    expect((await two.call('GET', '/v1/me', { as: bob })).status).toBe(200)
    await one.call('POST', '/v1/me/sign-out', { as: bob })
    const started = Date.now()
    while ((await two.call('GET', '/v1/me', { as: bob })).status !== 401 && Date.now() - started < 15_000) {
      await new Promise(resolve => setTimeout(resolve, 500))
    }
    expect((await two.call('GET', '/v1/me', { as: bob })).status).toBe(401)
  })

  it('[LIVE3] publishes on both at once make versions in one order', async () => {
    const pipeline = newId()
    const heads = await one.store(workspace, pipeline, ann, somePipeline())
    const version_id = newId()
    const replies = await Promise.all(
      [one, two, one, two].map(test =>
        test.call('POST', '/v1/pipelines', {
          as: ann,
          body: { workspace_id: workspace, pipeline_id: pipeline, version_id, heads, parent: null },
        }),
      ),
    )
    expect(replies.map(reply => reply.status).toSorted()).toEqual([200, 200, 200, 201])
    expect(new Set(replies.map(reply => reply.body.version_id)).size).toBe(1)
  })
})
