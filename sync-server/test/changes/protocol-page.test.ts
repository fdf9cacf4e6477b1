import { readFileSync } from 'node:fs'
import { CBOR_SEQUENCE, decodeSequence, encodeItem, HEADER } from '@pluto-duck/crdt-model/protocol'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Person, TestServer } from '../server.ts'

// The exchange of the protocol's page, byte by byte, against a real server.

const page = readFileSync(new URL('../../../crdt-model/src/protocol/SPEC.md', import.meta.url), 'utf8')
const example = (frame: string, which = 0): Buffer<ArrayBuffer> => {
  const all = page.matchAll(/^```cbor (\w+)\n[\s\S]*?\n--\n([\s\S]*?)\n```$/gm)
  const found = [...all].filter(([, name]) => name === frame)[which]
  if (!found) throw new Error(`the page has no example of ${frame}`)
  return Buffer.from((found[2] as string).replace(/\s/g, ''), 'hex')
}

let test: TestServer
let ann: Person
let workspace: string

beforeAll(async () => {
  test = await TestServer.start({}, undefined, { now: () => new Date(1_767_225_600_000) })
  ann = await test.person('ann')
  workspace = await test.workspace(ann)
})
afterAll(() => test?.stop())

const headers = () => {
  const [header] = decodeSequence(example('appendHeader'))
  return {
    authorization: `Bearer ${ann.token}`,
    [HEADER.device]: String(header?.device_id),
    [HEADER.protocol]: '1',
  }
}
const address = (path: string) => `${test.server.url}/v1/workspaces/${workspace}/${path}`
const bytesOf = async (response: Response) => Buffer.from(await response.arrayBuffer())

it('[LOG1][LOG9][LOG10] answers the page’s exchange as the page says, and once more the same', async () => {
  const end = example('endItem')
  for (let round = 0; round < 2; round++) {
    const appended = await fetch(address('changes'), {
      method: 'POST',
      headers: { ...headers(), 'content-type': CBOR_SEQUENCE },
      body: Buffer.concat([example('appendHeader'), example('appendItem')]),
    })
    expect(appended.headers.get('content-type')).toContain(CBOR_SEQUENCE)
    const [verdict] = decodeSequence(example('appendVerdict'))
    expect((await bytesOf(appended)).toString('hex')).toBe(
      Buffer.concat([encodeItem({ ...verdict, author_id: ann.id }), example('endItem', 1)]).toString('hex'),
    )
  }
  const read = decodeSequence(await bytesOf(await fetch(address('changes?after=0'), { headers: headers() })))
  const [logItem] = decodeSequence(example('logItem'))
  expect(read).toEqual([{ ...logItem, author_id: ann.id }, ...decodeSequence(end)])
  const snapshot = await bytesOf(await fetch(address('snapshot'), { headers: headers() }))
  expect(snapshot.toString('hex')).toBe(Buffer.concat([example('snapshotItem'), end]).toString('hex'))
})
