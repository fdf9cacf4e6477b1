import { newId } from '@pluto-duck/crdt-model/protocol'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { TestServer } from '../server.ts'

const password = 'a long password'
const json = { 'content-type': 'application/json' }

const signUp = (test: TestServer, name: string, more: Record<string, unknown> = {}) =>
  test.call('POST', '/v1/auth/sign-up/email', {
    body: { name, email: `${name}@example.org`, password, ...more },
  })
const signIn = (test: TestServer, name: string, given = password, headers: Record<string, string> = {}) =>
  test.call('POST', '/v1/auth/sign-in/email', {
    body: { email: `${name}@example.org`, password: given },
    headers,
  })
const tokenOf = (link: string | null): string => new URL(link ?? '').searchParams.get('token') ?? ''
const me = (test: TestServer, token: string) =>
  test.call('GET', '/v1/me', { headers: { authorization: `Bearer ${token}` } })

describe('signing up', () => {
  let test: TestServer
  beforeAll(async () => {
    test = await TestServer.start()
  })
  afterAll(() => test?.stop())

  it('[AUTH1] without accounts there is one link, by which the first owner signs up once', async () => {
    const link = test.server.ownerLink
    const invitation_token = tokenOf(link)
    expect(await signUp(test, 'ann')).toMatchObject({ status: 403, body: { code: 'auth.signup_closed' } })
    const weak = await signUp(test, 'ann', { invitation_token, password: 'short' })
    expect(weak).toMatchObject({ status: 400, body: { code: 'request.invalid' } })
    const both = await Promise.all([
      signUp(test, 'ann', { invitation_token }),
      signUp(test, 'eve', { invitation_token }),
    ])
    expect(both.map(reply => reply.status).toSorted()).toEqual([200, 410])
    expect(await signUp(test, 'mallory', { invitation_token })).toMatchObject({
      status: 410,
      body: { code: 'invitation.expired' },
    })
    const { rows } = await test.sql.query('select token_hash from invitations')
    expect(rows.every(row => !row.token_hash.toString('utf8').includes(invitation_token))).toBe(true)
  })

  it('[AUTH2] an invitation lets exactly its address in, with its role, once', async () => {
    const owner = await test.person('owner')
    const workspace = await test.workspace(owner)
    const invite = (email: string, role = 'editor') =>
      test.call('POST', `/v1/workspaces/${workspace}/invitations`, {
        as: owner,
        body: { invitation_id: newId(), email, role },
      })
    const { token, url } = (await invite('bob@example.org')).body
    expect(url).toBe(`${test.server.publicUrl}/join?token=${token}`)
    expect((await signUp(test, 'carl', { invitation_token: token })).body.code).toBe('auth.forbidden')
    const joined = await signUp(test, 'bob', { invitation_token: token })
    expect(joined.status).toBe(200)
    expect((await me(test, joined.body.token)).body).toMatchObject({
      user: { email: 'bob@example.org' },
      workspaces: [{ workspace_id: workspace, role: 'editor' }],
    })
    const again = await test.call('POST', '/v1/invitations/accept', { as: owner, body: { token } })
    expect(again.body.code).toBe('invitation.expired')
  })

  it('[AUTH15] where sign-up is not open there is neither the page nor a way to it', async () => {
    const page = await test.call('GET', '/sign-up')
    expect(page.status).toBe(403)
    expect(page.body).toContain('invitation')
    expect((await test.call('GET', '/device')).body).not.toContain('/sign-up')
    const posted = await fetch(`${test.server.url}/sign-up`, {
      method: 'POST',
      headers: { origin: test.server.publicUrl, 'content-type': 'application/x-www-form-urlencoded' },
      body: new URLSearchParams({ name: 'Fay', email: 'fay@example.org', password }).toString(),
    })
    expect(posted.status).toBe(403)
    const { rows } = await test.sql.query('select 1 from users where email = $1', ['fay@example.org'])
    expect(rows).toEqual([])
  })

  it('[AUTH3] SIGNUP=open needs no invitation; closed lets nobody in but the first owner', async () => {
    const open = await TestServer.start({ SIGNUP: 'open' })
    expect((await signUp(open, 'dora')).status).toBe(200)
    expect((await signUp(open, 'dora')).status).toBe(400)
    await open.stop()
    const closed = await TestServer.start({ SIGNUP: 'closed' })
    expect((await signUp(closed, 'dora')).body.code).toBe('auth.signup_closed')
    const first = await signUp(closed, 'dora', { invitation_token: tokenOf(closed.server.ownerLink) })
    expect(first.status).toBe(200)
    await closed.stop()
  })
})

describe('sessions', () => {
  let test: TestServer
  beforeAll(async () => {
    test = await TestServer.start({ SIGNUP: 'open', TRUST_PROXY: '1' })
    await signUp(test, 'ann')
  })
  afterAll(() => test?.stop())

  it('[AUTH4] a wrong password and an unknown address are answered alike', async () => {
    const wrong = await signIn(test, 'ann', 'not the password')
    const unknown = await signIn(test, 'nobody')
    expect(wrong).toMatchObject({ status: 401, body: { code: 'auth.invalid_credentials' } })
    const { request_id: _, ...one } = wrong.body
    const { request_id: __, ...two } = unknown.body
    expect(one).toEqual(two)
  })

  it('[AUTH5] signing out ends the session at once, and only that one', async () => {
    const [one, two] = [(await signIn(test, 'ann')).body.token, (await signIn(test, 'ann')).body.token]
    expect((await me(test, one)).status).toBe(200)
    const out = await test.call('POST', '/v1/me/sign-out', { headers: { authorization: `Bearer ${one}` } })
    expect(out.body).toEqual({ ok: true })
    expect(await me(test, one)).toMatchObject({ status: 401, body: { code: 'auth.expired' } })
    expect((await me(test, two)).status).toBe(200)
  })

  it('[AUTH6] attempts are limited for each client address as the proxy tells it, and the answer says when to come back', async () => {
    const from = (address: string) => ({ 'x-forwarded-for': address, 'x-pluto-client-address': '9.9.9.9' })
    const tries = []
    for (let i = 0; i < 12; i++) tries.push(await signIn(test, 'ann', 'wrong', from('198.51.100.1')))
    const last = tries.at(-1)
    expect(last).toMatchObject({ status: 429, body: { code: 'request.rate_limited' } })
    expect(Number(last?.headers.get('retry-after'))).toBeGreaterThan(0)
    expect((await signIn(test, 'ann', password, from('198.51.100.2'))).status).toBe(200)
  })

  it('[AUTH7] a device signs in by a code that a person allows on the server’s page', async () => {
    const code = await test.call('POST', '/v1/auth/device/code', { body: { client_id: 'pluto-cli' } })
    expect(code.body.verification_uri).toBe(`${test.server.publicUrl}/device`)
    const poll = () =>
      test.call('POST', '/v1/auth/device/token', {
        body: {
          grant_type: 'urn:ietf:params:oauth:grant-type:device_code',
          device_code: code.body.device_code,
          client_id: 'pluto-cli',
        },
      })
    expect(await poll()).toMatchObject({ status: 400, body: { error: 'authorization_pending' } })
    expect(await poll()).toMatchObject({ status: 400, body: { error: 'slow_down' } })

    const origin = test.server.publicUrl
    const form = (body: Record<string, string>, cookie = '') =>
      fetch(`${test.server.url}/device`, {
        method: 'POST',
        redirect: 'manual',
        headers: { origin, cookie, 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ user_code: code.body.user_code, ...body }).toString(),
      })
    const page = await test.call('GET', `/device?user_code=${code.body.user_code}`)
    expect(page.body).toContain('Sign in')
    const bad = await form({ action: 'sign-in', email: 'ann@example.org', password: 'wrong wrong' })
    expect(bad.status).toBe(401)
    const signed = await form({ action: 'sign-in', email: 'ann@example.org', password })
    expect(signed.status).toBe(303)
    const cookie = signed.headers
      .getSetCookie()
      .map(each => each.split(';')[0])
      .join('; ')
    const approve = await fetch(test.server.url + signed.headers.get('location'), { headers: { cookie } })
    expect(await approve.text()).toContain('ann@example.org')
    expect((await form({ action: 'approve' })).status).toBeGreaterThanOrEqual(400)
    const done = await form({ action: 'approve' }, cookie)
    expect(await done.text()).toContain('signed in')
    await new Promise(resolve => setTimeout(resolve, 5_100))
    const got = await poll()
    expect(got).toMatchObject({ status: 200, body: { token_type: 'Bearer' } })
    expect((await me(test, got.body.access_token)).body.user.email).toBe('ann@example.org')
    expect(await poll()).toMatchObject({ status: 400, body: { error: 'invalid_grant' } })
  })

  it('[AUTH15] who has no account makes one on the page that the code leads to, and goes on with the code', async () => {
    const code = await test.call('POST', '/v1/auth/device/code', { body: { client_id: 'pluto' } })
    const { user_code } = code.body
    const page = await test.call('GET', `/device?user_code=${user_code}`)
    expect(page.body).toContain(`href="/sign-up?user_code=${user_code}"`)
    const form = await test.call('GET', `/sign-up?user_code=${user_code}`)
    expect(form.body).toContain('Make my account')

    const post = (body: Record<string, string>, origin = test.server.publicUrl) =>
      fetch(`${test.server.url}/sign-up`, {
        method: 'POST',
        redirect: 'manual',
        headers: { origin, 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ user_code, name: 'Fay', email: 'fay@example.org', ...body }).toString(),
      })
    expect((await post({ password }, 'https://elsewhere.example.org')).status).toBe(403)
    const weak = await post({ password: 'short', name: '<Fay>' })
    expect(weak.status).toBe(400)
    const again = await weak.text()
    expect(again).toContain('must have 10 characters')
    expect(again).toContain('&lt;Fay&gt;')
    expect((await post({ password, email: 'ann@example.org' })).status).toBe(400)

    const made = await post({ password })
    expect(made.status).toBe(303)
    const location = made.headers.get('location')
    expect(location).toBe(`/device?user_code=${user_code}`)
    const cookie = made.headers
      .getSetCookie()
      .map(each => each.split(';')[0])
      .join('; ')
    const approve = await fetch(test.server.url + location, { headers: { cookie } })
    expect(await approve.text()).toContain('Allow this device?')
    expect((await signIn(test, 'fay')).status).toBe(200)
    // By itself it ends with what to do next.
    const alone = await post({ user_code: '', password, email: 'gus@example.org' })
    expect(await alone.text()).toContain('pluto login')
  })

  it('[AUTH8] a device id belongs to who showed it first', async () => {
    const [ann, bob] = [await test.person('ann2'), await test.person('bob2')]
    const device = newId()
    const as = (who: typeof ann) =>
      test.call('GET', '/v1/me', { as: who, headers: { 'x-pluto-device': device } })
    expect((await as(ann)).status).toBe(200)
    expect(await as(bob)).toMatchObject({ status: 403, body: { code: 'auth.device_mismatch' } })
    expect((await as(ann)).status).toBe(200)
  })

  it('[AUTH9] the page of a link escapes what it is given', async () => {
    const page = await test.call('GET', `/device?user_code=${encodeURIComponent('"><script>x</script>')}`)
    expect(page.body).not.toContain('<script>')
    const join = await test.call('GET', `/join?token=${encodeURIComponent('<script>')}`)
    expect(join.status).toBe(404)
    expect(join.body).not.toContain('<script>')
  })

  it('[AUTH10] a session that another server ended is over within 15 seconds, and a stream with it within 30', async () => {
    const ann = await test.person('ann3')
    const workspace = await test.workspace(ann)
    const stream = await fetch(`${test.server.url}/v1/workspaces/${workspace}/events`, {
      headers: { authorization: `Bearer ${ann.token}`, 'x-pluto-device': newId() },
    })
    expect(stream.status).toBe(200)
    const started = Date.now()
    await test.sql.query('delete from sessions where user_id = $1', [ann.id])
    const reader = stream.body?.getReader()
    while (reader && !(await reader.read()).done) {
      // Heartbeats may come until it ends.
    }
    expect(Date.now() - started).toBeLessThan(30_000)
    expect((await me(test, ann.token)).status).toBe(401)
  })

  it('[AUTH11] sends nothing to anybody: telemetry is off and json errors are ours', async () => {
    const broken = await fetch(`${test.server.url}/v1/auth/sign-in/email`, {
      method: 'POST',
      headers: json,
      body: '{',
    })
    expect(await broken.json()).toMatchObject({ code: 'request.invalid' })
  })
})
