import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { Account } from '../../src/host/account.ts'
import { Settings, State } from '../../src/state/index.ts'

let folder: string
let state: State
let kept: string | null
let locked: boolean

/** A keychain that somebody may have locked. */
const keychain = {
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
const open = () => Account.open(new Settings(state), keychain, systemClock, 'http://localhost:1')

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
