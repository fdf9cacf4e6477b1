import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AppError } from '@pluto-duck/crdt-model/errors'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Account, type TokenStore } from '../../src/host/account.ts'
import { Settings, State } from '../../src/state/index.ts'

let folder: string
let state: State
let kept: string | null
let locked: boolean

/** A keychain that somebody may have locked. */
const keychain: TokenStore = {
  given: false,
  check: async () => {
    if (locked) throw new AppError('secret.unavailable', 'The keychain of this machine does not answer.')
  },
  get: async () => {
    if (locked) throw new Error('locked')
    return kept
  },
  set: async (token: string) => {
    if (locked) throw new Error('locked')
    kept = token
  },
  erase: async () => {
    if (locked) throw new Error('locked')
    kept = null
  },
}
const ONE = 'http://localhost:1'
const TWO = 'http://localhost:2'
const open = (server: string | null = ONE, tokens = keychain) =>
  Account.open(new Settings(state), tokens, systemClock, server)

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pluto-account-'))
  state = await State.open(folder)
  kept = null
  locked = false
})
afterEach(async () => {
  await state.close()
  rmSync(folder, { recursive: true, force: true })
})

describe('signing out', () => {
  it('[ACCT1] says so when the keychain keeps the token, and erases it at the next try', async () => {
    const account = await open()
    await account.signIn('a token')
    locked = true
    for (let i = 0; i < 2; i++)
      await expect(account.forget()).rejects.toMatchObject({ code: 'secret.unavailable' })
    expect([account.token, account.person]).toEqual([null, null])
    locked = false
    await account.forget()
    expect(kept).toBeNull()
    expect((await open()).token).toBeNull()
  })

  it('[ACCT1] without anything kept needs no keychain', async () => {
    const account = await open()
    locked = true
    await account.forget()
    await account.connect('http://localhost:2')
    expect(account.server).toBe('http://localhost:2')
  })
})

describe('a token of another server', () => {
  const ada = { id: 'a', name: 'Ada', email: 'ada@example.org' }
  beforeEach(async () => {
    const account = await open()
    await account.signIn('of one')
    await account.remember(ada)
  })

  it('[ACCT2] is not used and is erased, whoever names the other one; the same address keeps it', async () => {
    expect((await open(`${ONE}/`)).token).toBe('of one')
    const moved = await open(TWO)
    expect([moved.server, moved.token, moved.person, kept]).toEqual([TWO, null, null, null])
    const back = await open(ONE)
    expect([back.token, back.person]).toEqual([null, null])
  })

  it('[ACCT2] is not used either while the keychain does not erase it, and is erased when it does', async () => {
    locked = true
    expect((await open(TWO)).token).toBeNull()
    expect(kept).toBe('of one')
    locked = false
    const later = await open(null)
    expect([later.server, later.token, kept]).toEqual([TWO, null, null])
  })

  it('[ACCT2] is not used after a move in the program which the keychain did not follow', async () => {
    const account = await open()
    locked = true
    await expect(account.connect(TWO)).rejects.toMatchObject({ code: 'secret.unavailable' })
    locked = false
    expect([(await open(null)).token, kept]).toEqual([null, null])
  })

  it('[ACCT2] one that the keychain has for an unknown server is not used', async () => {
    await new Settings(state).set('server', null)
    expect([(await open(ONE)).token, kept]).toEqual([null, null])
  })

  it('[ACCT2] PLUTO_TOKEN is used for the address given with it, and leaves what is kept alone', async () => {
    const given: TokenStore = { ...keychain, given: true, get: async () => 'given' }
    const there = await open(TWO, given)
    expect([there.token, there.person, kept]).toEqual(['given', null, 'of one'])
    await there.forget()
    expect(kept).toBe('of one')
    expect([(await open(null)).token, kept]).toEqual([null, null])
  })
})

describe('a machine that could not keep a sign-in', () => {
  it('[ACCT4] says so before it begins, and how to get a token', async () => {
    const account = await open()
    locked = true
    await expect(account.start()).rejects.toMatchObject({
      code: 'secret.unavailable',
      hint: expect.stringMatching(/pluto login --print-token.*PLUTO_TOKEN/),
    })
  })
})

describe('a sign-in while the server is changed', () => {
  const servers: Server[] = []
  afterEach(() => {
    for (const server of servers.splice(0)) {
      server.close()
      server.closeAllConnections()
    }
  })
  /** A server where a code waits for its person for ever; `asked` has the paths that were asked for. */
  const waiting = async (whenAsked?: () => Promise<void>) => {
    const asked: string[] = []
    const server = createServer(async (request, response) => {
      asked.push(request.url ?? '')
      const begins = request.url?.endsWith('/code') === true
      if (!begins) await whenAsked?.()
      const code = { device_code: 'secret', user_code: 'ABCD', verification_uri: 'http://x', expires_in: 600 }
      response.writeHead(begins ? 200 : 400, { 'content-type': 'application/json' })
      response.end(JSON.stringify(begins ? { ...code, interval: 5 } : { error: 'authorization_pending' }))
    })
    servers.push(server)
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked }
  }
  const cancelled = (url: string) => ({
    code: 'auth.expired',
    message: expect.stringContaining(`The sign-in at ${url} is cancelled`),
  })

  it('[ACCT5] is cancelled, in words, and the other server never sees its code', async () => {
    const [one, two] = [await waiting(), await waiting()]
    const account = await open(one.url)
    const { device_code } = await account.start()
    expect(await account.poll(device_code)).toMatchObject({ state: 'pending' })
    await account.connect(two.url)
    await expect(account.poll(device_code)).rejects.toMatchObject(cancelled(one.url))
    expect(await account.poll(device_code)).toEqual({ state: 'expired' })
    expect([one.asked.length, two.asked]).toEqual([2, []])
    // There it begins anew.
    const again = await account.start()
    expect(await account.poll(again.device_code)).toMatchObject({ state: 'pending' })
  })

  it('[ACCT5] is cancelled as well when that happens while the server is asked', async () => {
    const two = await waiting()
    const one = await waiting(() => account.connect(two.url))
    const account = await open(one.url)
    const { device_code } = await account.start()
    await expect(account.poll(device_code)).rejects.toMatchObject(cancelled(one.url))
    expect(two.asked).toEqual([])
  })

  it('[ACCT5] a code that was not begun here is asked of nobody', async () => {
    const one = await waiting()
    const account = await open(one.url)
    expect(await account.poll('somebody else’s')).toEqual({ state: 'expired' })
    expect(one.asked).toEqual([])
  })
})
