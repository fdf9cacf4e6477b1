import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { identityRoutes, type Role } from '@pluto-duck/crdt-model/protocol'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { InputOf, MethodName, OutputOf } from '../../src/contract/index.ts'
import { type Host, openHost } from '../../src/host/host.ts'
import { State } from '../../src/state/index.ts'
import { type Person, TestServer } from '../sync/server.ts'

let server: TestServer
let ada: Person
let bob: Person
const folders: string[] = []
const hosts: Host[] = []

beforeAll(async () => {
  server = await TestServer.start()
  ada = await server.person('ada')
  bob = await server.person('bob')
})
afterAll(async () => {
  for (const host of hosts) await host.close()
  await server.stop()
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

const hostOf = async (
  person: Person,
  folder = mkdtempSync(join(tmpdir(), 'pluto-leave-')),
  at = server,
): Promise<Host> => {
  if (!folders.includes(folder)) folders.push(folder)
  const host = await openHost({
    folder,
    server: at.server.url,
    token: person.token,
    log: pino({ level: 'silent' }),
  })
  hosts.push(host)
  return host
}
const call = async <M extends MethodName>(host: Host, method: M, input: InputOf<M>): Promise<OutputOf<M>> => {
  const handler = host.handlers[method] as (input: unknown, caller: unknown) => Promise<OutputOf<M>>
  return await handler(input, { viewId: 'test' })
}
/** Bob's host, with a new workspace of Ada's open, and its folder. */
const joined = async (role: Role = 'editor') => {
  const workspace = await server.workspace(ada)
  await server.join(workspace, ada, bob, role)
  const folder = mkdtempSync(join(tmpdir(), 'pluto-leave-'))
  const host = await hostOf(bob, folder)
  await call(host, 'workspace.list', {})
  await call(host, 'workspace.select', { workspace_id: workspace })
  return { workspace, folder, host }
}
const close = async (host: Host) => {
  hosts.splice(hosts.indexOf(host), 1)
  await host.close()
}
const files = (name: string, sql: string) => ({
  'pipeline.yaml': `schema_version: 1\nname: ${name}\nsteps:\n  - name: orders\n`,
  'orders.sql': sql,
})
const remove = async (workspace_id: string, by: Person, email: string) => {
  const { value } = await by.client.call(identityRoutes.listMembers, { params: { workspace_id } })
  const { user_id } = value.members.find(member => member.email === email) as { user_id: string }
  await by.client.call(identityRoutes.removeMember, { params: { workspace_id, user_id } })
}
const filesWith = (folder: string, text: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map(name => join(folder, name))
    .filter(path => statSync(path).isFile() && readFileSync(path).includes(text))
const names = async (host: Host) =>
  (await call(host, 'pipeline.list', {})).pipelines.map(one => one.name).sort()

it('[LEAVE1] who was removed keeps what was not sent as local drafts, and nothing else; and may come back', async () => {
  const { workspace, folder, host } = await joined()
  const theirs = 'what-is-only-of-that-workspace-5f2c'
  await call(host, 'pipeline.import', { files: files('sent', `select '${theirs}' as a\n`) })
  await call(host, 'pipeline.import', { files: files('edited', 'select 1 as a\n') })
  await call(host, 'sync.now', {})
  await call(host, 'sync.pause', { paused: true })
  await call(host, 'pipeline.import', { files: files('edited', 'select 2 as mine\n') })
  await call(host, 'pipeline.import', { files: files('unsent', 'select 3 as mine\n') })
  expect(await names(host)).toEqual(['edited', 'sent', 'unsent'])

  await remove(workspace, ada, bob.email)
  await call(host, 'sync.pause', { paused: false })
  expect((await call(host, 'workspace.list', {})).workspaces.map(one => one.workspace_id)).toContain(
    workspace,
  )
  expect(await names(host)).toEqual([])
  expect(await call(host, 'document.list', {})).toEqual({ documents: [] })
  const { drafts } = await call(host, 'local_draft.list', {})
  expect(drafts.map(draft => [draft.title, draft.code]).sort()).toEqual([
    ['edited', 'permission'],
    ['unsent', 'permission'],
  ])
  const texts = await Promise.all(
    drafts.map(
      async ({ draft_id }) => (await call(host, 'local_draft.export', { draft_id })).files['orders.sql'],
    ),
  )
  expect(texts.sort()).toEqual(['select 2 as mine\n', 'select 3 as mine\n'])
  expect((await call(host, 'sync.state', {})).state).toBe('needs_you')
  expect(filesWith(folder, theirs)).toEqual([])

  await server.join(workspace, ada, bob, 'editor')
  await call(host, 'workspace.list', {})
  await call(host, 'sync.now', {})
  expect(await names(host)).toEqual(['edited', 'sent'])
  for (const { draft_id } of drafts) await call(host, 'local_draft.discard', { draft_id })
  await remove(workspace, ada, bob.email)
  const { workspaces } = await call(host, 'workspace.list', {})
  expect(workspaces.map(one => one.workspace_id)).not.toContain(workspace)
})

it('[LEAVE2] a workspace that is gone for its owner stays on the owner’s machine', async () => {
  const { workspace, host } = await joined('owner')
  await call(host, 'pipeline.import', { files: files('ours', 'select 1 as a\n') })
  await call(host, 'sync.now', {})
  await remove(workspace, ada, bob.email)
  await call(host, 'workspace.list', {})
  expect(await names(host)).toEqual(['ours'])
  expect(await call(host, 'local_draft.list', {})).toEqual({ drafts: [] })
})

it('[LEAVE2] [LEAVE4] signed in at another server nothing is taken off, and each is synced with its own', async () => {
  const { workspace, folder, host: first } = await joined()
  await call(first, 'pipeline.import', { files: files('theirs', 'select 1 as a\n') })
  await call(first, 'sync.now', {})
  await close(first)

  const elsewhere = await TestServer.start()
  try {
    const carol = await elsewhere.person('carol')
    const other = await elsewhere.workspace(carol)
    const host = await hostOf(carol, folder, elsewhere)
    for (let round = 0; round < 2; round++) {
      const { workspaces } = await call(host, 'workspace.list', {})
      expect(workspaces.map(one => one.workspace_id)).toEqual(expect.arrayContaining([workspace, other]))
      expect((await call(host, 'sync.now', {})).state).toBe('signed_out')
    }
    await call(host, 'workspace.select', { workspace_id: other })
    expect((await call(host, 'sync.now', {})).state).toBe('in_sync')
    await call(host, 'workspace.select', { workspace_id: workspace })
    expect(await names(host)).toEqual(['theirs'])
    expect((await call(host, 'sync.state', {})).state).toBe('signed_out')
    expect(await call(host, 'local_draft.list', {})).toEqual({ drafts: [] })
    await close(host)
  } finally {
    await elsewhere.stop()
  }

  const back = await hostOf(bob, folder)
  await call(back, 'workspace.list', {})
  await call(back, 'workspace.select', { workspace_id: workspace })
  expect((await call(back, 'sync.now', {})).state).toBe('in_sync')
  expect(await names(back)).toEqual(['theirs'])
})

it('[LEAVE4] a token goes to its own server only', async () => {
  const tokens: (string | undefined)[] = []
  const asked = createServer((request, response) => {
    tokens.push(request.headers.authorization)
    response.writeHead(503).end()
  })
  await new Promise<void>(resolve => asked.listen(0, '127.0.0.1', resolve))
  const address = `http://127.0.0.1:${(asked.address() as AddressInfo).port}`
  const workspace = await server.workspace(bob)
  const host = await hostOf(bob)
  await call(host, 'workspace.list', {})
  await call(host, 'workspace.select', { workspace_id: workspace })
  await host.startBackground()
  await call(host, 'sync.now', {})
  await call(host, 'app.connect', { server: address })
  expect(['signed_out', 'local']).toContain((await call(host, 'sync.now', {})).state)
  await call(host, 'auth.start', { server: address }).catch(() => undefined)
  expect(tokens.length).toBeGreaterThan(0)
  expect(tokens.every(token => token === undefined)).toBe(true)
  asked.close()
})

it('[LEAVE3] unsent work that cannot be read stays, with its workspace, when the others go', async () => {
  const { workspace, folder, host: first } = await joined()
  await call(first, 'sync.pause', { paused: true })
  const made = await call(first, 'pipeline.import', { files: files('broken', 'select 1 as a\n') })
  if (made.state !== 'imported') throw new Error('not imported')
  await call(first, 'pipeline.import', { files: files('whole', 'select 2 as a\n') })
  await close(first)
  const state = await State.open(folder)
  const { pipeline_id } = made.pipeline
  await state.write(tx =>
    tx.run("update changes set bytes = encode('broken') where document_id = $1", pipeline_id),
  )
  await state.close()

  const host = await hostOf(bob, folder)
  await remove(workspace, ada, bob.email)
  await call(host, 'sync.pause', { paused: false })
  const listed = async () => (await call(host, 'workspace.list', {})).workspaces.map(one => one.workspace_id)
  expect(await listed()).toContain(workspace)
  expect(await names(host)).toEqual(['broken'])
  const { drafts } = await call(host, 'local_draft.list', {})
  expect(drafts.map(draft => draft.title)).toEqual(['whole'])
  for (const { draft_id } of drafts) await call(host, 'local_draft.discard', { draft_id })
  expect(await listed()).toContain(workspace)
  expect(await names(host)).toEqual(['broken'])
})
