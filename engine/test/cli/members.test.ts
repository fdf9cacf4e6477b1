import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { identityRoutes } from '@pluto-duck/crdt-model/protocol'
import { pino } from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { connectLocal, type Session } from '../../src/cli/session.ts'
import { openHost } from '../../src/host/host.ts'
import { type Person, TestServer } from '../sync/server.ts'
import { run } from './run.ts'

let server: TestServer
let workspace: string
let ada: Person
let bob: Person
const folders: string[] = []
const sessions: Session[] = []

beforeAll(async () => {
  server = await TestServer.start()
  ada = await server.person('ada')
  bob = await server.person('bob')
  workspace = await server.workspace(ada)
  await server.join(workspace, ada, bob, 'viewer')
})
afterAll(async () => {
  for (const session of sessions) await session.close()
  await server?.stop()
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

/** Somebody's command line, on a data folder of their own. */
const cliOf = async ({ token }: Person) => {
  const folder = mkdtempSync(join(tmpdir(), 'pluto-members-'))
  folders.push(folder)
  const host = await openHost({ folder, server: server.server.url, token, log: pino({ level: 'silent' }) })
  const session = connectLocal(host)
  sessions.push(session)
  await session.value('workspace.list', {})
  await session.value('workspace.select', { workspace_id: workspace })
  return (...argv: string[]) => run(['workspace', ...argv], async () => session)
}

it('[MEM1][MEM2] an owner changes roles, removes people and withdraws invitations, by address', async () => {
  const adas = await cliOf(ada)
  const bobs = await cliOf(bob)
  const rolesNow = async () =>
    Object.fromEntries(
      JSON.parse((await adas('members', '--json')).out).map((m: { email: string; role: string }) => [
        m.email,
        m.role,
      ]),
    )

  expect(await adas('role', 'BOB@example.org', 'editor')).toMatchObject({
    exit: 0,
    out: 'bob <bob@example.org> is now editor.',
  })
  expect(await rolesNow()).toEqual({ 'ada@example.org': 'owner', 'bob@example.org': 'editor' })
  expect(await adas('role', bob.email, 'chief')).toMatchObject({ exit: 2 })
  expect(await adas('role', 'eve@example.org', 'viewer')).toMatchObject({
    exit: 9,
    err: expect.stringContaining('pluto workspace members'),
  })
  expect(await adas('role', ada.email, 'viewer')).toMatchObject({
    exit: 8,
    err: expect.stringContaining('workspace.last_owner'),
  })
  expect(await adas('remove', ada.email, '--yes')).toMatchObject({ exit: 8 })
  expect(await bobs('role', ada.email, 'viewer')).toMatchObject({
    exit: 6,
    err: expect.stringContaining('auth.forbidden'),
  })

  const link = (await adas('invite', 'cy@example.org', '--role', 'viewer')).out
  const open = JSON.parse((await adas('invitations', '--json')).out)
  expect(open).toEqual([expect.objectContaining({ email: 'cy@example.org', role: 'viewer' })])
  expect((await bobs('invitations')).exit).toBe(6)
  expect(await adas('withdraw', 'Cy@example.org')).toMatchObject({ exit: 0 })
  expect((await adas('invitations')).out).toBe('No open invitation.')
  const cy = await server.person('cy')
  const token = new URL(link).searchParams.get('token') ?? ''
  await expect(cy.client.call(identityRoutes.acceptInvitation, { body: { token } })).rejects.toMatchObject({
    code: 'invitation.not_found',
  })
  expect(await adas('withdraw', 'cy@example.org')).toMatchObject({ exit: 9 })

  expect(await adas('remove', bob.email)).toMatchObject({ exit: 2, err: expect.stringContaining('--yes') })
  expect(await rolesNow()).toHaveProperty([bob.email])
  const removed = await adas('remove', bob.email, '--yes', '--json')
  expect(JSON.parse(removed.out)).toMatchObject({ email: bob.email, role: 'editor' })
  expect(await rolesNow()).toEqual({ 'ada@example.org': 'owner' })
  expect((await bobs('members')).exit).toBe(9)
})
