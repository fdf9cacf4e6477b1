import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { identityRoutes } from '@pluto-duck/crdt-model/protocol'
import pg from 'pg'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Account, type TokenStore } from '../../src/host/account.ts'
import { pollDeviceFlow, startDeviceFlow } from '../../src/host/device-flow.ts'
import { Settings, State } from '../../src/state/index.ts'
import { WireClient } from '../../src/sync/index.ts'
import { type Person, TestServer } from '../sync/server.ts'

let server: TestServer
let ada: Person
let bob: Person
let folder: string
let state: State
let kept: string | null = null
const tokens: TokenStore = {
  given: false,
  get: async () => kept,
  check: async () => undefined,
  set: async token => {
    kept = token
  },
  erase: async () => {
    kept = null
  },
}

beforeAll(async () => {
  server = await TestServer.start()
  ada = await server.person('ada')
  bob = await server.person('bob')
  folder = mkdtempSync(join(tmpdir(), 'pluto-second-'))
  state = await State.open(folder)
})
afterAll(async () => {
  await state?.close()
  rmSync(folder, { recursive: true, force: true })
  await server?.stop()
})

/** What a person does in the browser with the code. */
const allow = async (who: Person, user_code: string): Promise<void> => {
  const at = `${server.server.url}/v1/auth/device`
  const authorization = `Bearer ${who.token}`
  await fetch(`${at}?user_code=${user_code}`, { headers: { authorization } })
  const approved = await fetch(`${at}/approve`, {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/json', origin: server.server.publicUrl },
    body: JSON.stringify({ userCode: user_code }),
  })
  expect(approved.status, await approved.text()).toBe(200)
}
const signInAs = async (account: Account, who: Person) => {
  const { user_code, device_code } = await account.start()
  await allow(who, user_code)
  return account.poll(device_code)
}
const sessionsOf = async (who: Person): Promise<number> => {
  const client = new pg.Client({ connectionString: server.database.url })
  await client.connect()
  const { rows } = await client.query(
    'select count(*)::int as n from sessions join users on users.id = user_id where email = $1',
    [who.email],
  )
  await client.end()
  return rows[0].n
}

it('[ACCT3] a data folder is one person’s: another one’s sign-in keeps nothing and says what to do', async () => {
  const settings = new Settings(state)
  const account = await Account.open(settings, tokens, systemClock, server.server.url)
  expect(await signInAs(account, ada)).toEqual({ state: 'signed_in' })
  const adas = account.token
  const refused = { code: 'auth.device_mismatch', hint: expect.stringContaining('PLUTO_HOME') }
  await expect(signInAs(account, bob)).rejects.toMatchObject(refused)
  expect([account.token, kept]).toEqual([adas, adas])

  await account.forget()
  await expect(signInAs(account, bob)).rejects.toMatchObject(refused)
  expect([account.token, kept]).toEqual([null, null])
  // Only the session that the test itself made for him.
  expect(await sessionsOf(bob)).toBe(1)
  expect(await signInAs(account, ada)).toEqual({ state: 'signed_in' })
})

it('[ACCT4] the flow by itself gives a token and keeps nothing', async () => {
  const before = kept
  const { url } = server.server
  const { user_code, device_code } = await startDeviceFlow(url, systemClock)
  await allow(bob, user_code)
  const answer = await pollDeviceFlow(url, device_code)
  if (answer.state !== 'granted') throw new Error(answer.state)
  const deviceId = await new Settings(state).deviceId()
  const wire = new WireClient({ server: url, deviceId, token: async () => answer.token })
  // His token, which is good everywhere but in Ada's folder.
  await expect(wire.call(identityRoutes.me, {})).rejects.toMatchObject({ code: 'auth.device_mismatch' })
  expect(kept).toBe(before)
  expect(await pollDeviceFlow(url, device_code)).toEqual({ state: 'expired' })
})
