import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/app/index.ts'
import { Audit } from '../../src/audit/index.ts'
import { type OperatorParts, resetPassword, signOut } from '../../src/auth/operator.ts'
import { createDatabase, type ServerDatabase } from '../../src/database/index.ts'
import { runProgram } from '../program.ts'
import { type Reply, TestServer } from '../server.ts'

const secret = 'a secret of forty characters, for tests.'
const password = 'a long password'
let test: TestServer
let database: ServerDatabase
let parts: OperatorParts

const signUp = async (name: string): Promise<string> => {
  const body = { name, email: `${name}@example.org`, password }
  return (await test.call('POST', '/v1/auth/sign-up/email', { body })).body.token
}
const signIn = (name: string, given: string): Promise<Reply> =>
  test.call('POST', '/v1/auth/sign-in/email', { body: { email: `${name}@example.org`, password: given } })
const me = async (token: string, at: TestServer = test): Promise<number> =>
  (await at.call('GET', '/v1/me', { headers: { authorization: `Bearer ${token}` } })).status
/** The program, beside the server that runs. */
const run = async (...args: string[]) => {
  const running = runProgram([...args, '--json'], { DATABASE_URL: test.database.url, AUTH_SECRET: secret })
  const exit = await running.ended
  return { exit, err: running.err(), answer: exit === 0 ? JSON.parse(running.out()) : null }
}
/** What the audit of a workspace tells of accounts. */
const told = async (workspace: string): Promise<unknown[]> => {
  const { rows } = await test.sql.query(
    `select action, object_id, details from audit where workspace_id = $1 and action like 'account.%' order by seq`,
    [workspace],
  )
  return rows
}

beforeAll(async () => {
  test = await TestServer.start({ SIGNUP: 'open' })
  database = await createDatabase({ databaseUrl: test.database.url, dataDir: '' })
  parts = { db: database.db, audit: new Audit(systemClock), clock: systemClock }
})
afterAll(async () => {
  await database?.close()
  await test?.stop()
})

describe('accounts, by whoever runs the server', () => {
  it('[AUTH12][AUTH13] a new password ends the old one and its sessions; signing out ends sessions only', async () => {
    const [ann, bob] = [await signUp('ann'), await signUp('bob')]
    const owner = { id: '', email: 'ann@example.org', token: ann }
    const workspace = await test.workspace(owner, 'Ann’s')
    const { rows } = await test.sql.query(`select id from users where email = 'ann@example.org'`)
    const old = (await signIn('ann', password)).body.token

    await expect(resetPassword(parts, 'eve@example.org')).rejects.toMatchObject({ code: 'member.not_found' })
    const made = await run('reset-password', 'Ann@Example.org')
    expect(made, made.err).toMatchObject({ exit: 0, answer: { email: 'ann@example.org', sessions: 2 } })
    expect(await me(old)).toBe(401)
    expect((await signIn('ann', password)).body.code).toBe('auth.invalid_credentials')
    const anew = await signIn('ann', made.answer.password)
    expect(anew.status).toBe(200)
    const own = 'a password of her own'
    const changed = await test.call('POST', '/v1/auth/change-password', {
      headers: { authorization: `Bearer ${anew.body.token}` },
      body: { currentPassword: made.answer.password, newPassword: own },
    })
    expect([changed.status, (await signIn('ann', own)).status]).toEqual([200, 200])

    // Sessions of before stay out, those of others are not touched.
    const left = (await signIn('ann', own)).body.token
    expect(await signOut(parts, 'bob@example.org')).toEqual({ email: 'bob@example.org', sessions: 1 })
    expect([await me(bob), await me(left)]).toEqual([401, 200])
    const again = (await signIn('bob', password)).body.token
    const code = await test.call('POST', '/v1/auth/device/code', { body: { client_id: 'pluto' } })
    expect(code.status).toBe(200)
    expect((await run('sign-out', '--all')).answer).toMatchObject({ email: null })
    expect(await me(again)).toBe(401)
    const { rows: kept } = await test.sql.query('select id from sessions union select id from device_codes')
    expect(kept).toEqual([])
    expect(await told(workspace)).toEqual([
      { action: 'account.reset_password', object_id: rows[0].id, details: { sessions: 2 } },
      { action: 'account.sign_out', object_id: null, details: { sessions: expect.any(Number) } },
    ])
  })

  it('[AUTH14] another AUTH_SECRET ends no token of an app, but cookies of browsers', async () => {
    await signUp('cy')
    const signed = await signIn('cy', password)
    const cookie = signed.headers
      .getSetCookie()
      .map(each => each.split(';')[0])
      .join('; ')
    const other = await TestServer.start({ AUTH_SECRET: `another ${secret}` }, test.database)
    try {
      const byCookie = await other.call('GET', '/v1/me', { headers: { cookie } })
      expect([await me(signed.body.token, other), byCookie.status]).toEqual([200, 401])
      const here = await test.call('GET', '/v1/me', { headers: { cookie } })
      expect(here.status).toBe(200)
    } finally {
      await other.sql.end()
      await other.server.close()
    }
  })
})
