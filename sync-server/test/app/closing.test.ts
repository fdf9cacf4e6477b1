import { once } from 'node:events'
import { connect } from 'node:net'
import { pino } from 'pino'
import { expect, it } from 'vitest'
import { startServer } from '../../src/index.ts'
import { TestServer } from '../server.ts'

it('[API11] a server that ends waits for no connection that has asked nothing, or whose answer is out', async () => {
  const test = await TestServer.start()
  const { port } = new URL(test.server.url)
  const quiet = connect(Number(port), '127.0.0.1')
  await once(quiet, 'connect')
  const kept = connect(Number(port), '127.0.0.1')
  kept.write('GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n')
  await once(kept, 'data')
  const ends = Promise.all([once(quiet, 'close'), once(kept, 'close')])
  for (const socket of [quiet, kept]) socket.on('error', () => undefined).resume()
  await test.stop()
  expect(await ends).toHaveLength(2)
}, 9_000)

it('[ADM17] a server that warms up stores nothing by it, and ends in the middle of it without an error', async () => {
  const test = await TestServer.start()
  const logged: string[] = []
  const log = pino({ level: 'warn' }, { write: line => void logged.push(line) })
  const warm = await startServer(test.config, { log, warm: true })
  await warm.close()
  expect(logged).toEqual([])
  const { rows } = await test.sql.query('select id from documents union all select document_id from changes')
  expect(rows).toEqual([])
  await test.stop()
}, 20_000)
