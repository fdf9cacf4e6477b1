import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { available } from '@pluto-duck/test-fixtures/services'
import { describe, expect, it } from 'vitest'
import { openSecrets } from '../../src/secrets/index.ts'

const folder = () => mkdtempSync(join(tmpdir(), 'pluto-secrets-'))

describe.skipIf(!available('keychain'))('secrets in a real keychain', () => {
  it('[SEC1] a secret is kept, found, listed by name and erased', async () => {
    const at = folder()
    const secrets = await openSecrets({ folder: at, env: {} })
    expect(await secrets.get('WAREHOUSE')).toBeNull()
    await secrets.set('WAREHOUSE', 'postgres://u:p@h/db ✓')
    await secrets.set('session', 'not for people')
    const again = await openSecrets({ folder: at, env: {} })
    expect(await again.get('WAREHOUSE')).toBe('postgres://u:p@h/db ✓')
    expect(await again.list()).toEqual(['WAREHOUSE'])
    await again.remove('WAREHOUSE')
    await again.remove('WAREHOUSE')
    expect(await secrets.get('WAREHOUSE')).toBeNull()
  })

  it('[SEC2] each data folder has its own', async () => {
    const one = await openSecrets({ folder: folder(), env: {} })
    const other = await openSecrets({ folder: folder(), env: {} })
    await one.set('TOKEN', 'a')
    expect(await other.get('TOKEN')).toBeNull()
    expect(await other.list()).toEqual([])
  })
})

describe('secrets of an agent without a keychain', () => {
  it('[SEC3] PLUTO_SECRET_<NAME> is read first and never written', async () => {
    const env = { PLUTO_SECRET_API: 'from the environment' }
    const secrets = await openSecrets({ folder: folder(), env })
    expect(await secrets.get('API')).toBe('from the environment')
    expect(env).toEqual({ PLUTO_SECRET_API: 'from the environment' })
  })
})

describe.skipIf(available('keychain'))('secrets on a machine whose keychain does not answer', () => {
  it('[SEC4] storing one says so and what to do', async () => {
    const secrets = await openSecrets({ folder: folder(), env: {} })
    await expect(secrets.set('API', 'x')).rejects.toMatchObject({ code: 'secret.unavailable' })
  })
})
