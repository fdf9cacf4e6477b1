import { mkdtempSync, rmSync } from 'node:fs'
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
