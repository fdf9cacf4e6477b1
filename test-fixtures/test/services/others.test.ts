import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { available, launchChromium, testS3, underKeychain } from '../../src/services/index.ts'

const run = promisify(execFile)

describe.skipIf(!available('s3'))('S3 for tests', () => {
  it('[FIX3] starts once and is the same server for every asker', async () => {
    const [one, two] = await Promise.all([testS3(), testS3()])
    expect(one).toEqual(two)
    const forged = await fetch(`${one.endpoint}/bucket/key`, {
      headers: { authorization: `AWS ${one.accessKeyId}:forged`, 'x-amz-date': new Date().toUTCString() },
    })
    expect(forged.status).toBe(403)
    expect(await forged.text()).toContain('SignatureDoesNotMatch')
  })
})

describe.skipIf(!available('chromium'))('Chromium for tests', () => {
  it('[FIX5] starts with empty user data and runs a page', async () => {
    const browser = await launchChromium({ colorScheme: 'dark' })
    try {
      const page = await browser.context.newPage()
      await page.setContent('<p>duck</p>')
      expect(await page.textContent('p')).toBe('duck')
      expect(await page.evaluate(`matchMedia('(prefers-color-scheme: dark)').matches`)).toBe(true)
    } finally {
      await browser.close()
    }
  })
})

describe.skipIf(!available('keychain'))('a keychain for tests', () => {
  it('[FIX6] two state folders are two keychains, and each keeps its secrets', async () => {
    const home = await mkdtemp(join(tmpdir(), 'pluto-keychain-'))
    const keytar = (folder: string, expression: string) => {
      const wrapped = underKeychain(join(home, folder), [
        process.execPath,
        '-e',
        `require('keytar').${expression}.then(value => process.stdout.write(String(value)))`,
      ])
      if ('missing' in wrapped) throw new Error(wrapped.missing)
      const [file, ...args] = wrapped.command
      return run(file, args)
    }
    await keytar('one', `setPassword('test', 'me', 'secret')`)
    expect((await keytar('one', `getPassword('test', 'me')`)).stdout).toBe('secret')
    expect((await keytar('two', `getPassword('test', 'me')`)).stdout).toBe('null')
    await rm(home, { recursive: true, force: true })
  })
})
