import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { hostLog } from '../../src/host/host-log.ts'

/** Every write into it says that the disk is full. */
const FULL = '/dev/full'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'pluto-host-log-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

describe.skipIf(!existsSync(FULL))('on a full disk', () => {
  it('[RUN19] lines of the host’s log are lost, and nothing else', async () => {
    symlinkSync(FULL, join(folder, 'host.log'))
    const log = hostLog(folder)
    // A write that fails and nobody hears of ends the process, and so this test.
    for (let i = 0; i < 3; i++) {
      log.info({ i }, 'a line')
      await sleep(20)
    }
  })
})

it('[RUN19] a host’s log that cannot be opened keeps no host from starting', () => {
  mkdirSync(join(folder, 'host.log'))
  expect(() => hostLog(folder).info('a line')).not.toThrow()
})
