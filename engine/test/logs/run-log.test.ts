import { execFileSync } from 'node:child_process'
import { promises as fs } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { logPath, privateLogPath, RunLog, readRunLog, SecretRedactor } from '../../src/logs/index.ts'
import type { RunEvent } from '../../src/run/index.ts'

let dataDir: string
beforeEach(async () => {
  dataDir = await fs.mkdtemp(path.join(os.tmpdir(), 'pluto-log-'))
})
afterEach(() => fs.rm(dataDir, { recursive: true, force: true }))

const SECRET = 'hunter2-Zürich/+"key'
const VALUE = '4111-1111-1111-1111'
const ts = '2026-01-31T13:00:00.000Z'
const open = (redactor?: SecretRedactor) =>
  new RunLog({ dataDir, run_id: 'r1', trace_id: 't1', project_id: 'w1', ...(redactor ? { redactor } : {}) })

const FAILED: RunEvent = {
  type: 'step',
  ts,
  run_id: 'r1',
  step_id: 's1',
  step: 'clean',
  state: 'failed',
  attempt: 2,
  error: { class: 'sql', message: `Could not convert ${VALUE}`, position: { offset: 7, line: 2, column: 3 } },
  private: `Conversion Error: Could not convert string '${VALUE}' to INT32, with ${SECRET}`,
}

it('[LOGF1] a line has exactly the agreed fields', async () => {
  const log = open()
  log.event(FAILED)
  log.close()
  expect(await readRunLog(dataDir, 'r1')).toEqual([
    {
      ts,
      level: 'error',
      run_id: 'r1',
      trace_id: 't1',
      project_id: 'w1',
      asset_id: 's1',
      step: 'clean',
      attempt: 2,
      cause: 'sql',
      message: 'Step failed: the SQL engine refused it at line 2, column 3.',
    },
  ])
})

it('[LOGF2] only class, step and template are in the log; the engine’s words are private', async () => {
  const log = open()
  log.event(FAILED)
  log.event({
    type: 'test',
    ts,
    run_id: 'r1',
    step_id: 's1',
    step: 'clean',
    test_id: 'x',
    test: 'custom',
    severity: 'error',
    state: 'error',
    duration_ms: 1,
    error: { class: 'sql', message: VALUE },
    private: VALUE,
  })
  log.event({
    type: 'run',
    ts,
    run_id: 'r1',
    state: 'failed',
    duration_ms: 5,
    error: { class: 'sql', message: VALUE },
  })
  log.close()
  expect(await fs.readFile(logPath(dataDir, 'r1'), 'utf8')).not.toContain(VALUE)
  expect(await fs.readFile(privateLogPath(dataDir, 'r1'), 'utf8')).toContain(VALUE)
  expect((await fs.stat(privateLogPath(dataDir, 'r1'))).mode & 0o077).toBe(0)
})

it('[LOGF3] a planted secret is in neither log, in whatever form it comes', async () => {
  const redactor = new SecretRedactor()
  redactor.register([SECRET, 'abc'])
  const log = open(redactor)
  log.event(FAILED)
  const forms = [
    SECRET,
    encodeURIComponent(SECRET),
    ...['', 'x', 'xy'].map(lead => Buffer.from(`${lead}${SECRET} and more`).toString('base64')),
  ]
  for (const form of forms) {
    log.write({
      ts,
      level: 'info',
      asset_id: null,
      step: null,
      attempt: null,
      cause: null,
      message: `abc ${form}`,
    })
  }
  log.close()
  const texts = [
    await fs.readFile(logPath(dataDir, 'r1'), 'utf8'),
    await fs.readFile(privateLogPath(dataDir, 'r1'), 'utf8'),
  ]
  for (const text of texts) {
    expect(text).toContain('[secret]')
    expect(text).not.toContain('hunter2')
    expect(text).not.toContain(encodeURIComponent(SECRET))
    expect(text).not.toContain(Buffer.from(SECRET).toString('base64').slice(4, 16))
  }
  expect(texts[0]?.match(/\[secret\]/g)).toHaveLength(forms.length)
  expect(texts[0]).toContain('abc [secret]')
})

it('[LOGF4] lines are only added, and half a line of a crash costs that line alone', async () => {
  const first = open()
  first.event(FAILED)
  first.close()
  await fs.appendFile(logPath(dataDir, 'r1'), '{"ts":"2026-01-31T13:00:01.000Z","lev')
  expect(await readRunLog(dataDir, 'r1')).toHaveLength(1)
  const second = open()
  second.event({ ...FAILED, state: 'running', error: undefined, private: undefined } as RunEvent)
  second.close()
  expect((await readRunLog(dataDir, 'r1')).map(line => line.message)).toEqual([
    'Step failed: the SQL engine refused it at line 2, column 3.',
    'Step running.',
  ])
  expect(await readRunLog(dataDir, 'other')).toEqual([])
  const text = await fs.readFile(logPath(dataDir, 'r1'), 'utf8')
  expect(
    text
      .trimEnd()
      .split('\n')
      .map(line => JSON.parse(line).message),
  ).toHaveLength(2)
})

it('[LOGF4] a line of which the disk took a part is taken back, and the next begins on its own', async context => {
  if (!mountSmall()) context.skip('it needs to mount a file system, as root on Linux')
  try {
    const log = open()
    const line = (message: string) => ({
      ts,
      level: 'info' as const,
      asset_id: null,
      step: null,
      attempt: null,
      cause: null,
      message,
    })
    log.write(line('first'))
    // More than is there, in one write.
    expect(() => log.write(line('x'.repeat(2 ** 20)))).toThrow('ENOSPC')
    log.write(line('last'))
    log.close()
    expect((await fs.readFile(logPath(dataDir, 'r1'), 'utf8')).trimEnd().split('\n')).toHaveLength(2)
    expect((await readRunLog(dataDir, 'r1')).map(one => one.message)).toEqual(['first', 'last'])
  } finally {
    execFileSync('umount', ['--lazy', dataDir])
  }
})

/** A disk of 256 KB over the data folder. False where it cannot be mounted. */
function mountSmall(): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', dataDir], { stdio: 'pipe' })
    return true
  } catch {
    // Not allowed in this container.
    return false
  }
}
