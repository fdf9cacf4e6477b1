import { execFile } from 'node:child_process'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { keepSecret, readConfig } from '../../src/config/index.ts'
import { program as file, runProgram, startProgram } from '../program.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'pluto-config-'))
})
afterAll(() => rm(dir, { recursive: true, force: true }))

const database = { DATABASE_URL: 'postgres://a:b@c/d', AUTH_SECRET: 'x'.repeat(32) }

describe('settings', () => {
  it('[CFG1] all have a default', () => {
    expect(readConfig({})).toMatchObject({
      host: '127.0.0.1',
      signup: 'invite',
      trustProxy: false,
      databaseUrl: null,
      authSecret: null,
      s3: null,
    })
    expect(readConfig({ PORT: '', S3_BUCKET: '' })).toEqual(readConfig({}))
  })

  it('[CFG2] a wrong one is refused with its name and what to do', () => {
    const wrong: [string, Record<string, string>][] = [
      ['PORT', { PORT: 'eighty' }],
      ['PORT', { PORT: '70000' }],
      ['PUBLIC_URL', { PUBLIC_URL: 'pluto.example.org' }],
      ['PUBLIC_URL', { PUBLIC_URL: 'https://example.org/pluto' }],
      ['TRUST_PROXY', { TRUST_PROXY: 'true' }],
      ['TRUST_PROXY', { TRUST_PROXY: 'my proxy!' }],
      ['DATABASE_URL', { ...database, DATABASE_URL: 'mysql://x' }],
      ['AUTH_SECRET', { AUTH_SECRET: 'short' }],
      ['AUTH_SECRET', { DATABASE_URL: database.DATABASE_URL }],
      ['SIGNUP', { SIGNUP: 'everybody' }],
      ['S3_ACCESS_KEY_ID', { S3_BUCKET: 'b' }],
      ['S3_BUCKET', { S3_ENDPOINT: 'http://s3' }],
      ['S3_BUCKET', { S3_PUBLIC_ENDPOINT: 'http://s3' }],
      ['S3_FORCE_PATH_STYLE', { S3_FORCE_PATH_STYLE: 'maybe' }],
      ['WORKSPACE_MAX_MB', { WORKSPACE_MAX_MB: 'lots' }],
      ['PUSH_QUEUE_MB', { PUSH_QUEUE_MB: '1' }],
      ['LOG_LEVEL', { LOG_LEVEL: 'chatty' }],
    ]
    for (const [setting, environment] of wrong) {
      expect(() => readConfig(environment), setting).toThrow(
        expect.objectContaining({
          code: 'config.invalid',
          message: expect.stringMatching(new RegExp(`^${setting} `)),
          details: { setting },
        }),
      )
    }
  })

  it('[CFG3] a kept secret is made once, whoever asks at the same time, and only its owner reads it', async () => {
    const secrets = await Promise.all(Array.from({ length: 8 }, () => keepSecret(dir, 'secret')))
    expect(new Set(secrets).size).toBe(1)
    expect(secrets[0]).toMatch(/^[0-9a-f]{64}$/)
    expect((await stat(join(dir, 'secret'))).mode & 0o777).toBe(0o600)
  })
})

describe('pluto-server', () => {
  it('[CFG4] ends with the exit code of its error and names the setting, without a stack', async () => {
    const program = runProgram(['start'], { PORT: 'eighty' })
    expect(await program.ended).toBe(2)
    expect(program.err()).toContain('config.invalid: PORT must be a number')
    expect(program.err()).not.toContain('    at ')
    const unknown = runProgram(['fly'], {})
    expect(await unknown.ended).toBe(2)
    const help = runProgram(['--help'], {})
    expect(await help.ended).toBe(0)
    expect(help.out()).toContain('DATABASE_URL')
  })

  it('[CFG5] says first where it listens, then the first owner’s link; SIGTERM ends it with 0', async () => {
    const program = await startProgram(['start'], { DATA_DIR: join(dir, 'server'), PORT: '0' })
    expect(program.out().split('\n')[0]).toMatch(/^listening http:\/\/127\.0\.0\.1:\d+/)
    expect((await fetch(`${program.url}/readyz`)).status).toBe(200)
    program.child.kill('SIGTERM')
    expect(await program.ended).toBe(0)
    expect(program.out()).toMatch(/\/join\?token=[\w-]{40,}/)
  })

  it('[CFG6] a taken port is named', async () => {
    const other = createServer()
    await new Promise<void>(resolve => other.listen(0, '127.0.0.1', resolve))
    const port = (other.address() as AddressInfo).port
    const program = runProgram(['start'], { DATA_DIR: join(dir, 'server'), PORT: String(port) })
    expect(await program.ended).toBe(2)
    expect(program.err()).toContain(`PORT: ${port} is taken`)
    other.close()
  })

  // Windows starts it by what npm makes of its first line.
  it.skipIf(process.platform === 'win32')(
    '[CFG7] its first line starts it with a small young generation',
    async () => {
      const flags = 'data:text/javascript,console.log(process.execArgv)'
      const env = { PATH: process.env.PATH, NODE_OPTIONS: `--import=${flags}` }
      const { stdout } = await promisify(execFile)(file, ['--help'], { env })
      expect(stdout).toContain('--max-semi-space-size=4')
      expect(stdout).toContain('DATABASE_URL')
    },
  )
})
