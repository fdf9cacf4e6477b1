import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runRoutes } from '@pluto-duck/crdt-model/protocol'
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { afterSignIn } from '../../src/cli/next-step.ts'
import { connectLocal, type Session } from '../../src/cli/session.ts'
import { openHost } from '../../src/host/host.ts'
import { type Person, TestServer } from '../sync/server.ts'
import { run } from './run.ts'

// People who have the command line and nothing else: each command opens the data folder and closes it again.

let server: TestServer
let ada: Person
let bob: Person
let workspaceId: string
const folders: string[] = []
const folder = (name: string): string => {
  const made = mkdtempSync(join(tmpdir(), `pluto-${name}-`))
  folders.push(made)
  return made
}

beforeAll(async () => {
  server = await TestServer.start()
  ada = await server.person('ada')
  bob = await server.person('bob')
  workspaceId = await server.workspace(ada)
  await server.join(workspaceId, ada, bob, 'editor')
})
afterAll(async () => {
  await server?.stop()
  for (const one of folders) rmSync(one, { recursive: true, force: true })
})

/** A session as a command opens it; without a token nobody is signed in. */
const session = async (home: string, token: string | undefined, at = server): Promise<Session> => {
  const log = pino({ level: 'silent' })
  const given = token === undefined ? {} : { token }
  return connectLocal(await openHost({ folder: home, server: at.server.url, log, ...given }))
}
const pluto = (home: string, token: string | undefined, ...argv: string[]) =>
  plutoAt(server, home, token, ...argv)
const plutoAt = async (at: TestServer, home: string, token: string | undefined, ...argv: string[]) => {
  let opened: Promise<Session> | undefined
  const open = () => {
    opened ??= session(home, token, at)
    return opened
  }
  try {
    return await run(argv, open)
  } finally {
    await (await opened)?.close()
  }
}
const FILES = {
  'pipeline.yaml': 'schema_version: 1\nname: weekly\nsteps:\n  - name: orders\n',
  'orders.sql': 'select 1 as a\n',
}

describe('the command line alone', () => {
  it('[CLI3][CLI4][DELIVER7] a new colleague is told to sync, and then has the pipelines; runs are sent by a sync', async () => {
    const hers = folder('ada')
    const source = folder('source')
    for (const [name, text] of Object.entries(FILES)) writeFileSync(join(source, name), text)
    expect((await pluto(hers, ada.token, 'workspace', 'use', workspaceId)).exit).toBe(0)
    expect((await pluto(hers, ada.token, 'import', source)).exit).toBe(0)
    const waits = await pluto(hers, ada.token, 'status')
    expect(waits.out).toContain('Not syncing now: `pluto sync`')
    expect(waits.out).toMatch(/\d+ changes? waits?; (it is|they are) safe on this machine\./)
    expect(await pluto(hers, ada.token, 'sync')).toEqual({ exit: 0, out: 'In sync.', err: '' })

    const his = folder('bob')
    const signedIn = await session(his, bob.token)
    expect(await afterSignIn(signedIn)).toContain('`pluto sync` fetches your workspace')
    await signedIn.close()
    const empty = await pluto(his, bob.token, 'list')
    expect(empty.out).toContain('No pipeline here yet: `pluto sync` fetches your team’s')
    const missing = await pluto(his, bob.token, 'compile', 'weekly')
    expect(missing.exit).toBe(9)
    expect(missing.err).toContain('`pluto sync` fetches your team’s')
    expect(await pluto(his, bob.token, 'sync')).toMatchObject({ exit: 0, out: 'In sync.' })
    expect((await pluto(his, bob.token, 'list')).out).toContain('weekly')

    // Nobody is signed in: what the run has to send waits.
    const ran = JSON.parse((await pluto(his, undefined, 'run', 'weekly', '--yes', '--json')).out)
    expect(ran.state).toBe('success')
    const status = await pluto(his, undefined, 'status')
    expect(status.out).toContain('Signed out')
    expect(status.out).toContain('1 run has something to send.')
    const sent = await pluto(his, bob.token, 'sync')
    expect(sent.err).toBe('Sending logs, reports and records of 1 run…')
    expect(sent).toMatchObject({ exit: 0, out: 'In sync.\nSent what 1 run had to send.' })
    const { value } = await ada.client.call(runRoutes.read, { params: { run_id: ran.run_id } })
    expect(value.state).toBe('success')
    expect(await pluto(his, bob.token, 'sync')).toMatchObject({ out: 'In sync.', err: '' })
  })

  it('[DELIVER8] a storage that refuses everything is named by `pluto sync` and `pluto status`, with who can mend it', async () => {
    const storage = createServer((request, response) =>
      request.resume().on('end', () => response.writeHead(request.method === 'PUT' ? 403 : 404).end()),
    )
    await new Promise<void>(resolve => storage.listen(0, '127.0.0.1', resolve))
    const refusing = await TestServer.start({
      S3_ENDPOINT: `http://127.0.0.1:${(storage.address() as AddressInfo).port}`,
      S3_BUCKET: 'b',
      S3_ACCESS_KEY_ID: 'k',
      S3_SECRET_ACCESS_KEY: 'wrong',
      S3_FORCE_PATH_STYLE: 'true',
    })
    try {
      const { token, ...eve } = await refusing.person('eve')
      const workspace = await refusing.workspace({ token, ...eve })
      const [home, source] = [folder('eve'), folder('source')]
      for (const [name, text] of Object.entries({
        ...FILES,
        'pipeline.yaml': `${FILES['pipeline.yaml']}publish:\n  report: true\n`,
        'report.md': '# Orders\n',
      }))
        writeFileSync(join(source, name), text)
      for (const argv of [['workspace', 'use', workspace], ['import', source], ['sync']])
        expect(await plutoAt(refusing, home, token, ...argv)).toMatchObject({ exit: 0 })
      const ran = JSON.parse((await plutoAt(refusing, home, token, 'run', 'weekly', '--yes', '--json')).out)
      expect(ran.state).toBe('success')
      const synced = await plutoAt(refusing, home, token, 'sync')
      const why = 'The artifact storage refuses what it is sent, by fresh addresses too.'
      expect(synced.out).toContain(`Run ${ran.run_id} waits: ${why}`)
      const status = await plutoAt(refusing, home, token, 'status')
      expect(status.out).toContain(`1 run waits: ${why}`)
      expect(status.out).toContain('`pluto-server doctor`')
    } finally {
      await refusing.stop()
      storage.close()
      storage.closeAllConnections()
    }
  })

  it('[CLI3] whoever has no workspace is told to make one or to accept an invitation', async () => {
    const eve = await server.person('eve')
    const signedIn = await session(folder('eve'), eve.token)
    expect(await afterSignIn(signedIn)).toContain('pluto workspace create NAME')
    await signedIn.close()
  })
})
